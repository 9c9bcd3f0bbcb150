"""Conversations become preference pairs: which turns, on which side of the split, and none twice."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, repeat
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from socratic_rl.core.component import Component, Count, Real
from socratic_rl.core.dialogue import Conversation, PreferencePair, Problem, Turn, TurnKey, seed_from
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Generator
from socratic_rl.core.records import RecordWriter
from socratic_rl.measures import replies
from socratic_rl.pairs.cases import Case, Pool, Rejection

Split = Literal["train", "validation", "test"]


Share = Annotated[Real, Field(ge=0, lt=1)]


def _told_once(turns: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(turns)
    except ValidationError as error:
        # pydantic tells of the words and of the number apart
        raise ValueError(f"must be rows, all, or a number from 1 on (got {turns!r})") from error


WhichTurns = Annotated[Literal["rows", "all"] | Count, WrapValidator(_told_once)]
"""Which teacher turns of seed rows become pairs."""


class Pairing(Component):
    """Which teacher turns are chosen, and how the problems are split."""

    splits: Count | None
    """At most so many turns of a conversation, evenly spaced from the first to the last; None is all."""
    must_ask: bool
    """Only turns that ask the student something."""
    skip_acts: tuple[str, ...]
    """No turns that are labelled with nothing but these dialogue acts; a turn without a label may be chosen."""
    validation: Share
    """The share of problems held back to choose settings by."""
    test: Share
    """The share of problems held back to evaluate on."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation and test are {self.validation + self.test:g} together; must be less than 1")
        return self

    def turns(self, conversation: Conversation) -> list[int]:
        """The indices of a conversation's turns that are chosen; none where it was not accepted."""
        return [number for number, why in self.passed_over(conversation).items() if why is None]

    def passed_over(self, conversation: Conversation) -> dict[int, str | None]:
        """Why each teacher turn is not chosen, by its index in the conversation's turns; None where it is.

        Where a person gave a worse turn, only turns with one are chosen: the others are not known to be good.
        """
        marked = any(turn.worse for turn in conversation.turns)
        reasons = {
            number: self._why_not(turn, marked) if number else "before the student speaks"
            for number, turn in enumerate(conversation.turns)
            if turn.speaker == "teacher"
        }
        if not conversation.accepted:
            return dict.fromkeys(reasons, "conversation not accepted")
        fit = [number for number, why in reasons.items() if why is None]
        chosen = fit if self.splits is None else evenly(fit, self.splits)
        return reasons | dict.fromkeys(set(fit) - set(chosen), f"more than {self.splits} of a conversation")

    def _why_not(self, turn: Turn, marked: bool) -> str | None:
        if marked and not turn.worse:
            return "not marked as better"
        if turn.act and set(self.skip_acts).issuperset(turn.act.split("+")):
            return f"act {turn.act} skipped"
        return "does not ask" if self.must_ask and not replies.asks_question(turn.text) else None

    def split_of(self, problem_id: str) -> Split:
        """The side of a problem."""
        return split_of(problem_id, self.validation, self.test)

    def places(self, conversations: Sequence[Conversation]) -> "Places":
        """The chosen turns of all these conversations; only accepted ones have some."""
        places = Places(conversations)
        for number, conversation in enumerate(conversations):
            reasons = self.passed_over(conversation)
            places.add(number, [turn for turn, why in reasons.items() if why is None])
            places.passed_over.update(filter(None, reasons.values()))
        return places


class Places(Sequence[tuple[Conversation, int]]):
    """Turns of conversations, in their order: each as its conversation and its index there; 8 bytes of memory each.

    Args:
        conversations: Where the turns are; they may be read from a file when they are asked for.
    """

    def __init__(self, conversations: Sequence[Conversation]) -> None:
        self._conversations = conversations
        self._numbers = array("I")
        self._turns = array("I")
        self.passed_over: Counter[str] = Counter()
        """How many other teacher turns there are, by why they were not chosen."""

    def add(self, number: int, turns: Sequence[int]) -> None:
        """Some turns of the conversation with that number; conversations come in order."""
        self._numbers.extend(repeat(number, len(turns)))
        self._turns.extend(turns)

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, index: int) -> tuple[Conversation, int]:  # type: ignore[override]
        return self._conversations[self._numbers[index]], self._turns[index]

    def __iter__(self) -> Iterator[tuple[Conversation, int]]:
        conversations = enumerate(self._conversations)
        at = -1
        for number, turn in zip(self._numbers, self._turns, strict=True):
            while at < number:
                at, conversation = next(conversations)
            yield conversation, turn


