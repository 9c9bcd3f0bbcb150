"""Base and tutor on the same held-out turns: what they say, measured without a judge, and which turns they prefer."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from socratic_rl.core.dialogue import Message, PreferencePair, Problem, from_messages, render_transcript, seed_from
from socratic_rl.core.generator import Generator, Sampling, in_order
from socratic_rl.evaluation.judge import Case, Judge, alike
from socratic_rl.generators.tutors import ByTransformers, chat_requests
from socratic_rl.measures import replies as measures
from socratic_rl.measures.intervals import NO_ROUNDS, metric_row
from socratic_rl.models.scoring import reward_margins, rewarded, score_pairs
from socratic_rl.models.tutor import Opened

FEW_PROBLEMS = 3
"""Topics of fewer problems are measured together."""


REPLY_MEASURES = ("asks_question", "reveals_answer", "speaks_for_student", "repeats_turn", "cut_off", "words")


@dataclass(frozen=True)
class HeldOutTurn:
    """A place in a held-out dialogue where the teacher speaks next."""

    problem_id: str
    conversation_id: str
    turn: int
    prompt: list[Message]
    reference: str
    """What the dialogue's own teacher says here."""
    question: str
    answer: str
    """The gold answer; empty where it is not known."""
    topic: str


def held_out_turns(pairs: Sequence[PreferencePair], problems: Mapping[str, Problem]) -> list[HeldOutTurn]:
    """Every distinct turn of the pairs, in their order.

    Args:
        pairs: Of the split to evaluate on; one turn may have several pairs.
        problems: By id. A problem that is not there has no gold answer, so that revealing is not measured on it.
    """
    turns: dict[tuple[str, int], HeldOutTurn] = {}
    for pair in pairs:
        problem = problems.get(pair.problem_id)
        turns.setdefault(
            (pair.conversation_id, pair.turn),
            HeldOutTurn(
                problem_id=pair.problem_id,
                conversation_id=pair.conversation_id,
                turn=pair.turn,
                prompt=pair.prompt,
                reference=pair.chosen[-1]["content"],
                question=problem.question if problem else "",
                answer=problem.answer if problem else "",
                topic=problem.topic if problem else "",
            ),
        )
    return list(turns.values())


def replies(generator: Generator, turns: Sequence[HeldOutTurn], seed: int, label: str) -> list[dict[str, Any]]:
    """What somebody says at each turn, and its marks.

    The seed of each reply comes from its turn, so that base and tutor draw alike.

    Returns:
        For each turn ``text`` and ``marks``, the measures by name.
    """
    seeds = [seed_from(seed, turn.conversation_id, turn.turn) for turn in turns]
    requests = chat_requests([turn.prompt for turn in turns], seeds)
    return [
        {"text": reply.text, "marks": marks(reply.text, reply.finish == "length", turn)}
        for turn, reply in zip(turns, in_order(generator.generate(requests), len(turns), label), strict=True)
    ]


def marks(reply: str, cut_off: bool, turn: HeldOutTurn) -> dict[str, bool | int | None]:
    """The judge-free measures of one reply; ``None`` where a measure is not defined."""
    found = measures.spans(reply, turn.answer, turn.question, turn.prompt)
    return {
        **{name: None if places is None else bool(places) for name, places in found.items()},
        "cut_off": cut_off,
        "words": measures.word_count(reply),
    }


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    metrics: list[dict[str, Any]]
    """The rows of ``evaluation.json``."""
    dialogues: list[dict[str, Any]]
    """The rows of ``replies.jsonl``: a held-out turn with what base and tutor say."""


