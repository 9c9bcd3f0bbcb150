"""What all writers of conversations share."""

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from socratic_rl.core.dialogue import Conversation, Problem, Turn, parse_transcript
from socratic_rl.core.generator import Generator
from socratic_rl.measures import replies


class Flaw(NamedTuple):
    """Why a conversation is not trained on."""

    reason: str
    """The kind; the same words for all flaws of a kind."""
    turn: int
    """The number of the turn, from 0."""


class Writer(Protocol):
    """Makes conversations about problems."""

    def ids(self, problems: Iterable[Problem]) -> Iterator[str]:
        """Every conversation that it would write, in order: ``<problem id>/<number>``."""
        ...

    def write(
        self, problems: Iterable[Problem], generator: Generator | None, seed: int, done: Container[str]
    ) -> Iterator[Conversation]:
        """The conversations as they finish, without those in ``done``."""
        ...


def conversation(
    key: str, problem: Problem, turns: Sequence[Turn], flaws: Iterable[Flaw], provenance: dict[str, Any]
) -> Conversation:
    """The record of a conversation; with a flaw it is kept, but not accepted."""
    where: dict[str, list[int]] = {}
    for flaw in flaws:
        where.setdefault(flaw.reason, []).append(flaw.turn)
    return Conversation(
        id=key,
        problem_id=problem.id,
        turns=tuple(turns),
        accepted=not where,
        reasons=tuple(where),
        provenance=provenance | ({"flaws": where} if where else {}),
    )


ALTERNATION_LOST = "alternation lost"


SPEAKS_FOR_OTHER = "speaks for the other"


ANSWER_FIRST = "teacher states the answer first"


REPEATED = "turn repeated"


EMPTY = "empty turn"


CUT_OFF = "cut-off turn"


def gate(turns: Sequence[Turn], problem: Problem) -> list[Flaw]:
    """What is wrong with a conversation, by turn.

    Whether a turn came out empty or was cut off is known only to who wrote it.

    Args:
        turns: The conversation; its first turn states the problem.
        problem: Without a gold answer, that the teacher states it first cannot be told.
    """
    return [
        Flaw(reason, number)
        for number, turn in enumerate(turns)
        for reason, applies in (
            (ALTERNATION_LOST, turn.speaker == (turns[number - 1].speaker if number else "teacher")),
            (SPEAKS_FOR_OTHER, _speaks_for_other(turn)),
            (REPEATED, _repeats(turn, turns[:number])),
            (ANSWER_FIRST, _answers_first(turn, turns[:number], problem)),
        )
        if applies
    ]


def _speaks_for_other(turn: Turn) -> bool:
    if any(part.speaker != turn.speaker for part in parse_transcript(turn.text)):
        return True
    if turn.speaker == "teacher":
        return replies.speaks_for_student(turn.text)
    return re.search(r"\b(?:teachers?|tutor|professor)\W{0,2}:", turn.text, re.IGNORECASE) is not None


def _repeats(turn: Turn, before: Sequence[Turn]) -> bool:
    """Whether it is an earlier turn of the same speaker again.

    Of a short turn every word must come again, since one other word makes it another question ("… on Monday?", "… on
    Tuesday?"), and so it must of a student's, who may correct one number. A student may also say "yes" or "12" twice.
    """
    earlier_texts = [earlier.text for earlier in before if earlier.speaker == turn.speaker]
    length = replies.word_count(turn.text)
    if turn.speaker == "teacher" and length >= 20:
        return replies.repeats_turn(turn.text, earlier_texts)
    return (turn.speaker == "teacher" or length >= 5) and _words(turn.text) in map(_words, earlier_texts)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[-+*/=×÷%]", text.casefold())


def _answers_first(turn: Turn, before: Sequence[Turn], problem: Problem) -> bool:
    texts_before = [problem.question, *(earlier.text for earlier in before)]
    return turn.speaker == "teacher" and bool(replies.reveals_answer(turn.text, problem.answer, texts_before))
