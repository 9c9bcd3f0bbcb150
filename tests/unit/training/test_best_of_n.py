"""The best and the worst of several replies."""

import itertools

import pytest

from socratic_rl.measures.registry import FAILURES
from socratic_rl.training.best_of_n import best_and_worst, measured_score

GOOD = {"asks_question": True, "reveals_answer": False, "speaks_for_student": False, "repeats_turn": False}
GOOD |= {"cut_off": False, "words": 5}
REFERENCE = "How many crates are left?"


def score(text: str = "What now?", **changes: bool | None) -> float:
    return measured_score(text, GOOD | changes, REFERENCE)


def fails(name: str) -> dict[str, bool]:
    return {name: name != "asks_question"}


def test_a_grave_fault_weighs_more_than_all_lesser_ones():
    names = list(FAILURES)
    for place, name in enumerate(names):
        lesser = {key: value for other in names[place + 1 :] for key, value in fails(other).items()}
        # the words of the reference are the closest that a reply can be
        assert score(REFERENCE, **fails(name)) < score("zzz", **lesser), name


def test_of_replies_without_faults_the_one_nearer_to_the_teacher_is_better():
    assert 0 <= score("zzz") < score("How many crates did she sell?") < score(REFERENCE) <= 1


def test_what_is_not_measured_is_no_fault():
    assert score(reveals_answer=None) == score()


@pytest.mark.parametrize(
    ("scores", "picked"),
    [
        ([0.2, 0.9, 0.1], (1, 2)),
        ([0.5, 0.5, 0.1, 0.1], (0, 2)),
        ([None, 0.4, 0.6], (2, 1)),
        ([0.5, 0.5], None),
        ([None, 0.5], None),
        ([None, None], None),
    ],
)
def test_picking(scores: list[float | None], picked: tuple[int, int] | None):
    assert best_and_worst(scores) == picked


def test_order_does_not_change_which_scores_are_picked():
    for scores in itertools.permutations([0.1, 0.4, 0.9]):
        found = best_and_worst(scores)
        assert found and (scores[found.best], scores[found.worst]) == (0.9, 0.1)