def evaluate(
    base: Opened,
    tutor: Opened,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    problems: Mapping[str, Problem],
    generators: Mapping[str, Generator],
    sampling: Sampling,
    *,
    seed: int,
    resamples: int,
    earlier: Mapping[str, Opened] = NO_ROUNDS,
) -> Evaluation:
    """Compare a tutor with its base on held-out pairs and turns.

    Args:
        base: Opens the base, for which turns it prefers.
        tutor: Opens the tutor, likewise.
        tokenizer: Of both.
        pairs: Held-out pairs, fitted into the model's length.
        problems: By id, for gold answers and topics.
        generators: What replies as ``base`` and as ``tutor``.
        sampling: How replies of earlier rounds are drawn.
        seed: Of sampling and of the bootstrap.
        resamples: Of the bootstrap.
        earlier: Opens what the tutor was trained on top of, by name, oldest first.
    """
    rows = compare_preferences(
        base, tutor, tokenizer, pairs, problems, sampling.width, seed=seed, resamples=resamples, earlier=earlier
    )
    turns = held_out_turns(pairs, problems)
    between = {name: ByTransformers(opened, tokenizer, sampling) for name, opened in earlier.items()}
    everybody = {"base": generators["base"], **between, "tutor": generators["tutor"]}
    said = {name: replies(one, turns, seed, f"{name} replies") for name, one in everybody.items()}
    groups = [turn.problem_id for turn in turns]
    for kind, chosen in [("all", range(len(turns))), *_by_topic(groups, problems)]:
        for measure in REPLY_MEASURES:
            values = {name: [found[row]["marks"][measure] for row in chosen] for name, found in said.items()}
            of = [groups[row] for row in chosen]
            past = {name: values[name] for name in earlier}
            row = metric_row(
                measure, kind, values["base"], values["tutor"], of, seed=seed, resamples=resamples, earlier=past
            )
            rows.append(row)
    dialogues = [
        {
            **asdict(turn),
            "base": base_reply["text"],
            "tutor": tutor_reply["text"],
            "base_marks": base_reply["marks"],
            "tutor_marks": tutor_reply["marks"],
            "earlier": [{"name": name, **said[name][place]} for name in earlier],
        }
        for place, (turn, base_reply, tutor_reply) in enumerate(zip(turns, said["base"], said["tutor"], strict=True))
    ]
    return Evaluation(rows, dialogues)


@dataclass(frozen=True)
class Judged:
    """What a judge said of the replies of an evaluation."""

    metrics: list[dict[str, Any]]
    """Rows as in ``evaluation.json``, with ``agreement``: the judge's κ against people, None where it is not known."""
    answers: list[dict[str, Any]]
    """The rows of ``judge.jsonl``: what it wrote, and what was read of it."""
    facts: dict[str, str]


def judge_replies(
    judge: Judge,
    dialogues: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    resamples: int,
    kept: Path | None = None,
) -> Judged:
    """Let a judge compare what the tutor says with what its base says, in both orders, and so each earlier round.

    With earlier rounds the base is shown beside each of them, and its score is the mean.

    Args:
        judge: The judge.
        dialogues: The rows of ``replies.jsonl``.
        seed: Of the judge's sampling and of the bootstrap.
        resamples: Of the bootstrap.
        kept: Keeps the judge's answers as they come.

    Raises:
        UserError: The judge's calibration is another judge's, or its generator fails.
    """
    agreement = judge.agreement()
    past = [reply["name"] for reply in dialogues[0]["earlier"]]
    # a turn, who speaks beside the base, and what they say
    shown = [
        (row, name, text)
        for row in dialogues
        for name, text in zip(
            (*past, "tutor"), (*(reply["text"] for reply in row["earlier"]), row["tutor"]), strict=True
        )
    ]
    cases = [
        Case(render_transcript(from_messages(row["prompt"])), (row["base"], text), row["answer"])
        for row, _, text in shown
    ]
    verdicts = judge.judge(cases, seed, kept)
    groups = [row["problem_id"] for row in dialogues]
    rows = []
    for criterion in judge.criteria:
        by_case = [[judge.score(verdict, reply, criterion) for verdict in verdicts] for reply in (0, 1)]
        # turn by turn, in the order of the sides
        of_base, of_others = (np.array(scores, dtype=float).reshape(len(dialogues), -1).T for scores in by_case)
        base, *others = ([None if np.isnan(one) else one for one in of] for of in (of_base.mean(0), *of_others))
        *before, tutor = others
        row = metric_row(
            f"judge/{criterion}",
            "all",
            base,
            tutor,
            groups,
            seed=seed,
            resamples=resamples,
            earlier=dict(zip(past, before, strict=True)),
        )
        rows.append(row | {"agreement": agreement.get(criterion)})
    answers = [
        {
            "conversation_id": row["conversation_id"],
            "turn": row["turn"],
            "shown": [("base", name)[reply] for reply in answer.shown],
            "raw": answer.raw,
            "labels": answer.labels,
        }
        for (row, name, _), verdict in zip(shown, verdicts, strict=True)
        for answer in verdict.answers
    ]
    same, twice = alike(verdicts, judge.criteria)
    facts = judge.facts() | {
        "judge's answers": f"{len(answers)}, of which {sum(verdict.unreadable for verdict in verdicts)} unreadable; "
        f"{same} of {twice} labels are the same in both orders",
    }
    return Judged(rows, answers, facts)


