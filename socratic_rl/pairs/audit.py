"""The shortcut audit: how far a trivial rule tells chosen from rejected, so that a model need not learn to teach."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.measures import replies

WARN_AT = 0.85
"""The AUC from which a rule is called a shortcut."""


MOST = 20_000
"""Of more pairs so many are drawn."""


FEWEST = 50
"""The fewest pairs of one kind that are looked at alone."""


FOLDS = 5
"""Folds of the cross-validation, and the fewest problems it needs."""


@dataclass(frozen=True)
class Shortcut:
    """How well one rule tells chosen from rejected."""

    rule: str
    """``length`` (in words) or ``first_word``."""
    kind: str
    """The kind of rejection, or ``all``."""
    auc: float | None
    """The chance that the rule ranks any chosen turn above any rejected one: 0.5 tells nothing, and a length below that
    means that chosen turns are the shorter ones. None where it cannot be measured."""
    within_pairs: float | None
    """The same for the two turns of one pair."""
    n: int
    """The number of pairs."""
    note: str = ""
    """Why there is no figure, or what it rests on."""

    @property
    def strength(self) -> float:
        """The larger of the two figures, whichever way the rule points; 0.5 where there is none."""
        return max((max(auc, 1 - auc) for auc in (self.auc, self.within_pairs) if auc is not None), default=0.5)


def audit(pairs: Sequence[PreferencePair], seed: int = 0) -> list[Shortcut]:
    """How well the length alone, and the first word alone, tell chosen from rejected.

    Over all pairs, and over each kind of rejection that has at least ``FEWEST``. What the first word says is learned by
    logistic regression and judged on problems that it was not learned from.

    Args:
        pairs: The pairs; ``MOST`` of them are drawn where there are more.
        seed: For that draw.
    """
    drawn = random.Random(seed).sample(range(len(pairs)), MOST) if len(pairs) > MOST else range(len(pairs))
    note = f"{MOST} of {len(pairs)} pairs, drawn with seed {seed}" if len(pairs) > MOST else ""
    # they may be in a file
    pairs = [pairs[number] for number in drawn]
    kinds = sorted({pair.rejection for pair in pairs})
    groups = {"all": pairs} | {kind: [pair for pair in pairs if pair.rejection == kind] for kind in kinds}
    return [
        Shortcut(rule, kind, auc, within_pairs, len(group), reason or note)
        for rule, measure in (("length", _length), ("first_word", _first_word))
        for kind, group in groups.items()
        if group and (kind == "all" or (len(kinds) > 1 and len(group) >= FEWEST))
        for auc, within_pairs, reason in [measure(group)]
    ]


def warnings(shortcuts: Sequence[Shortcut]) -> Iterator[str]:
    """One line for every rule whose figure reaches ``WARN_AT``: in which kinds of rejections, and what to try."""
    for rule in dict.fromkeys(shortcut.rule for shortcut in shortcuts):
        strong = {s.kind: s.strength for s in shortcuts if s.rule == rule and s.strength >= WARN_AT}
        if not strong:
            continue
        overall = strong.pop("all", None)
        kinds = ", ".join(f"{kind} ({strength:.2f})" for kind, strength in strong.items())
        where = (
            f" in {kinds}"
            if overall is None
            else f" (AUC {overall:.2f})" + (f", above all in {kinds}" if kinds else "")
        )
        lower = " or ".join(f"a lower rejection.weights.{kind}" for kind in strong) or "rejection=mixed"
        yield (
            f"the {rule.replace('_', ' ')} alone tells chosen from rejected{where}; "
            f"a model can learn that instead of teaching: try {lower}"
        )


Figures = tuple[float | None, float | None, str]


def _length(pairs: Sequence[PreferencePair]) -> Figures:
    chosen, rejected = _sides(pairs)
    return *_auc([*map(replies.word_count, chosen)], [*map(replies.word_count, rejected)]), ""


def _first_word(pairs: Sequence[PreferencePair]) -> Figures:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    problems = [pair.problem_id for pair in pairs]
    if (count := len(set(problems))) < FOLDS:
        return None, None, f"{count} problems are too few; at least {FOLDS} are needed"
    chosen, rejected = _sides(pairs)
    model = make_pipeline(CountVectorizer(analyzer=first_word, binary=True), LogisticRegression(max_iter=1000))
    scores = cross_val_predict(
        model,
        [*chosen, *rejected],
        [1] * len(pairs) + [0] * len(pairs),
        groups=[*problems, *problems],
        cv=GroupKFold(FOLDS),
        method="decision_function",
    )
    return *_auc(scores[: len(pairs)], scores[len(pairs) :]), ""


def first_word(text: str) -> list[str]:
    """The first word of a text without marks around it; a list, as it is a vectorizer's analyzer."""
    words = (word.strip(".,!?:;\"'“”‘’()*_-…") for word in text.casefold().split())
    return [next((word for word in words if word), "")]


def _sides(pairs: Sequence[PreferencePair]) -> tuple[list[str], list[str]]:
    return [pair.chosen_text for pair in pairs], [pair.rejected_text for pair in pairs]


def _auc(chosen: Sequence[float], rejected: Sequence[float]) -> tuple[float, float]:
    """Over all chosen and rejected turns, and within the pairs, where a tie counts half."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([1, 0], [len(chosen), len(rejected)])
    difference = np.subtract(chosen, rejected)
    within = (np.sign(difference).mean() + 1) / 2
    return float(roc_auc_score(labels, np.concatenate([chosen, rejected]))), float(within)


def audit_rows(pairs: Sequence[PreferencePair], seed: int) -> tuple[dict[str, object], dict[str, float]]:
    """What the shortcut audit found, for the closing table and as figures."""
    shortcuts = audit(pairs, seed)
    rows: dict[str, object] = {}
    figures = {}
    for shortcut in shortcuts:
        if shortcut.kind == "all":
            figure = f"AUC {shortcut.auc:.2f}" if shortcut.auc is not None else "not measured"
            note = f" ({shortcut.note})" if shortcut.note else ""
            rows[f"{shortcut.rule.replace('_', ' ')} alone"] = figure + note
            figures[f"audit/{shortcut.rule}"] = shortcut.strength
    if lines := list(warnings(shortcuts)):
        rows["warning"] = "\n".join(lines)
    return rows, figures
