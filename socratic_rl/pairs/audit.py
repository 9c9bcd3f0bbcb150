"""The shortcut audit: how far a trivial rule tells chosen from rejected, so that a model need not learn to teach."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.measures import replies

WARN_AT = 0.85
"""The AUC from which a rule is called a shortcut."""


MOST = 20_000
"""Of more pairs so many are drawn."""


FEWEST = 50
"""The fewest pairs of one kind that are looked at alone."""


TOO_FEW = 3
"""Of fewer pairs nothing is said."""


FOLDS = 5
"""Folds of the cross-validation, and the fewest problems it needs."""


@dataclass(frozen=True)
class Shortcut:
    """How well one rule tells chosen from rejected."""

    rule: str
    """``length`` (in words), ``first_word``, or a label that pairs carry, such as ``author``."""
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
        """The larger of the two figures; 0.5 where there is none.

        A length points either way. What was learned points as it was learned: below 0.5 it does not hold elsewhere.
        """
        points_either_way = self.rule == "length"
        return max([0.5, *(max(auc, 1 - auc) if points_either_way else auc for auc in self._measured)])

    @property
    def _measured(self) -> list[float]:
        return [auc for auc in (self.auc, self.within_pairs) if auc is not None]

    def __str__(self) -> str:
        if self.auc is None:
            return f"not measured ({self.note})"
        is_shorter = self.rule == "length" and round(max(self._measured), 2) < round(self.strength, 2)
        notes = ["chosen are the shorter"] * is_shorter + [self.note] * bool(self.note)
        return f"AUC {self.strength:.2f}" + (f" ({'; '.join(notes)})" if notes else "")


def audit(pairs: Sequence[PreferencePair], seed: int = 0) -> list[Shortcut]:
    """How well the length alone, the first word alone, and each label alone, tell chosen from rejected.

    Over all pairs, and over each kind of rejection that has at least ``FEWEST``. What a first word or a label says is
    learned by logistic regression and judged on problems that it was not learned from.

    Args:
        pairs: The pairs; ``MOST`` of them are drawn where there are more.
        seed: For that draw.
    """
    drawn = random.Random(seed).sample(range(len(pairs)), MOST) if len(pairs) > MOST else range(len(pairs))
    note = f"{MOST} of {len(pairs)} pairs, drawn with seed {seed}" if len(pairs) > MOST else ""
    # they may be in a file
    pairs = [pairs[number] for number in drawn]
    kinds = sorted({pair.rejection for pair in pairs})
    labels = dict.fromkeys(name for pair in pairs for name in pair.labels or {})
    rules = {"length": _length, "first_word": _first_word} | {name: partial(_label, name) for name in labels}
    groups = {"all": pairs} | {kind: [pair for pair in pairs if pair.rejection == kind] for kind in kinds}
    return [
        Shortcut(rule, kind, auc, within_pairs, len(group), reason or note)
        for rule, measure in rules.items()
        for kind, group in groups.items()
        if group and (kind == "all" or (len(kinds) > 1 and len(group) >= FEWEST))
        for auc, within_pairs, reason in [measure(group)]
    ]


Remedy = Callable[[Sequence[str]], str]
"""What to try against a shortcut that is strong in these kinds of rejections; empty where there is nothing."""


def lower_weights(kinds: Sequence[str]) -> str:
    """A lower weight of these kinds, or several kinds in place of the one there is."""
    return " or ".join(f"a lower rejection.weights.{kind}" for kind in kinds) or "rejection=mixed"


def no_remedy(kinds: Sequence[str]) -> str:  # noqa: ARG001
    """Nothing to try, since the rejected sides are what they are."""
    return ""


def warnings(shortcuts: Sequence[Shortcut], remedy: Remedy = lower_weights) -> Iterator[str]:
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
        advice = remedy([*strong])
        yield (
            f"the {rule.replace('_', ' ')} alone tells chosen from rejected{where}; "
            f"a model can learn that instead of teaching{f': try {advice}' if advice else ''}"
        )


Figures = tuple[float | None, float | None, str]


def _length(pairs: Sequence[PreferencePair]) -> Figures:
    if len(pairs) < TOO_FEW:
        return None, None, f"{len(pairs)} {'pair is' if len(pairs) == 1 else 'pairs are'} too few"
    chosen, rejected = _sides(pairs)
    return *_auc([*map(replies.word_count, chosen)], [*map(replies.word_count, rejected)]), ""


def _first_word(pairs: Sequence[PreferencePair]) -> Figures:
    return _learned(pairs, *_sides(pairs), first_word)


def _label(name: str, pairs: Sequence[PreferencePair]) -> Figures:
    """What a label tells where pairs carry it."""
    labelled = [pair for pair in pairs if pair.labels and name in pair.labels]
    chosen, rejected = ([pair.labels[name][side] for pair in labelled if pair.labels] for side in (0, 1))
    return _learned(labelled, chosen, rejected, as_one)


def as_one(label: str) -> list[str]:
    """A label as one feature; a list, as it is a vectorizer's analyzer."""
    return [label]


def _learned(
    pairs: Sequence[PreferencePair],
    chosen: Sequence[str],
    rejected: Sequence[str],
    analyzer: Callable[[str], list[str]],
) -> Figures:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    problems = [pair.problem_id for pair in pairs]
    if (count := len(set(problems))) < FOLDS:
        return None, None, f"{count} problems are too few; at least {FOLDS} are needed"
    model = make_pipeline(CountVectorizer(analyzer=analyzer, binary=True), LogisticRegression(max_iter=1000))
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


def audit_rows(
    pairs: Sequence[PreferencePair], seed: int, remedy: Remedy = lower_weights
) -> tuple[dict[str, object], dict[str, float]]:
    """What the shortcut audit found, for the closing table and as figures."""
    shortcuts = audit(pairs, seed)
    overall = [shortcut for shortcut in shortcuts if shortcut.kind == "all"]
    rows: dict[str, object] = {f"{shortcut.rule.replace('_', ' ')} alone": str(shortcut) for shortcut in overall}
    if lines := list(warnings(shortcuts, remedy)):
        rows["warning"] = "\n".join(lines)
    return rows, {f"audit/{shortcut.rule}": shortcut.strength for shortcut in overall}
