import math
import random

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import cohen_kappa_score, f1_score, precision_score, recall_score

from socratic_rl.measures.intervals import agreement, paired_bootstrap, score_agreement


def replies(
    problems: int, turns: int, base_rate: float, tutor_rate: float, rng: np.random.Generator
) -> tuple[list[float], list[float], list[str]]:
    """Yes/no marks of both sides; replies to one problem share a probability, so they are not independent."""
    base, tutor, groups = [], [], []
    for problem in range(problems):
        easier = rng.normal(0, 0.2)
        for _ in range(turns):
            base.append(float(rng.random() < base_rate + easier))
            tutor.append(float(rng.random() < tutor_rate + easier))
            groups.append(f"p{problem:03d}")
    return base, tutor, groups


def test_means_and_counts() -> None:
    found = paired_bootstrap([0, 0, 1, 1], [1, 1, 1, 0], ["a", "a", "a", "b"], seed=0)
    assert (found.base, found.tutor, found.difference) == (0.5, 0.75, 0.25)
    assert (found.n, found.groups) == (4, 2)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.25 <= found.high


def test_one_row_a_problem_is_scipys_paired_bootstrap() -> None:
    rng = np.random.default_rng(5)
    base, tutor = rng.normal(10, 3, 40), rng.normal(12, 3, 40)
    found = paired_bootstrap(base.tolist(), tutor.tolist(), [f"{i:02d}" for i in range(40)], resamples=2000, seed=9)
    expected = bootstrap(
        (tutor, base),
        lambda t, b, axis: (t - b).mean(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=2000,
        batch=1000,
        method="percentile",
        rng=np.random.default_rng(9),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_each_side_has_scipys_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 30)
    found = paired_bootstrap(None, values.tolist(), [f"{i:02d}" for i in range(30)], resamples=2000, seed=3)
    expected = bootstrap(
        (values,), np.mean, n_resamples=2000, batch=1000, method="percentile", rng=np.random.default_rng(30)
    ).confidence_interval
    assert (found.tutor_low, found.tutor_high) == pytest.approx((expected.low, expected.high), abs=0.1)


def test_problems_weigh_by_their_rows() -> None:
    found = paired_bootstrap([0] * 4, [1, 1, 1, 0], ["big", "big", "big", "small"], seed=0)
    # a resample is big-big (1), big-small (3/4) or small-small (0), never the mean of the problems' means (1/2)
    assert found.tutor == 0.75
    assert (found.tutor_low, found.tutor_high) == (0, 1)


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held, runs = 0, 300
    for run in range(runs):
        base, tutor, groups = replies(40, 4, 0.4, 0.6, rng)
        found = paired_bootstrap(
            None, [t - b for t, b in zip(tutor, base, strict=True)], groups, resamples=400, seed=run
        )
        same = paired_bootstrap(base, tutor, groups, resamples=400, seed=run)
        assert (same.low, same.high) == pytest.approx((found.tutor_low, found.tutor_high))
        assert same.low is not None
        assert same.high is not None
        held += same.low <= 0.2 <= same.high
    # the binomial error of 300 runs at 0.95 is 0.013
    assert 0.91 <= held / runs <= 0.985


def test_replies_to_one_problem_are_not_counted_as_independent() -> None:
    rng = np.random.default_rng(2)
    base, tutor, groups = [], [], []
    for problem in range(20):
        answer = float(rng.random() < 0.5)
        base += [0.0] * 8
        tutor += [answer] * 8
        groups += [f"p{problem:02d}"] * 8
    clustered = paired_bootstrap(base, tutor, groups, seed=0)
    by_row = paired_bootstrap(base, tutor, [f"{i:03d}" for i in range(160)], seed=0)
    assert clustered.difference == by_row.difference
    width, narrow = (c.high - c.low for c in (clustered, by_row) if c.high is not None and c.low is not None)
    assert width == pytest.approx(math.sqrt(8) * narrow, rel=0.1)


def test_pairing_removes_what_both_sides_share() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(50, 20, 60)
    found = paired_bootstrap(base.tolist(), (base + 1).tolist(), [f"{i:02d}" for i in range(60)], seed=0)
    assert (found.low, found.high) == pytest.approx((1, 1))
    assert found.base_high is not None
    assert found.base_low is not None
    assert found.base_high - found.base_low > 5


def test_same_seed_same_interval_in_any_row_order() -> None:
    base, tutor, groups = replies(15, 3, 0.3, 0.7, np.random.default_rng(6))
    first = paired_bootstrap(base, tutor, groups, resamples=500, seed=1)
    rows = list(zip(base, tutor, groups, strict=True))
    random.Random(0).shuffle(rows)
    assert paired_bootstrap(*map(list, zip(*rows, strict=True)), resamples=500, seed=1) == first
    assert paired_bootstrap(base, tutor, groups, resamples=500, seed=2) != first


def test_rows_without_both_values_are_left_out() -> None:
    whole = paired_bootstrap([0, 1, 1], [1, 1, 0], ["a", "b", "c"], seed=0)
    gaps = paired_bootstrap([0, 1, 1, None, 1], [1, 1, 0, 1, math.nan], ["a", "b", "c", "d", "e"], seed=0)
    assert gaps == whole
    assert (gaps.n, gaps.groups) == (3, 3)


def test_a_measure_of_the_tutor_alone() -> None:
    found = paired_bootstrap(None, [1, 1, 0, None], ["a", "b", "c", "d"], seed=0)
    assert found.tutor == pytest.approx(2 / 3)
    assert found.tutor_low is not None
    assert (found.base, found.base_low, found.base_high) == (None, None, None)
    assert (found.difference, found.low, found.high) == (None, None, None)
    assert (found.n, found.groups) == (3, 3)


def test_one_problem_has_no_interval() -> None:
    found = paired_bootstrap([0, 1], [1, 1], ["a", "a"], seed=0)
    assert (found.difference, found.low, found.high, found.tutor_low) == (0.5, None, None, None)
    assert (found.n, found.groups) == (2, 1)


@pytest.mark.parametrize(("base", "tutor", "groups"), [([], [], []), ([None], [1], ["a"]), (None, [], [])])
def test_no_row_has_no_figures(base: list[float | None] | None, tutor: list[float | None], groups: list[str]) -> None:
    found = paired_bootstrap(base, tutor, groups, seed=0)
    assert (found.base, found.tutor, found.difference, found.low, found.n, found.groups) == (
        None,
        None,
        None,
        None,
        0,
        0,
    )


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"inhomogeneous|argument"):
        paired_bootstrap([1], [1, 0], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="argument"):
        paired_bootstrap([1, 0], [1, 0], ["a"], seed=0)