def pairs_at(
    chosen: Sequence[tuple[Conversation, int]],
    split_of: Callable[[str], Split],
    problems: Mapping[str, Problem],
    rejection: Rejection,
    generator: Generator | None,
    seed: int,
    done: Collection[TurnKey] | RecordWriter[PreferencePair] = (),
) -> Iterator[PreferencePair]:
    """A pair for each of these turns that has a worse one, in their order.

    What is drawn for a turn depends on the seed, its conversation's id, its number and the pool of turns alone. Turns
    go to the rejection in groups that do not depend on what is done, so that a run that was killed and goes on gives
    the same pairs as one that was not.

    Args:
        chosen: Conversations and the indices of their chosen turns.
        split_of: The side of a problem, by its id.
        problems: By id.
        rejection: Gives the worse turns.
        generator: What writes text, where the rejection needs it.
        seed: Everything that is drawn comes from it.
        done: The pairs that were yielded before, as conversation id and ``PreferencePair.turn``.

    Raises:
        UserError: A conversation's problem is missing, or the rejection's generator is missing or fails.
    """
    # a turn about a held-out problem must not be trained on, not even as a rejected one
    pools = Pool.by_side(chosen, split_of)
    # pairs come in order, so that what lies before the last one has had its turn, with or without a pair
    first = (
        max((n + 1 for n, (conversation, turn) in enumerate(chosen) if conversation.turn_key(turn) in done), default=0)
        if len(done)
        else 0
    )
    size = 4 * (generator.width if generator else 1)
    start = first - first % size
    rest = islice(chosen, start, None)
    while group := list(islice(rest, size)):
        cases = [
            _case(problems, *teacher_turn, pools[split_of(teacher_turn[0].problem_id)], seed) for teacher_turn in group
        ]
        for number, (case, rejected) in enumerate(zip(cases, rejection.reject(cases, generator), strict=True), start):
            if number < first or rejected is None or case.repeats_chosen(rejected.text):
                continue
            conversation_id, turn = case.conversation.turn_key(case.turn)
            yield PreferencePair.of(
                case.before,
                case.chosen.text,
                rejected.text,
                conversation_id=conversation_id,
                problem_id=case.problem.id,
                turn=turn,
                rejection=rejected.kind,
                split=split_of(case.problem.id),
            )
        start += size


@lru_cache(maxsize=1 << 10)
def split_of(problem_id: str, validation: float, test: float) -> Split:
    """The side of a problem: by a hash of its id alone, so that it stays there when other problems come or go."""
    share = int.from_bytes(hashlib.sha256(f"split {problem_id}".encode()).digest()[:8]) / 2**64
    if share < test:
        return "test"
    return "validation" if share < test + validation else "train"


def _case(problems: Mapping[str, Problem], conversation: Conversation, turn: int, pool: Pool, seed: int) -> Case:
    problem = problems.get(conversation.problem_id)
    if problem is None:
        raise UserError(
            f"conversation {conversation.id}: its problem {conversation.problem_id!r} is not among the problems"
        )
    draw = seed_from(seed, conversation.id, turn)
    return Case(problem, conversation, turn, pool, seed=draw)


def evenly(places: Sequence[int], count: int) -> list[int]:
    """So many of the places, evenly spaced from the first to the last."""
    if count >= len(places):
        return list(places)
    if count == 1:
        return [places[0]]
    # whole numbers, rounded half up
    return [places[(2 * n * (len(places) - 1) + count - 1) // (2 * (count - 1))] for n in range(count)]
