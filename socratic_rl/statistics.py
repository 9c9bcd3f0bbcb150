"""How sure a comparison of base and tutor can be: 95% intervals that respect which replies belong to one problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    from scipy.stats import bootstrap

    rows = np.array([tutor, tutor if base is None else base], dtype=float)
    keep = ~np.isnan(rows).any(axis=0)
    kept = [group for group, whole in zip(groups, keep, strict=True) if whole]
    names = sorted(set(kept))
    place = {name: index for index, name in enumerate(names)}
    index = np.array([place[group] for group in kept], dtype=int)
    tutor_sums, base_sums = (np.bincount(index, weights=side[keep], minlength=len(names)) for side in rows)
    counts = np.bincount(index, minlength=len(names)).astype(float)

    def means(tutor_sums: Any, base_sums: Any, counts: Any, axis: int) -> Any:
        total, tutor_total, base_total = (part.sum(axis=axis) for part in (counts, tutor_sums, base_sums))
        return np.stack([tutor_total / total, base_total / total, (tutor_total - base_total) / total])

    sides = (tutor_sums, base_sums, counts)
    figures = np.full((3, 3), np.nan)  # estimate, low end, high end of tutor, base, difference
    if kept:
        figures[0] = means(*sides, axis=-1)
    if len(names) > 1:
        figures[1:] = bootstrap(
            sides,
            means,
            paired=True,
            vectorized=True,
            axis=-1,
            n_resamples=resamples,
            batch=1_000,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
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
        n=len(kept),
        groups=len(names),
    )
