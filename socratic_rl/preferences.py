"""Conversations become preference pairs: which turns, on which side of the split, and none twice."""

import hashlib
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from socratic_rl import metrics
from socratic_rl.config import Component
from socratic_rl.dialogue import Conversation, PreferencePair, Problem, text_id
from socratic_rl.errors import UserError
from socratic_rl.generators import Generator
from socratic_rl.quantities import read
from socratic_rl.rejections import Case, Pool, Rejection

Split = Literal["train", "validation", "test"]
Share = Annotated[float, Field(ge=0, lt=1)]

NEAR = 0.8
"""Two texts are near duplicates from this Jaccard similarity of their word pairs on: one word in about 17 differs."""


class Pairing(Component):
    """Which teacher turns are chosen, and how the problems are split."""

    splits: Annotated[int, Field(ge=1)] | None
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
        """The indices of a conversation's turns that are chosen; none where it was not accepted.

        Where a person gave a worse turn, only turns with one are chosen: the others are not known to be good.
        """
        if not conversation.accepted:
            return []
        marked = any(turn.worse for turn in conversation.turns)
        fit = [
            number
            for number, turn in enumerate(conversation.turns)
            if turn.speaker == "teacher"
            and number
            and (turn.worse or not marked)
            and not (turn.act and set(self.skip_acts).issuperset(turn.act.split("+")))
            and (metrics.asks_question(turn.text) or not self.must_ask)
        ]
        return fit if self.splits is None else evenly(fit, self.splits)

    def split_of(self, problem_id: str) -> Split:
        """The side of a problem."""
        return split_of(problem_id, self.validation, self.test)

    def pairs(
        self,
        conversations: Sequence[Conversation],
        problems: Mapping[str, Problem],
        rejection: Rejection,
        generator: Generator | None,
        seed: int,
        done: Container[tuple[str, int]] = (),
    ) -> Iterator[PreferencePair]:
        """``pairs_at`` the chosen turns of all these conversations; only accepted ones become pairs."""
        chosen = [(conversation, turn) for conversation in conversations for turn in self.turns(conversation)]
        return pairs_at(chosen, self.split_of, problems, rejection, generator, seed, done)


