"""Intervals, p and verdicts of speakers: right in coverage, silent where there is too little."""

from typing import Any

import numpy as np
import pytest

from socratic_rl.measures.comparisons import (
    difference_of_shares,
    mean_estimate,
    share_estimate,
    sign_flip_p,
    speaker_comparison,
    speaker_figure,
    with_verdicts,
)
from socratic_rl.measures.figures import Estimate

PROBLEMS = np.repeat(np.arange(25), 2)


def drawn(share: float, rng: Any, times: int) -> Any:
    """Replies to 25 problems of two each, whose intra-class correlation is 0.2 (beta-binomial)."""
    of_problems = rng.beta(4 * share, 4 * (1 - share), (times, 25))
    return rng.binomial(1, np.repeat(of_problems, 2, axis=1))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.97])
def test_a_shares_interval_covers_the_true_one_as_often_as_it_says(share: float) -> None:
    ends = [share_estimate(row, PROBLEMS)[1:] for row in drawn(share, np.random.default_rng(1), 2_000)]
    assert 0.93 <= np.mean([low <= share <= high for low, high in ends]) <= 0.98  # type: ignore[operator]


@pytest.mark.parametrize(("first", "second"), [(0.1, 0.02), (0.5, 0.5), (0.97, 0.5)])
def test_an_interval_of_a_difference_covers_it_often_enough(first: float, second: float) -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for ours, theirs in zip(drawn(first, rng, 1_000), drawn(second, rng, 1_000), strict=True):
        estimate = difference_of_shares(share_estimate(ours, PROBLEMS), share_estimate(theirs, PROBLEMS))
        covered += estimate.low <= first - second <= estimate.high  # type: ignore[operator]
    assert covered / 1_000 >= 0.93


@pytest.mark.parametrize("value", [0, 1])
def test_no_interval_of_a_share_is_without_width(value: int) -> None:
    low, high = share_estimate(np.full(50, value), PROBLEMS)[1:]
    assert low is not None
    assert high is not None
    assert high - low > 0.05


def test_a_mean_has_students_interval_over_problems() -> None:
    values = np.array([1.0, 3.0, 2.0, 6.0])
    value, low, high = mean_estimate(values, np.arange(4))
    # scipy.stats.t.interval(0.95, 3, 3, sem) by hand: sem = 2.1602 / 2
    assert (value, round(low or 0, 3), round(high or 0, 3)) == (3.0, -0.437, 6.437)
    assert mean_estimate(np.full(4, 2.0), np.arange(4)) == Estimate(2.0, None, None)


def test_p_is_by_problem() -> None:
    # ten problems that all differ the same way: 2 of 2 ** 10 sign patterns are as far
    assert sign_flip_p(np.ones(20), np.repeat(np.arange(10), 2), 0) == pytest.approx(2 / 2**10)
    assert sign_flip_p(np.zeros(20), np.repeat(np.arange(10), 2), 0) == 1.0


def test_below_ten_problems_there_is_neither_interval_nor_verdict() -> None:
    few = [f"p{number}" for number in range(9)]
    figure = speaker_figure("helps", "all", "tutor", [1] * 9, few, share=True)
    assert (figure.value, figure.low, figure.high, figure.n, figure.problems) == (1.0, None, None, 9, 9)
    row = speaker_comparison("helps", "all", "prompted", [1] * 9, [0] * 9, few, share=True, seed=0)
    (row,) = with_verdicts([row], {"helps": 1}, "helps", "prompted")
    assert (row.difference, row.low, row.p, row.family, row.verdict) == (1.0, None, None, None, None)


def test_what_could_not_be_measured_has_n_0() -> None:
    figure = speaker_figure("helps", "all", "tutor", [None, None], ["a", "b"], share=True)
    assert (figure.value, figure.n, figure.problems) == (None, 0, 0)
    row = speaker_comparison("helps", "all", "base", [None, 1], [1, None], ["a", "b"], share=True, seed=0)
    assert (row.difference, row.n) == (None, 0)


def test_one_comparison_is_primary_and_the_others_are_adjusted() -> None:
    names = [f"p{number}" for number in range(20)]
    gaps = {"helps": 6, "invents": 6, "words": 20, "tells_step": 0}
    rows = [
        speaker_comparison(
            measure, "all", against, [1] * ones + [0] * (20 - ones), [0] * 20, names, share=measure != "words", seed=0
        )
        for measure, ones in gaps.items()
        for against in ("base", "prompted")
    ]
    better = {"helps": 1, "invents": -1, "tells_step": -1, "words": 0}
    judged = {(row.measure, row.against): row for row in with_verdicts(rows, better, "helps", "prompted")}
    assert judged["helps", "prompted"].family == "primary"
    # six problems of 20 differ, all one way: p = 2 / 2 ** 6
    assert judged["helps", "prompted"].p == pytest.approx(2 / 2**6, abs=0.01)
    assert judged["helps", "prompted"].verdict == "better"
    # the same p, but twice it by Holm's method
    assert (judged["invents", "prompted"].family, judged["invents", "prompted"].verdict) == ("secondary", "unclear")
    assert judged["tells_step", "prompted"].verdict == "unclear"
    # more or fewer words are neither better nor worse, and beside others nothing is judged
    assert judged["words", "prompted"].verdict is None
    assert {row.family for (_, against), row in judged.items() if against == "base"} == {None}