# ---- agreement with people ----


def test_agreement_is_what_scikit_learn_says() -> None:
    rng = np.random.default_rng(1)
    people = rng.random(80) < 0.3
    measured = people ^ (rng.random(80) < 0.2)
    groups = [str(n // 4) for n in range(80)]
    found = agreement(measured.tolist(), people.tolist(), groups, resamples=500, seed=0)
    for name, score in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1", f1_score),
        ("kappa", cohen_kappa_score),
    ):
        assert found[name] == pytest.approx(score(people, measured))
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_agreement_draws_whole_dialogues() -> None:
    # one dialogue of twenty replies is all wrong; drawn by row, its share would hardly vary
    people = [True, False] * 50
    measured = people[:80] + [not said for said in people[80:]]
    whole, single = (
        agreement(measured, people, groups, resamples=2000, seed=0)
        for groups in ([str(n // 20) for n in range(100)], [str(n) for n in range(100)])
    )
    assert whole["kappa"] == single["kappa"] == pytest.approx(0.6)
    assert whole["kappa_high"] - whole["kappa_low"] > 1.5 * (single["kappa_high"] - single["kappa_low"])


def test_agreement_that_the_data_does_not_give_is_none() -> None:
    assert set(agreement([], [], [], seed=0).values()) == {None}
    nobody = agreement([False, False], [False, False], ["a", "b"], seed=0)
    assert set(nobody.values()) == {None}
    one = agreement([True, False], [True, False], ["a", "a"], seed=0)
    assert (one["kappa"], one["kappa_low"]) == (1, None)


def test_agreement_of_scores_is_what_scikit_learn_says() -> None:
    rng = random.Random(3)
    people = [rng.randrange(5) for _ in range(200)]
    measured = [score if rng.random() < 0.5 else rng.randrange(5) for score in people]
    groups = [str(place // 4) for place in range(200)]
    found = score_agreement([m / 4 for m in measured], [p / 4 for p in people], groups, resamples=500, seed=0)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(measured, people, weights="linear"))
    assert found["agreement"] == pytest.approx(np.mean(np.array(measured) == people))
    assert found["kappa_low"] < found["kappa"] < found["kappa_high"]


def test_scores_between_two_labels_count_as_half_way() -> None:
    people, groups = [0, 0, 1, 1], ["a", "b", "c", "d"]
    half = score_agreement([0, 0.5, 0.5, 1], people, groups, resamples=100, seed=0)
    # 0.25 apart on average, 0.5 by chance
    assert (half["kappa"], half["agreement"]) == (0.5, 0.5)
    yes_or_no = score_agreement([0, 1, 1, 1], people, groups, resamples=100, seed=0)
    assert yes_or_no["kappa"] == cohen_kappa_score([0, 1, 1, 1], people)


def test_scores_that_are_missing_or_all_the_same_have_no_kappa() -> None:
    assert set(score_agreement([], [], [], resamples=100, seed=0).values()) == {None}
    same = score_agreement([1, 1], [1, 1], ["a", "b"], resamples=100, seed=0)
    assert (same["agreement"], same["kappa"], same["kappa_low"]) == (1, None, None)
