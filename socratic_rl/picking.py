"""Which of several replies at one turn is the best, and which the worst."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sacrebleu.metrics.chrf import CHRF

from socratic_rl.marked_replies import FAILURES, failures

CLOSENESS = CHRF(beta=0.7)  # type: ignore[arg-type]  # it takes any number
"""chrF whose recall weighs less than its precision. By its usual β of 2 the better of a small model's replies was the
longer one at 103 of 120 turns, and the tutor that was trained on them wrote more; so it is at 70 of 120."""


class Picked(NamedTuple):
    """Two of several replies, by their numbers."""

    best: int
    worst: int


def measured_score(reply: str, marks: Mapping[str, bool | int | None], reference: str) -> float:
    """How good a reply is without a judge, from 0 to 1: by its faults, then by how close it is to the teacher's own.

    The faults are those of the report, the gravest first: it reveals the answer, does not ask, speaks for the student,
    repeats a turn, is cut off. Each weighs more than all lesser ones together, and closeness less than any. A measure
    that is not defined is no fault. Closeness tells apart replies that all ask, some of them about nothing in the
    problem: it is chrF, the F-score of character n-grams (Popović 2015, https://aclanthology.org/W15-3049), to what the
    dialogue's teacher asks at this very place.

    Args:
        reply: The tutor's reply.
        marks: Its measures by name, as ``evaluation.marks`` gives them.
        reference: The turn of the dialogue's own teacher.
    """
    names = list(FAILURES)
    levels = 1 << len(names)
    lost = sum(levels >> (names.index(name) + 1) for name in failures(marks))
    # twice, so that no closeness makes up for a fault
    closeness = float(CLOSENESS.sentence_score(reply, [reference]).score) / 100
    return (2 * (levels - 1 - lost) + closeness) / (2 * levels - 1)


def best_and_worst(scores: Sequence[float | None]) -> Picked | None:
    """The replies with the highest and the lowest score, of equal ones the first that was drawn.

    Args:
        scores: One a reply; None for a reply that could not be scored and is not chosen.

    Returns:
        None where no two scores differ.
    """
    scored = [(score, number) for number, score in enumerate(scores) if score is not None]
    if len({score for score, _ in scored}) < 2:
        return None
    best = max(scored, key=lambda one: (one[0], -one[1]))
    worst = min(scored)
    return Picked(best[1], worst[1])