def pairs_at(
    chosen: Sequence[tuple[Conversation, int]],
    split_of: Callable[[str], Split],
    problems: Mapping[str, Problem],
    rejection: Rejection,
    generator: Generator | None,
    seed: int,
    done: Container[tuple[str, int]] = (),
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
    sides = {conversation.id: split_of(conversation.problem_id) for conversation, _ in chosen}
    pools = {side: Pool(place for place in chosen if sides[place[0].id] == side) for side in set(sides.values())}
    # pairs come in order, so that what lies before the last one has had its turn, with or without a pair
    first = max((n + 1 for n, place in enumerate(chosen) if _key(*place) in done), default=0)
    size = 4 * (generator.width if generator else 1)
    for start in range(first - first % size, len(chosen), size):
        cases = [_case(problems, *place, pools[sides[place[0].id]], seed) for place in chosen[start : start + size]]
        for number, (case, rejected) in enumerate(zip(cases, rejection.reject(cases, generator), strict=True), start):
            if number < first or rejected is None or case.repeats_chosen(rejected.text):
                continue
            conversation_id, turn = _key(case.conversation, case.turn)
            yield PreferencePair.of(
                case.before,
                case.chosen.text,
                rejected.text,
                conversation_id=conversation_id,
                problem_id=case.problem.id,
                turn=turn,
                rejection=rejected.kind,
                split=sides[conversation_id],
            )


def split_of(problem_id: str, validation: float, test: float) -> Split:
    """The side of a problem: by a hash of its id alone, so that it stays there when other problems come or go."""
    place = int.from_bytes(hashlib.sha256(f"split {problem_id}".encode()).digest()[:8]) / 2**64
    if place < test:
        return "test"
    return "validation" if place < test + validation else "train"


class _Row(NamedTuple):
    """What is compared of a pair."""

    conversation_id: str
    numbers: str
    """What the problem and the parts state, in order."""
    parts: tuple[str, str, str]
    """The student's last turn, the chosen turn and the rejected one."""

    @classmethod
    def of(cls, pair: PreferencePair) -> Self:
        said = (pair.prompt[-1]["content"], pair.chosen[0]["content"], pair.rejected[0]["content"])
        numbers = [q.parts or q.value for text in (pair.prompt[0]["content"], *said) for q in read(text)[0]]
        return cls(pair.conversation_id, text_id(*map(str, numbers)), said)

    def repeats(self, other: Self) -> bool:
        """Whether it is a near duplicate of an earlier row with the same numbers."""
        if self.conversation_id == other.conversation_id:
            return False
        sides = ((_shingles(one), _shingles(two)) for one, two in zip(self.parts, other.parts, strict=True))
        return all(len(one & two) >= NEAR * len(one | two) for one, two in sides)


def _shingles(text: str) -> set[tuple[str, str]]:
    """Every two neighbouring words, and the first and last with the edge of the text."""
    return set(pairwise(["", *re.findall(r"\w+|[-+*/=×÷]", text.casefold()), ""]))


def deduplicate(pairs: Iterable[PreferencePair]) -> Iterator[PreferencePair]:
    """The pairs without exact and near duplicates; the first of each stays.

    Exact duplicates are equal up to case and white space. Near duplicates come from different conversations, state the
    same numbers in the same order, and in each of the student's last turn, the chosen and the rejected turn share at
    least ``NEAR`` of their word pairs. So a template with other numbers is no duplicate, and neither are the turns of
    one conversation.

    Candidates are found by MinHash with banding (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3)
    among pairs that state the same numbers, so time grows with the number of pairs. Some hundred bytes are kept of
    each, a few thousand of one whose numbers another one states too.
    """
    from datasketch import MinHash, MinHashLSH

    # a lower threshold than NEAR, since banding misses some that are near it and what it finds is compared in full
    index = MinHashLSH(threshold=0.6, num_perm=64)
    empty = MinHash(num_perm=64)
    exact: set[str] = set()
    alone: dict[str, _Row | None] = {}
    rows: list[_Row] = []

    def sketch(row: _Row) -> MinHash:
        made = empty.copy()
        # rows with other numbers share no element
        made.update_batch(
            f"{row.numbers} {n} {one} {two}".encode()
            for n, part in enumerate(row.parts)
            for one, two in _shingles(part)
        )
        return made

    def insert(row: _Row, made: MinHash) -> None:
        index.insert(len(rows), made)
        rows.append(row)

    for pair in pairs:
        key = text_id(*(message["content"] for message in (*pair.prompt, *pair.chosen, *pair.rejected)))
        if key in exact:
            continue
        exact.add(key)
        row = _Row.of(pair)
        if row.numbers not in alone:
            alone[row.numbers] = row
        else:
            if first := alone[row.numbers]:
                insert(first, sketch(first))
                alone[row.numbers] = None
            made = sketch(row)
            if any(row.repeats(rows[candidate]) for candidate in index.query(made)):
                continue
            insert(row, made)
        yield pair


def _case(problems: Mapping[str, Problem], conversation: Conversation, turn: int, pool: Pool, seed: int) -> Case:
    if conversation.problem_id not in problems:
        raise UserError(
            f"conversation {conversation.id}: its problem {conversation.problem_id!r} is not among the problems"
        )
    place = int(text_id(str(seed), conversation.id, str(turn)), 16) % 2**31
    return Case(problems[conversation.problem_id], conversation, turn, pool, seed=place)


def _key(conversation: Conversation, turn: int) -> tuple[str, int]:
    """What tells a pair from the others: the conversation, and which of its teacher turns from 0."""
    return conversation.id, sum(said.speaker == "teacher" for said in conversation.turns[:turn])


def evenly(places: Sequence[int], count: int) -> list[int]:
    """So many of the places, evenly spaced from the first to the last."""
    if count >= len(places):
        return list(places)
    if count == 1:
        return [places[0]]
    # whole numbers, rounded half up
    return [places[(2 * n * (len(places) - 1) + count - 1) // (2 * (count - 1))] for n in range(count)]