def compare_preferences(
    base: Opened,
    tutor: Opened,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    problems: Mapping[str, Problem],
    batch_size: int,
    *,
    seed: int,
    resamples: int,
    earlier: Mapping[str, Opened] = NO_ROUNDS,
) -> list[dict[str, Any]]:
    """Which turns of pairs base and tutor prefer: rows as in ``evaluation.json``, of all pairs, each kind, each topic.

    Args:
        base: Opens the base.
        tutor: Opens the tutor.
        tokenizer: Of both.
        pairs: Fitted into the model's length.
        problems: By id, for topics.
        batch_size: Pairs at once.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        earlier: Opens what the tutor was trained on top of, by name, oldest first. Its reference here is the base, as
            the tutor's is, whatever it was trained against.
    """
    scores = {}
    for name, opened in {"base": base, **earlier, "tutor": tutor}.items():
        with opened() as model:
            scores[name] = score_pairs(model, tokenizer, pairs, batch_size, f"{name} on pairs")
    found = {
        "preference_accuracy": {name: rewarded(score, scores["base"]) for name, score in scores.items()},
        "ranking_accuracy": {name: score.likelier() for name, score in scores.items()},
        "log_ratio_margin": {
            name: reward_margins(score, scores["base"]) for name, score in scores.items() if name != "base"
        },
    }
    rows: list[dict[str, Any]] = []
    for kind, chosen in [*_by_kind(pairs), *_by_topic([pair.problem_id for pair in pairs], problems)]:
        groups = [pairs[row].problem_id for row in chosen]
        for name, sides in found.items():
            values = {side: of_all[chosen].tolist() for side, of_all in sides.items()}
            past = {side: values[side] for side in earlier}
            row = metric_row(
                name, kind, values.get("base"), values["tutor"], groups, seed=seed, resamples=resamples, earlier=past
            )
            rows.append(row)
    return rows


def _by_kind(pairs: Sequence[PreferencePair]) -> Iterator[tuple[str, list[int]]]:
    """The rows of all pairs, then of each kind of rejection where there are several."""
    yield "all", list(range(len(pairs)))
    kinds = sorted({pair.rejection for pair in pairs})
    for kind in kinds if len(kinds) > 1 else ():
        yield kind, [row for row, pair in enumerate(pairs) if pair.rejection == kind]


def _by_topic(problem_ids: Sequence[str], problems: Mapping[str, Problem]) -> Iterator[tuple[str, list[int]]]:
    """The rows of each problem topic where there are several; topics of few problems go together, as "other"."""
    topics = {id_: problems[id_].topic if id_ in problems else "" for id_ in problem_ids}
    counts = Counter(topics.values())
    named = [topic if (topic := topics[id_]) and counts[topic] >= FEW_PROBLEMS else "other" for id_ in problem_ids]
    kinds = sorted(set(named), key=lambda topic: (topic == "other", topic))
    for kind in kinds if len(kinds) > 1 else ():
        yield f"{measures.TOPIC}{kind}", [row for row, topic in enumerate(named) if topic == kind]


def sample_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    sampling: Sampling,
    seed: int,
) -> list[dict[str, Any]]:
    """A few replies beside what the dialogue's own teacher says: ``prompt`` (chat messages), its last turn as
    ``student``, ``reply`` and ``teacher``.
    """
    turns = held_out_turns(pairs, {})
    generator = ByTransformers(lambda: nullcontext(model), tokenizer, sampling)
    said = replies(generator, turns, seed, "sample replies")
    return [
        {
            "prompt": turn.prompt,
            "student": turn.prompt[-1]["content"],
            "reply": reply["text"],
            "teacher": turn.reference,
        }
        for turn, reply in zip(turns, said, strict=True)
    ]
