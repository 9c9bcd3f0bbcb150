"""What each speaker does, and the tutor beside every other one: the rows ``figures`` and ``comparisons``.

Replies to one problem resemble each other. A share's interval is Wilson's on the effective number of replies, which is
their number over the design effect (Kish, Survey Sampling, 1965) with the intra-class correlation by analysis of
variance; a difference of shares has MOVER's (Zou and Donner, "Construction of confidence limits about effect
measures", Statist. Med. 27, 2008, https://doi.org/10.1002/sim.3095). Other means have Student's t by problem. p comes
from flipping the sign of each problem's difference.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from socratic_rl.measures.figures import Estimate, Family, SpeakerComparison, SpeakerFigure, Verdict

FEWEST = 10
"""With fewer problems there is neither interval nor verdict."""


LEVEL = 0.05
"""One less the confidence of an interval; a verdict needs a p below it."""


FLIPS = 9_999
"""Sign flips behind a p where all of them are more."""


def _measured(*columns: Sequence[Any], groups: Sequence[str]) -> tuple[Any, Any]:
    """The rows where every column has a value, and the number of each row's problem."""
    values = np.array([[np.nan if value is None else float(value) for value in column] for column in columns])
    rows = ~np.isnan(values).any(axis=0)
    problems = [group for group, row in zip(groups, rows, strict=True) if row]
    return values[:, rows], np.unique(problems, return_inverse=True)[1] if problems else np.array([], int)


def _effective(values: Any, problems: Any) -> float:
    """How many independent replies tell as much about a share."""
    n, sizes = len(values), np.bincount(problems)
    k = len(sizes)
    if n == k or k < 2:
        return float(n)
    means = np.bincount(problems, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[problems]) ** 2).sum()) / (n - k)
    size = (n - float((sizes**2).sum()) / n) / (k - 1)
    spread = between + (size - 1) * within
    correlation = min(1.0, max(0.0, (between - within) / spread)) if spread > 0 else 0.0
    return n / (1 + (float((sizes**2).sum()) / n - 1) * correlation)


def share_estimate(values: Any, problems: Any) -> Estimate:
    """A share with Wilson's interval on the effective number of replies.

    Args:
        values: 0 or 1 a reply; at least one.
        problems: The number of each reply's problem.
    """
    from statsmodels.stats.proportion import proportion_confint

    value, effective = float(values.mean()), _effective(values, problems)
    low, high = proportion_confint(value * effective, effective, LEVEL, method="wilson")
    return Estimate(value, float(low), float(high))


def mean_estimate(values: Any, problems: Any) -> Estimate:
    """A mean with Student's t interval over problems, which weigh by their replies; none where nothing varies."""
    from scipy import stats

    value, sizes = float(values.mean()), np.bincount(problems)
    k = len(sizes)
    residuals = np.bincount(problems, weights=values - value)
    error = float(np.sqrt(k / max(1, k - 1) * (residuals**2).sum())) / len(values)
    if not error:
        return Estimate(value, None, None)
    reach = float(stats.t.ppf(1 - LEVEL / 2, k - 1)) * error
    return Estimate(value, value - reach, value + reach)


