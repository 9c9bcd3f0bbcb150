"""Base and tutor on the same held-out turns: what they say, measured without a judge, and which turns they prefer."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from socratic_rl.core import provenance
from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Message, PreferencePair, Problem, Step, seed_from, turn_key
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Generator, Sampling, in_order
from socratic_rl.evaluation.judged_replies import judge_replies
from socratic_rl.evaluation.preferences import by_topic, compare_preferences
from socratic_rl.evaluation.suites import Conditions, File, Options, Repliers, Result
from socratic_rl.evaluation.test_sets import not_trained_on
from socratic_rl.generators.tutors import ByTransformers, chat_requests
from socratic_rl.measures import registry
from socratic_rl.measures.figures import EarlierReply, Figure, MarkedText, Marks, ReplyRow
from socratic_rl.measures.intervals import compare_sides
from socratic_rl.models.tokens import fit_pairs
from socratic_rl.models.tutor import Opened, Tutor
from socratic_rl.pages import console

JUDGE_ANSWERS = "judge.jsonl"


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
    steps: tuple[Step, ...] = ()
    """Of the worked solution; empty where it is not known."""


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
            turn_key(pair),
            HeldOutTurn(
                problem_id=pair.problem_id,
                conversation_id=pair.conversation_id,
                turn=pair.turn,
                prompt=pair.prompt,
                reference=pair.chosen[-1]["content"],
                question=problem.question if problem else "",
                answer=problem.answer if problem else "",
                topic=problem.topic if problem else "",
                steps=problem.steps if problem else (),
            ),
        )
    return list(turns.values())


def replies(generator: Generator, turns: Sequence[HeldOutTurn], seed: int, label: str) -> list[MarkedText]:
    """What a model says at each turn, and its marks.

    The seed of each reply comes from its turn, so that base and tutor draw alike.

    Returns:
        For each turn ``text`` and ``marks``, the measures by name.
    """
    seeds = [seed_from(seed, turn.conversation_id, turn.turn) for turn in turns]
    requests = chat_requests([turn.prompt for turn in turns], seeds)
    return [
        MarkedText(text=reply.text, marks=marks(reply.text, reply.finish == "length", turn))
        for turn, reply in zip(turns, in_order(generator.generate(requests), len(turns), label), strict=True)
    ]


def marks(reply: str, cut_off: bool, turn: HeldOutTurn) -> Marks:
    """The judge-free measures of one reply; ``None`` where a measure is not defined."""
    return registry.marks_of(
        registry.MeasuredReply.of(reply, turn.answer, turn.question, turn.prompt, cut_off, turn.steps)
    )


def compare_replies(
    replies_of: Mapping[str, Sequence[MarkedText]],
    turns: Sequence[HeldOutTurn],
    problems: Mapping[str, Problem],
    *,
    seed: int,
    resamples: int,
) -> list[Figure]:
    """The figures on replies: of all turns, of each topic.

    Args:
        replies_of: By ``base``, the names of earlier rounds and ``tutor``, as ``replies`` gives them.
        turns: What they reply to.
        problems: By id, for topics.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    problem_ids = [turn.problem_id for turn in turns]
    figures = []
    for kind, rows in [("all", range(len(turns))), *by_topic(problem_ids, problems)]:
        groups = [problem_ids[row] for row in rows]
        for measure in registry.OF_REPLIES:
            values = {
                name: [replies_of_side[row]["marks"][measure] for row in rows]
                for name, replies_of_side in replies_of.items()
            }
            base, tutor = values.pop("base"), values.pop("tutor")
            figure = compare_sides(measure, kind, base, tutor, groups, seed=seed, resamples=resamples, earlier=values)
            figures.append(figure)
    return figures


def dialogue_rows(replies_of: Mapping[str, Sequence[MarkedText]], turns: Sequence[HeldOutTurn]) -> list[ReplyRow]:
    """The rows of ``replies.jsonl``: a held-out turn with what base, earlier rounds and tutor say."""
    past = [name for name in replies_of if name not in ("base", "tutor")]
    return [
        ReplyRow(
            problem_id=turn.problem_id,
            conversation_id=turn.conversation_id,
            turn=turn.turn,
            prompt=turn.prompt,
            reference=turn.reference,
            question=turn.question,
            answer=turn.answer,
            topic=turn.topic,
            steps=[step.to_record() for step in turn.steps],
            base=base["text"],
            tutor=tutor["text"],
            base_marks=base["marks"],
            tutor_marks=tutor["marks"],
            earlier=[EarlierReply(name=name, **replies_of[name][row]) for name in past],
        )
        for row, (turn, base, tutor) in enumerate(zip(turns, replies_of["base"], replies_of["tutor"], strict=True))
    ]


