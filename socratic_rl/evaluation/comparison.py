"""Base and tutor on the same held-out turns: what they say, measured without a judge, and which turns they prefer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from socratic_rl.core import provenance
from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import PreferencePair, Problem
from socratic_rl.core.errors import UserError
from socratic_rl.evaluation.held_out import HeldOutTurn, held_out_turns, replies
from socratic_rl.evaluation.judged_replies import judge_replies
from socratic_rl.evaluation.preferences import by_topic, compare_preferences
from socratic_rl.evaluation.speakers import VALIDATED, benchmark_hash, headline, other_speakers, sft_tutor, speaker_rows
from socratic_rl.evaluation.suites import Conditions, File, Options, Repliers, Result
from socratic_rl.evaluation.test_sets import not_trained_on
from socratic_rl.generators.tutors import ByTransformers
from socratic_rl.measures import registry
from socratic_rl.measures.figures import (
    EarlierReply,
    Figure,
    MarkedText,
    ReplyRow,
    SpeakerComparison,
    SpeakerFigure,
)
from socratic_rl.measures.intervals import compare_sides
from socratic_rl.models.tokens import fit_pairs
from socratic_rl.models.tutor import Opened, Tutor
from socratic_rl.pages import console

JUDGE_ANSWERS = "judge.jsonl"


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


def dialogue_rows(
    replies_of: Mapping[str, Sequence[MarkedText]],
    others: Mapping[str, Sequence[MarkedText]],
    turns: Sequence[HeldOutTurn],
) -> list[ReplyRow]:
    """The rows of ``replies.jsonl``: a held-out turn with what base, earlier rounds, tutor and others say."""
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
            others={name: texts[row] for name, texts in others.items()},
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
        # so is another base
        by_sft = sft_tutor(options.sft, tutor)
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
        measured = _measure(tutor, by_sft, rounds, repliers, fitted, dataset.read_problems(), options)
        dialogues = measured.dialogues
        problems = len({pair.problem_id for pair in fitted})
        facts = {
            "base": tutor.settings.name,
            "tutor": str(tutor.folder),
            "trained on": tutor.trained_on,
            "evaluated on": f"{dataset.path}, {options.split} split: {len(fitted)} pairs, {len(dialogues)} turns, "
            f"{problems} problems",
            **measured.facts,
            **round_lines,
            "DPO": tutor.settings_line(),
            "sampling": provenance.in_a_line(options.sampling.as_config()),
            **repliers.facts,
            "seed": str(options.seed),
            "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
            "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
        }
        title = f"Tutor against base, {len(fitted)} pairs and {len(dialogues)} turns"
        make_result = partial(_result, title, facts["evaluated on"].replace(dataset.path, dataset.file.name), measured)
        result = make_result(measured.figures, facts, closing)
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
            measured.figures + judged.figures, facts | judged.facts, closing | judged.facts, answers=judged.answers
        )


def _earlier_rounds(tutor: Tutor, repliers: Repliers) -> tuple[dict[str, Tutor], dict[str, str]]:
    """What the tutor was trained on top of, by name, and what is said of each; also why older ones are left out."""
    earlier, missing = tutor.earlier()
    if earlier and repliers.no_rounds:
        earlier, missing = [], repliers.no_rounds
    rounds = {f"round {number}": one_round for number, one_round in enumerate(earlier, 1)}
    lines = {name: f"{one_round.folder}: {one_round.trained_on}" for name, one_round in rounds.items()}
    return rounds, lines | ({"older rounds": f"left out: {missing}"} if missing else {})


@dataclass(frozen=True)
class _Measured:
    """What was measured of all speakers."""

    figures: list[Figure]
    speakers: list[SpeakerFigure]
    comparisons: list[SpeakerComparison]
    dialogues: list[ReplyRow]
    facts: dict[str, str]


def _measure(
    tutor: Tutor,
    by_sft: Tutor | None,
    rounds: Mapping[str, Tutor],
    repliers: Repliers,
    pairs: Sequence[PreferencePair],
    problems: Mapping[str, Problem],
    options: Options,
) -> _Measured:
    """The figures on pairs and on replies, and the rows of ``replies.jsonl``."""
    opened = {name: partial(tutor.round, one_round) for name, one_round in rounds.items()}
    models: dict[str, Opened] = {"base": tutor.base, **opened, "tutor": tutor.tutor}
    seed, resamples = options.seed, options.resamples
    on_pairs = compare_preferences(
        models, tutor.tokenizer, pairs, problems, options.sampling.width, seed=seed, resamples=resamples
    )
    turns = held_out_turns(pairs, problems)
    between = {name: ByTransformers(model, tutor.tokenizer, options.sampling) for name, model in opened.items()}
    generators = {"base": repliers.generators["base"], **between, "tutor": repliers.generators["tutor"]}
    replies_of = {name: replies(generator, turns, seed, f"{name} replies") for name, generator in generators.items()}
    others, notes = other_speakers(tutor, by_sft, repliers, turns, options)
    every = {**replies_of, **others}
    speakers, comparisons = speaker_rows(every, [turn.problem_id for turn in turns], problems, on_pairs, seed)
    return _Measured(
        on_pairs + compare_replies(replies_of, turns, problems, seed=seed, resamples=resamples),
        speakers,
        comparisons,
        dialogue_rows(replies_of, others, turns),
        {
            "headline": headline(speakers, comparisons),
            "validated": VALIDATED,
            "benchmark": benchmark_hash(turns),
            **notes,
        },
    )


def _result(
    title: str,
    evaluated_on: str,
    measured: _Measured,
    figures: Sequence[Figure],
    facts: Mapping[str, str],
    closing: Mapping[str, object],
    answers: Sequence[Mapping[str, Any]] | None = None,
) -> Result:
    # what is about one kind of rejection stands at the end
    ordered = sorted(figures, key=lambda figure: not figure.overall)
    contents = {
        "evaluation.json": {
            "figures": [asdict(figure) for figure in measured.speakers],
            "comparisons": [asdict(comparison) for comparison in measured.comparisons],
            "metrics": [figure.to_record() for figure in ordered],
            "facts": facts,
        },
        "replies.jsonl": measured.dialogues,
        # made from the others
        "report.html": None,
        **({} if answers is None else {JUDGE_ANSWERS: answers}),
    }
    return Result(
        "Evaluation",
        files={name: File(name, content) for name, content in contents.items()},
        show=partial(_show, title, ordered, measured),
        closing=closing,
        figures=ordered,
        score=ordered[0].tutor,
        conditions=Conditions(evaluated_on, facts["sampling"], facts.get("judge", "")),
    )


def _show(title: str, figures: Sequence[Figure], measured: _Measured) -> None:
    console.metrics_table(title, figures)
    console.speakers_table(measured.speakers, measured.comparisons)
    console.console().print(measured.facts["headline"])
