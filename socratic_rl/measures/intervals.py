"""How sure a comparison of base and tutor can be: 95% intervals that respect which replies belong to one problem."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from socratic_rl.measures.figures import Figure

CONFIDENCE = 0.95


Values = Sequence[float | None]
"""One value a row; ``None`` or NaN where the measure is not defined for that row."""


@dataclass(frozen=True)
class Comparison:
    """Means of one measure for base and tutor, their difference (tutor minus base), and 95% intervals.

    A figure is ``None`` where the data does not give it: an interval from fewer than two problems, anything about a
    base that was not measured, everything where there is no row.
    """

    base: float | None
    tutor: float | None
    difference: float | None
    low: float | None
    """Lower end of the interval of the difference."""
    high: float | None
    base_low: float | None
    base_high: float | None
    tutor_low: float | None
    tutor_high: float | None
    n: int
    """Rows that both sides have a value for."""
    groups: int
    """Problems those rows come from."""

    def figures(self) -> dict[str, Any]:
        """All but ``groups``, by name."""
        return {name: value for name, value in asdict(self).items() if name != "groups"}


def paired_bootstrap(
    base: Values | None, tutor: Values, groups: Sequence[str], *, resamples: int = 10_000, seed: int
) -> Comparison:
    """Compare the tutor's mean with its base's on the same rows, resampling whole problems.

    Replies to one problem resemble each other, so problems are drawn with replacement and a problem brings all of its
    rows (the cluster bootstrap; see Field & Welsh, "Bootstrapping clustered data", J. R. Statist. Soc. B 69,
    2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x). Each resample draws the same problems for both sides,
    which keeps the pairing. A mean is the sum over the drawn rows divided by their number, so that problems weigh by
    their rows. The intervals are percentile intervals. With few problems they come out somewhat narrow, by a
    factor of about √(1 − 1/problems), and where all problems have the same mean they have no width.

    Args:
        base: A value a row for the base; ``None`` for a measure that only the tutor has.
        tutor: A value a row for the tutor, in the same order.
        groups: The problem of each row.
        resamples: How many times problems are drawn.
        seed: Of the draws. The order of the rows does not matter.

    Raises:
        ValueError: The three do not have the same length.
    """
    rows = np.array([tutor, tutor if base is None else base], dtype=float)
    measured = ~np.isnan(rows).any(axis=0)
    problems = [group for group, is_measured in zip(groups, measured, strict=True) if is_measured]
    sides = _sums([*rows[:, measured], np.ones(len(problems))], problems)

    def means(tutor_total: Any, base_total: Any, total: Any) -> Any:
        return np.stack([tutor_total / total, base_total / total, (tutor_total - base_total) / total])

    figures = _with_interval(means, sides, resamples, seed)  # of tutor, base, difference
    if base is None:
        figures[:, 1:] = np.nan
    estimate, low, high = ([None if np.isnan(x) else float(x) for x in row] for row in figures)
    return Comparison(
        tutor=estimate[0],
        tutor_low=low[0],
        tutor_high=high[0],
        base=estimate[1],
        base_low=low[1],
        base_high=high[1],
        difference=estimate[2],
        low=low[2],
        high=high[2],
        n=len(problems),
        groups=len(set(problems)),
    )


def share_interval(picked: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, "Probable inference", 1927, https://doi.org/10.1080/01621459.1927.10502953).

    Args:
        picked: How many.
        n: Of how many, at least 1, which are taken to be independent.
    """
    from scipy.stats import binomtest

    interval = binomtest(picked, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def agreement(
    measured: Sequence[bool], people: Sequence[bool], groups: Sequence[str], *, resamples: int = 10_000, seed: int
) -> dict[str, float | None]:
    """How well a measure agrees with people: precision, recall and F1 of its yes, and Cohen's κ.

    Cohen, "A coefficient of agreement for nominal scales", 1960, https://doi.org/10.1177/001316446002000104. Intervals
    are those of ``paired_bootstrap``: whole groups are drawn, since replies to one dialogue resemble each other.

    Args:
        measured: What the measure says of each reply.
        people: What people say.
        groups: The dialogue of each reply.
        resamples: How many times groups are drawn. A draw without any yes tells nothing about it and is left out.
        seed: Of the draws.

    Returns:
        ``precision``, ``recall``, ``f1``, ``kappa``, and each with ``_low`` and ``_high``; None where the data does not
        give it.
    """
    ours, theirs = np.array(measured, dtype=bool), np.array(people, dtype=bool)
    counts = _sums([ours & theirs, ours & ~theirs, ~ours & theirs, ~ours & ~theirs], groups)

    def figures(hits: Any, false: Any, missed: Any, rest: Any) -> Any:
        n = hits + false + missed + rest
        by_chance = ((hits + false) * (hits + missed) + (rest + missed) * (rest + false)) / n
        f1, kappa = 2 * hits / (2 * hits + false + missed), (hits + rest - by_chance) / (n - by_chance)
        return np.stack([hits / (hits + false), hits / (hits + missed), f1, kappa])

    return _named(("precision", "recall", "f1", "kappa"), _with_interval(figures, counts, resamples, seed))


def score_agreement(
    measured: Sequence[float], people: Sequence[float], groups: Sequence[str], *, resamples: int = 10_000, seed: int
) -> dict[str, float | None]:
    """How well scores agree with people's: the share that is equal, and Cohen's κ weighted by the distance of scores.

    Cohen, "Weighted kappa", 1968, https://doi.org/10.1037/h0026256: one less the mean distance over that which the two
    would have by chance. Where there are but two scores it is Cohen's κ. Intervals as in ``agreement``.

    Args:
        measured: The score of each reply.
        people: The score of people's label.
        groups: The dialogue of each reply.
        resamples: How many times groups are drawn. A draw whose scores are all the same tells nothing and is left out.
        seed: Of the draws.

    Returns:
        ``agreement``, ``kappa``, and each with ``_low`` and ``_high``; None where the data does not give it.
    """
    ours, theirs = np.array(measured, dtype=float), np.array(people, dtype=float)
    our_scores, their_scores = np.unique(ours), np.unique(theirs)
    distance = np.abs(our_scores[:, None] - their_scores)
    columns = [ours == theirs, abs(ours - theirs), np.ones(len(ours))]
    counts_of_scores = [*(ours == score for score in our_scores), *(theirs == score for score in their_scores)]
    sums = _sums([*columns, *counts_of_scores], groups)

    def figures(equal: Any, apart: Any, n: Any, *counts: Any) -> Any:
        both = np.array(counts[: len(our_scores)]), np.array(counts[len(our_scores) :])
        by_chance = np.einsum("i...,j...,ij->...", *both, distance) / n
        return np.stack([equal / n, 1 - apart / by_chance])

    return _named(("agreement", "kappa"), _with_interval(figures, sums, resamples, seed))


def _named(names: Sequence[str], figures: Any) -> dict[str, float | None]:
    """The figures by name, with the low and high ends of their intervals."""
    return {
        name + end: None if np.isnan(figure) else float(figure)
        for name, column in zip(names, figures.T, strict=True)
        for end, figure in zip(("", "_low", "_high"), column, strict=True)
    }


def _sums(columns: Sequence[Any], groups: Sequence[str]) -> list[Any]:
    """Each column's sum in every group."""
    names = sorted(set(groups))
    positions = {name: position for position, name in enumerate(names)}
    index = np.array([positions[group] for group in groups], dtype=int)
    return [np.bincount(index, weights=column, minlength=len(names)).astype(float) for column in columns]


def _with_interval(figures: Callable[..., Any], sums: Sequence[Any], resamples: int, seed: int) -> Any:
    """The figures of the totals over all groups, and the low and high ends of their intervals; shape (3, figures).

    NaN where the totals do not give a figure, and as an interval of fewer than two groups. Resamples that do not give a
    figure are left out of its interval.
    """
    from scipy.stats import bootstrap

    def totals(*sums: Any, axis: int) -> Any:
        return np.stack([part.sum(axis=axis) for part in sums])

    with np.errstate(invalid="ignore"):
        estimate = figures(*totals(*sums, axis=-1))
        estimates = np.full((3, len(estimate)), np.nan)
        estimates[0] = estimate
        if len(sums[0]) > 1:
            drawn = bootstrap(
                sums,
                totals,
                paired=True,
                vectorized=True,
                axis=-1,
                n_resamples=resamples,
                batch=1_000,
                method="percentile",
                rng=np.random.default_rng(seed),
            ).bootstrap_distribution
            defined = ~np.isnan(estimate)
            ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
            estimates[1:, defined] = np.nanquantile(figures(*drawn)[defined], ends, axis=-1)
    return estimates


NO_ROUNDS: Mapping[str, Any] = MappingProxyType({})
"""The earlier rounds of a tutor that has none."""


def compare_sides(
    name: str,
    kind: str,
    base: Values | None,
    tutor: Values,
    groups: Sequence[str],
    *,
    seed: int,
    resamples: int,
    earlier: Mapping[str, Values] = NO_ROUNDS,
) -> Figure:
    """Base against tutor on one measure, with intervals by problem.

    Args:
        name: The measure.
        kind: Of the rows.
        base: A value a row; None for a measure that only the tutor has.
        tutor: A value a row.
        groups: The problem of each row.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        earlier: The values of earlier rounds, oldest first; with them the figure has ``earlier`` and ``step``.
    """
    compare = partial(paired_bootstrap, groups=groups, resamples=resamples, seed=seed)
    compared = compare(base, tutor)
    values: dict[str, Any] = {"name": name, "kind": kind, **compared.figures(), "problems": compared.groups}
    if earlier:
        alone = {round_name: compare(None, values_of_round) for round_name, values_of_round in earlier.items()}
        step = compare([*earlier.values()][-1], tutor)
        values["earlier"] = [
            {"name": round_name, "value": past.tutor, "low": past.tutor_low, "high": past.tutor_high}
            for round_name, past in alone.items()
        ]
        values["step"] = {"difference": step.difference, "low": step.low, "high": step.high}
    return Figure.model_validate(values)