def difference_of_shares(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two shares with MOVER's interval from the limits of each, taken to be independent."""
    (a, a_low, a_high), (b, b_low, b_high) = (tuple(map(float, estimate)) for estimate in (first, second))  # type: ignore[arg-type]
    low, high = np.hypot(a - a_low, b_high - b), np.hypot(a_high - a, b - b_low)
    return Estimate(a - b, float(a - b - low), float(a - b + high))


def sign_flip_p(differences: Any, problems: Any, seed: int) -> float:
    """Two-sided p of a mean difference of 0: each problem's differences keep or change their sign together.

    Args:
        differences: One a reply.
        problems: The number of each reply's problem.
        seed: Of the flips, where there are too many to try all.
    """
    from scipy.stats import permutation_test

    totals = np.bincount(problems, weights=differences)
    if not totals.any():
        return 1.0
    tested = permutation_test(
        (totals,),
        lambda sample, axis: sample.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue)


def speaker_figure(
    measure: str, kind: str, speaker: str, values: Sequence[Any], groups: Sequence[str], *, share: bool
) -> SpeakerFigure:
    """What a speaker does by one measure.

    Args:
        measure: Its name.
        kind: Of the rows.
        speaker: Its name.
        values: One a row; None where the measure is not defined.
        groups: The problem of each row.
        share: Whether a value is 0 or 1.
    """
    (measured,), problems = _measured(values, groups=groups)
    count = len(set(problems.tolist()))
    if not len(measured):
        return SpeakerFigure(measure, kind, speaker, None, None, None, 0, 0)
    estimate = (share_estimate if share else mean_estimate)(measured, problems)
    if count < FEWEST:
        estimate = Estimate(estimate.value, None, None)
    return SpeakerFigure(measure, kind, speaker, *estimate, n=len(measured), problems=count)


def speaker_comparison(
    measure: str,
    kind: str,
    against: str,
    tutor: Sequence[Any],
    other: Sequence[Any],
    groups: Sequence[str],
    *,
    share: bool,
    seed: int,
) -> SpeakerComparison:
    """The tutor beside another speaker, on the rows where both have a value; no family and no verdict yet.

    Args:
        measure: Its name.
        kind: Of the rows.
        against: The other speaker.
        tutor: The tutor's values, one a row.
        other: The other speaker's.
        groups: The problem of each row.
        share: Whether a value is 0 or 1.
        seed: Of the sign flips.
    """
    (ours, theirs), problems = _measured(tutor, other, groups=groups)
    count = len(set(problems.tolist()))
    if not len(ours):
        return SpeakerComparison(measure, kind, "tutor", against, None, None, None, 0, 0, None, None, None)
    gap = ours - theirs
    estimate, p = Estimate(float(gap.mean()), None, None), None
    if count >= FEWEST:
        estimate = (
            difference_of_shares(share_estimate(ours, problems), share_estimate(theirs, problems))
            if share
            else mean_estimate(gap, problems)
        )
        p = sign_flip_p(gap, problems, seed)
    return SpeakerComparison(measure, kind, "tutor", against, *estimate, len(ours), count, p, None, None)


def with_verdicts(
    comparisons: Iterable[SpeakerComparison], better: Mapping[str, int], primary: str, against: str
) -> list[SpeakerComparison]:
    """The comparisons with their families and verdicts.

    One comparison is primary and tested alone. The other measures against the same speaker, of all rows, are secondary
    and adjusted by Holm's method (Scand. J. Statist. 6, 1979). Everything else is only shown.

    Args:
        comparisons: As ``speaker_comparison`` gives them.
        better: By measure, 1 where more is better, -1 where less is; 0 has no verdict.
        primary: The primary measure.
        against: The speaker that the tutor is judged beside.
    """
    from statsmodels.stats.multitest import multipletests

    rows = list(comparisons)
    judged = [
        number
        for number, row in enumerate(rows)
        if row.against == against and row.kind == "all" and row.p is not None and better.get(row.measure)
    ]
    secondary = [number for number in judged if rows[number].measure != primary]
    adjusted = dict(
        zip(secondary, multipletests([rows[number].p for number in secondary], LEVEL, "holm")[1], strict=True)
        if secondary
        else ()
    )
    for number in judged:
        row = rows[number]
        family: Family = "secondary" if number in adjusted else "primary"
        clear = float(adjusted.get(number, row.p or 0.0)) < LEVEL and row.difference
        verdict: Verdict = (
            "unclear" if not clear else "better" if (row.difference or 0) * better[row.measure] > 0 else "worse"
        )
        rows[number] = replace(row, family=family, verdict=verdict)
    return rows