class Comparison(Component):
    """Base, earlier rounds and tutor on held-out pairs and turns: what ``evaluate.py`` does without ``suite``."""

    asks_tutor: ClassVar[bool] = True

    def run(self, tutor: Tutor, options: Options) -> Result:
        """Compare them; see ``Suite``.

        Raises:
            UserError: There is no such pair, or a judge's calibration is another judge's.
        """
        repliers = options.repliers()
        if options.judge:
            # another judge's calibration is told before any weights are loaded
            options.judge.agreement()
        rounds, round_lines = _earlier_rounds(tutor, repliers)
        dataset, pairs = options.held_out(tutor)
        if not pairs:
            raise UserError(f"split: {dataset.path} has no {options.split} pairs")
        closing: dict[str, object] = {**round_lines}
        if options.other_dataset and options.split != "train":
            pairs, closing["trained on"] = not_trained_on(pairs, tutor, f"dataset.path: {dataset.path}")
        options.begin()

        fitted = fit_pairs(
            pairs[: options.limit], tutor.tokenizer, tutor.max_length, trained_in=f"dataset.path: {dataset.path}"
        ).pairs
        figures, dialogues = _measure(tutor, rounds, repliers, fitted, dataset.read_problems(), options)
        problems = len({pair.problem_id for pair in fitted})
        facts = {
            "base": tutor.settings.name,
            "tutor": str(tutor.folder),
            "trained on": tutor.trained_on,
            "evaluated on": f"{dataset.path}, {options.split} split: {len(fitted)} pairs, {len(dialogues)} turns, "
            f"{problems} problems",
            **round_lines,
            "DPO": tutor.settings_line(),
            "sampling": provenance.in_a_line(options.sampling.as_config()),
            **repliers.facts,
            "seed": str(options.seed),
            "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
            "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
        }
        title = f"Tutor against base, {len(fitted)} pairs and {len(dialogues)} turns"
        make_result = partial(_result, title, facts["evaluated on"].replace(dataset.path, dataset.file.name), dialogues)
        result = make_result(figures, facts, closing)
        if options.judge is None:
            return result
        # a judge that fails takes none of this along
        result.write(options.folder)
        judged = judge_replies(
            options.judge,
            dialogues,
            seed=options.seed,
            resamples=options.resamples,
            answers_path=options.folder / JUDGE_ANSWERS,
        )
        return make_result(
            figures + judged.figures, facts | judged.facts, closing | judged.facts, answers=judged.answers
        )


def _earlier_rounds(tutor: Tutor, repliers: Repliers) -> tuple[dict[str, Tutor], dict[str, str]]:
    """What the tutor was trained on top of, by name, and what is said of each; also why older ones are left out."""
    earlier, missing = tutor.earlier()
    if earlier and repliers.no_rounds:
        earlier, missing = [], repliers.no_rounds
    rounds = {f"round {number}": one_round for number, one_round in enumerate(earlier, 1)}
    lines = {name: f"{one_round.folder}: {one_round.trained_on}" for name, one_round in rounds.items()}
    return rounds, lines | ({"older rounds": f"left out: {missing}"} if missing else {})


def _measure(
    tutor: Tutor,
    rounds: Mapping[str, Tutor],
    repliers: Repliers,
    pairs: Sequence[PreferencePair],
    problems: Mapping[str, Problem],
    options: Options,
) -> tuple[list[Figure], list[ReplyRow]]:
    """The figures on pairs and on replies, and the rows of ``replies.jsonl``."""
    opened = {name: partial(tutor.round, one_round) for name, one_round in rounds.items()}
    models: dict[str, Opened] = {"base": tutor.base, **opened, "tutor": tutor.tutor}
    seed, resamples = options.seed, options.resamples
    figures = compare_preferences(
        models, tutor.tokenizer, pairs, problems, options.sampling.width, seed=seed, resamples=resamples
    )
    turns = held_out_turns(pairs, problems)
    between = {name: ByTransformers(model, tutor.tokenizer, options.sampling) for name, model in opened.items()}
    generators = {"base": repliers.generators["base"], **between, "tutor": repliers.generators["tutor"]}
    replies_of = {name: replies(generator, turns, seed, f"{name} replies") for name, generator in generators.items()}
    figures += compare_replies(replies_of, turns, problems, seed=seed, resamples=resamples)
    return figures, dialogue_rows(replies_of, turns)


def _result(
    title: str,
    evaluated_on: str,
    dialogues: Sequence[ReplyRow],
    figures: Sequence[Figure],
    facts: Mapping[str, str],
    closing: Mapping[str, object],
    answers: Sequence[Mapping[str, Any]] | None = None,
) -> Result:
    # what is about one kind of rejection stands at the end
    ordered = sorted(figures, key=lambda figure: not figure.overall)
    contents = {
        "evaluation.json": {"metrics": [figure.to_record() for figure in ordered], "facts": facts},
        "replies.jsonl": dialogues,
        # made from the others
        "report.html": None,
        **({} if answers is None else {JUDGE_ANSWERS: answers}),
    }
    return Result(
        "Evaluation",
        files={name: File(name, content) for name, content in contents.items()},
        show=partial(console.metrics_table, title, ordered),
        closing=closing,
        figures=ordered,
        score=ordered[0].tutor,
        conditions=Conditions(evaluated_on, facts["sampling"], facts.get("judge", "")),
    )


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
    sampled = replies(generator, turns, seed, "sample replies")
    return [
        {
            "prompt": turn.prompt,
            "student": turn.prompt[-1]["content"],
            "reply": reply["text"],
            "teacher": turn.reference,
        }
        for turn, reply in zip(turns, sampled, strict=True)
    ]
