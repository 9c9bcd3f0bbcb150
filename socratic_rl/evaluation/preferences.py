"""Which turns of pairs base and tutor prefer."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from socratic_rl.core.dialogue import PreferencePair, Problem
from socratic_rl.measures.figures import TOPIC, Figure
from socratic_rl.measures.intervals import compare_sides
from socratic_rl.models.scoring import reward_margins, rewarded, score_pairs
from socratic_rl.models.tutor import Opened

FEW_PROBLEMS = 3
"""Topics of fewer problems are measured together."""


def compare_preferences(
    models: Mapping[str, Opened],
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    problems: Mapping[str, Problem],
    batch_size: int,
    *,
    seed: int,
    resamples: int,
) -> list[Figure]:
    """The figures on pairs: of all, of each kind of rejection, of each topic.

    Args:
        models: Opens ``base``, then what the tutor was trained on top of, oldest first, then ``tutor``. The reference
            of earlier rounds is the base here, as the tutor's is, whatever they were trained against.
        tokenizer: Of all.
        pairs: Fitted into the model's length.
        problems: By id, for topics.
        batch_size: Pairs at once.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    scores = {}
    for name, opened in models.items():
        with opened() as model:
            scores[name] = score_pairs(model, tokenizer, pairs, batch_size, f"{name} on pairs")
    measured = {
        "preference_accuracy": {name: rewarded(score, scores["base"]) for name, score in scores.items()},
        "ranking_accuracy": {name: score.likelier() for name, score in scores.items()},
        "log_ratio_margin": {
            name: reward_margins(score, scores["base"]) for name, score in scores.items() if name != "base"
        },
    }
    figures = []
    for kind, rows in [*_by_kind(pairs), *by_topic([pair.problem_id for pair in pairs], problems)]:
        groups = [pairs[row].problem_id for row in rows]
        for name, sides in measured.items():
            values = {side: of_all[rows].tolist() for side, of_all in sides.items()}
            base, tutor = values.pop("base", None), values.pop("tutor")
            figure = compare_sides(name, kind, base, tutor, groups, seed=seed, resamples=resamples, earlier=values)
            figures.append(figure)
    return figures


def _by_kind(pairs: Sequence[PreferencePair]) -> Iterator[tuple[str, list[int]]]:
    """The rows of all pairs, then of each kind of rejection where there are several."""
    yield "all", list(range(len(pairs)))
    kinds = sorted({pair.rejection for pair in pairs})
    for kind in kinds if len(kinds) > 1 else ():
        yield kind, [row for row, pair in enumerate(pairs) if pair.rejection == kind]


def by_topic(problem_ids: Sequence[str], problems: Mapping[str, Problem]) -> Iterator[tuple[str, list[int]]]:
    """The rows of each problem topic where there are several; topics of few problems go together, as "other"."""
    topics = {id_: problems[id_].topic if id_ in problems else "" for id_ in problem_ids}
    counts = Counter(topics.values())
    named = [topic if (topic := topics[id_]) and counts[topic] >= FEW_PROBLEMS else "other" for id_ in problem_ids]
    kinds = sorted(set(named), key=lambda topic: (topic == "other", topic))
    for kind in kinds if len(kinds) > 1 else ():
        yield f"{TOPIC}{kind}", [row for row, topic in enumerate(named) if topic == kind]
