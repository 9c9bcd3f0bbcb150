"""The rejected side of a pair: a teacher turn that is worse than the chosen one at the same place."""

import random
from abc import abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Self

from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Conversation, Problem, Turn, text_id
from socratic_rl.core.generator import Generator
from socratic_rl.measures import replies
from socratic_rl.notation import answers


class Pool:
    """The teacher turns that may be chosen, of all conversations, by length; 8 bytes of memory each.

    What is drawn from it has the same distribution of lengths and first words as the chosen turns have.

    Args:
        places: The turns, as conversations and the turns' indices.
        lengths: The turns' words, in ascending order.
        order: The turns' numbers in ``places``, in the order of the lengths.
    """

    def __init__(
        self, places: Sequence[tuple[Conversation, int]], lengths: Iterable[int], order: Iterable[int]
    ) -> None:
        self._places = places
        self._lengths = array("I", lengths)
        self._order = array("I", order)

    @classmethod
    def by_side(cls, places: Sequence[tuple[Conversation, int]], side_of: Callable[[str], str]) -> dict[str, Self]:
        """A pool for every side of the split; turns of one length stand in the order of their conversations' ids.

        Args:
            places: As above.
            side_of: The side of a problem, by its id.
        """
        import numpy as np

        lengths, turns, talks, sides = array("I"), array("I"), array("I"), array("B")
        ids: list[str] = []
        numbered: dict[str, int] = {}
        for conversation, turn in places:
            if not ids or ids[-1] != conversation.id:
                ids.append(conversation.id)
            lengths.append(replies.word_count(conversation.turns[turn].text))
            turns.append(turn)
            talks.append(len(ids) - 1)
            sides.append(numbered.setdefault(side_of(conversation.problem_id), len(numbered)))
        _, ranks = np.unique(np.array(ids, dtype=np.dtypes.StringDType()), return_inverse=True)
        order = np.lexsort((np.asarray(turns), ranks[talks], np.asarray(lengths)))
        sides_in_order = np.asarray(sides)[order]
        pools = {}
        for side, number in numbered.items():
            chosen = order[sides_in_order == number]
            pools[side] = cls(places, np.asarray(lengths)[chosen], chosen)
        return pools

    def draw(self, length: int, rng: random.Random) -> Iterator[tuple[Conversation, int]]:
        """Turns of about so many words, drawn with replacement without end; nothing where there are none."""
        low = bisect_left(self._lengths, length * 0.8 - 1)
        high = bisect_right(self._lengths, length * 1.25 + 1)
        while low < high:
            yield self._places[self._order[rng.randrange(low, high)]]


@dataclass(frozen=True)
class Case:
    """A chosen teacher turn to which a worse one is wanted."""

    problem: Problem
    conversation: Conversation
    turn: int
    """The index of the chosen turn in the conversation's turns."""
    others: Pool
    seed: int

    @property
    def chosen(self) -> Turn:
        """The chosen turn."""
        return self.conversation.turns[self.turn]

    @property
    def before(self) -> tuple[Turn, ...]:
        """The dialogue up to the chosen turn, the statement of the problem first."""
        return self.conversation.turns[: self.turn]

    @cached_property
    def stated(self) -> frozenset[Fraction]:
        """The numbers that the dialogue has stated so far."""
        return frozenset(value for turn in self.before for value in answers.values(turn.text))

    @cached_property
    def step(self) -> int | None:
        """Which worked step the chosen turn asks for; None where it is no step's question."""
        asked = text_id(self.chosen.text)
        steps = enumerate(self.problem.steps)
        return next((n for n, step in steps if step.question and text_id(step.question) == asked), None)

    def rng(self, kind: str) -> random.Random:
        """What this kind of rejection draws from here."""
        return random.Random(f"{kind} {self.seed}")

    def repeats_chosen(self, text: str) -> bool:
        """Whether a text says the same as the chosen turn."""
        return replies.repeats_turn(text, [self.chosen.text])


@dataclass(frozen=True)
class Rejected:
    """A worse teacher turn."""

    kind: str
    text: str


class Rejection(Component):
    """A kind of worse teacher turn."""

    @abstractmethod
    def reject(self, cases: Sequence[Case], generator: Generator | None) -> list[Rejected | None]:
        """For every case a worse turn, or None where this kind has nothing to say.

        Args:
            cases: The chosen turns.
            generator: What writes text, where a kind needs it.

        Raises:
            UserError: A generator is needed and there is none, or it fails.
        """

    def against_shortcut(self, kinds: Sequence[str]) -> str:  # noqa: ARG002
        """What to try where a trivial rule tells these kinds from the chosen turns."""
        return "rejection=mixed"


class Simple(Rejection):
    """A kind that needs no generator and looks at one turn after the other."""

    kind: ClassVar[str]

    @abstractmethod
    def worse(self, case: Case) -> str | None:
        """The worse turn, or None where there is none."""

    def reject(self, cases: Sequence[Case], generator: Generator | None) -> list[Rejected | None]:  # noqa: ARG002
        """For every case a worse turn, or None where this kind has nothing to say."""
        texts = map(self.worse, cases)
        return [Rejected(self.kind, text) if text and text.strip() else None for text in texts]
