"""The judge-free measures against what people say of the same replies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from socratic_rl.core.component import Component, Count, ExistingFile
from socratic_rl.core.dialogue import Record, render_transcript, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import parse_record
from socratic_rl.core.rows import read_rows
from socratic_rl.evaluation import mrbench as mrbench_module
from socratic_rl.evaluation.judge import Case, Judge, Verdict, alike
from socratic_rl.evaluation.rubric import Criterion
from socratic_rl.evaluation.suites import File, Options, Result
from socratic_rl.measures import replies as replies_module
from socratic_rl.measures.figures import CriterionAgreement, LabelAgreement
from socratic_rl.measures.intervals import agreement, score_agreement
from socratic_rl.notation import answers as answers_module
from socratic_rl.pages import console


@dataclass(frozen=True)
class Judged:
    """A reply that people judged."""

    set: str
    where: str
    dialogue: str
    """The same for all replies to one dialogue."""
    reply: str
    answer: str
    """The gold answer; empty where the set does not tell it."""
    before: tuple[str, ...]
    """The problem, then every earlier turn."""
    asks: bool | None = None
    """Whether people say that it asks; None where the set does not say."""
    reveals: bool | None = None
    """Whether people say that it gives the right answer away."""


def _states_answer(row: Judged) -> bool | None:
    return answers_module.states(row.reply, row.answer) if row.answer else None


MEASURES: dict[str, tuple[Literal["asks", "reveals"], Callable[[Judged], bool | None]]] = {
    "asks_question": ("asks", lambda row: replies_module.asks_question(row.reply)),
    "reveals_answer": ("reveals", lambda row: replies_module.reveals_answer(row.reply, row.answer, row.before)),
    # bare rules, to see what the measures add to them
    "has_question_mark": ("asks", lambda row: "?" in row.reply),
    "states_answer": ("reveals", _states_answer),
}
"""Each measure that people have labels for, with the label that it faces."""


class PeoplesVerdict(Record):
    """What people say of a reply by the four criteria of Socratic-LLM, of which two face a judge-free measure."""

    model_config = ConfigDict(frozen=True, extra="allow")

    questions: Literal["yes", "no"]
    reveal_answer: Literal["yes", "no"]


class Judgement(Record):
    """A row of the judgements."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    output: str
    evaluation: PeoplesVerdict


class HumanLabels(Component):
    """Replies with people's labels, in the files of two data sets; either may be None."""

    mrbench: ExistingFile | None
    """MRBench: "Yes (and the answer is correct)" is yes; a wrong answer gives nothing away, so it is no."""
    judgements: ExistingFile | None
    """Replies with ``evaluation.questions`` and ``evaluation.reveal_answer``; no gold answers."""

    asks_tutor: ClassVar[bool] = False

    def mistakes(self) -> list[str]:
        """Files that do not exist, or none given."""
        if not self.mrbench and not self.judgements:
            return ["mrbench: a file is needed here, as suite.judgements, or as both"]
        return super().mistakes()

    def run(self, tutor: None, options: Options) -> Result:  # noqa: ARG002
        """Compare the judge-free measures with what people say; see ``Suite``."""
        rows, disagreements = compare(list(self.read()), options.resamples, options.seed)
        contents = {"human_labels.json": [row.to_record() for row in rows], "disagreements.jsonl": disagreements}
        files = {name: File(name, content) for name, content in contents.items()}
        return Result("Files", files, partial(console.print_human_labels, rows), closing={})

    def read(self) -> Iterator[Judged]:
        """The judged replies.

        Raises:
            UserError: A file is another one, or a row lacks something; names the file and the line.
        """
        for where, dialogue in mrbench_module.read(self.mrbench) if self.mrbench else ():
            before = tuple(turn.text for turn in dialogue.turns)
            for tutor, reply in dialogue.replies.items():
                yield Judged(
                    "mrbench",
                    f"{where}, {tutor}",
                    dialogue.id,
                    reply.text,
                    dialogue.answer,
                    before,
                    reveals=reply.labels.reveals == mrbench_module.RIGHT,
                )
        for where, row in self.read_judgements():
            yield Judged(
                "judgements",
                where,
                text_id(row.prompt),
                row.output,
                "",
                (),
                asks=row.evaluation.questions == "yes",
                reveals=row.evaluation.reveal_answer == "yes",
            )

    def read_judgements(self) -> Iterator[tuple[str, Judgement]]:
        """The rows of the judgements, each with its place; none where there is no such file."""
        columns = ("prompt", "output", "evaluation")
        for where, row in read_rows(self.judgements, columns=columns) if self.judgements else ():
            yield where, parse_record(Judgement, where, row)


def compare(judged: Sequence[Judged], resamples: int, seed: int) -> tuple[list[LabelAgreement], list[dict[str, Any]]]:
    """How well each measure agrees with people, by measure and set, and the replies on which they differ."""
    rows, disagreements = [], []
    for measure, (label, measured) in MEASURES.items():
        for name in dict.fromkeys(row.set for row in judged):
            labelled = [row for row in judged if row.set == name and getattr(row, label) is not None]
            if not labelled:
                continue
            both = [(row, bool(value)) for row in labelled if (value := measured(row)) is not None]
            people = [bool(getattr(row, label)) for row, _ in both]
            dialogues = [row.dialogue for row, _ in both]
            figures = agreement([value for _, value in both], people, dialogues, resamples=resamples, seed=seed)
            rows.append(
                LabelAgreement(
                    measure=measure,
                    set=name,
                    **figures,
                    n=len(both),
                    dialogues=len(set(dialogues)),
                    people=sum(people),
                    without_answer=len(labelled) - len(both),
                )
            )
            disagreements += [
                {
                    "measure": measure,
                    "set": name,
                    "where": row.where,
                    "people": yes,
                    "measured": value,
                    "answer": row.answer,
                    "reply": row.reply,
                    "before": row.before[-1] if row.before else "",
                }
                for (row, value), yes in zip(both, people, strict=True)
                if value != yes
            ]
    return rows, disagreements


@dataclass(frozen=True)
class Labelled:
    """A case whose replies people labelled."""

    set: str
    where: str
    dialogue: str
    """The same for all replies to one dialogue."""
    case: Case
    labels: tuple[Mapping[str, str], ...]
    """Of each reply, by the data set's own names."""


class Calibration(HumanLabels):
    """Replies with people's labels, which the judge labels too: MRBench's two at a time, judgements one by one."""

    limit: Count | None
    """The first so many dialogues of each file; None is all."""

    def cases(self) -> Iterator[Labelled]:
        """The labelled cases.

        Raises:
            UserError: A file is another one, or a row lacks something; names the file and the line.
        """
        for where, dialogue in islice(mrbench_module.read(self.mrbench) if self.mrbench else (), self.limit):
            replies = list(dialogue.replies.values())
            yield Labelled(
                "mrbench",
                where,
                dialogue.id,
                Case(render_transcript(dialogue.turns), tuple(reply.text for reply in replies), dialogue.answer),
                tuple(_labels(reply.labels.model_dump(by_alias=True)) for reply in replies),
            )
        for where, row in islice(self.read_judgements(), self.limit):
            labels = _labels(row.evaluation.model_dump())
            yield Labelled("judgements", where, text_id(row.prompt), Case(row.prompt, (row.output,)), (labels,))

    def run(self, tutor: None, options: Options) -> Result:  # noqa: ARG002
        """Compare the judge with what people say; see ``Suite``.

        Raises:
            UserError: There is no judge, or it cannot be compared with these people.
        """
        judge = options.judge
        if judge is None:
            raise UserError("judge: is needed with suite=calibrate: judge=socratic_llm or judge=mrbench")
        answers_path = options.folder / "judge.jsonl"
        calibrated = calibrate(judge, list(self.cases()), options.resamples, options.seed, answers_path)
        criteria = [row.to_record() for row in calibrated.criteria]
        files = {
            "calibration.json": File("calibration.json", {"judge": judge.identity(), "criteria": criteria}),
            "judge.jsonl": File("judge.jsonl", calibrated.answers),
        }
        unreadable = sum(answer["labels"] is None for answer in calibrated.answers)
        closing = {"answers": f"{len(calibrated.answers)}, of which {unreadable} unreadable"}
        return Result("Judge", files, partial(console.print_calibration, calibrated.criteria), closing)


def _labels(values: Mapping[str, Any]) -> dict[str, str]:
    """Labels as text, numbers without decimals."""
    return {name: f"{value:g}" if isinstance(value, int | float) else str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found."""

    criteria: list[CriterionAgreement]
    answers: list[dict[str, Any]]
    """The judge's texts, with what was read of them and what people say."""


def calibrate(
    judge: Judge, cases: Sequence[Labelled], resamples: int, seed: int, answers_path: Path | None = None
) -> Calibrated:
    """Compare a judge with people on each criterion that they labelled too.

    Args:
        judge: The judge.
        cases: What people labelled.
        resamples: Of the bootstrap.
        seed: Of the judge's sampling and of the bootstrap.
        answers_path: Keeps the judge's answers as they come.

    Raises:
        UserError: There is no such criterion, people use a label that the rubric does not have, or the generator fails.
    """
    asked = [case for case in cases if any(criterion.people in case.labels[0] for criterion in judge.criteria.values())]
    if not asked:
        raise UserError(
            f"suite: people labelled nothing that judge.rubric={judge.rubric} asks; mrbench needs suite.mrbench=FILE, "
            "socratic_llm suite.judgements=FILE"
        )
    people = {
        name: [[_score(criterion, case, labels) for labels in case.labels] for case in asked]
        for name, criterion in judge.criteria.items()
    }
    verdicts = judge.judge([case.case for case in asked], seed, answers_path)
    criteria = [
        row
        for name, scores in people.items()
        if (row := _criterion(judge, name, asked, verdicts, scores, resamples=resamples, seed=seed))
    ]
    answers = [
        {
            "where": labelled.where,
            "shown": [labelled.case.replies[reply] for reply in answer.shown],
            "raw": answer.raw,
            "labels": answer.labels,
            "people": [labelled.labels[reply] for reply in answer.shown],
        }
        for labelled, verdict in zip(asked, verdicts, strict=True)
        for answer in verdict.answers
    ]
    return Calibrated(criteria, answers)


def _criterion(
    judge: Judge,
    name: str,
    cases: Sequence[Labelled],
    verdicts: Sequence[Verdict],
    people: Sequence[Sequence[float | None]],
    *,
    resamples: int,
    seed: int,
) -> CriterionAgreement | None:
    """How well the judge agrees with people on a criterion; None where they did not label it."""
    labelled = [
        (judge.score(verdict, reply, name), score, case.dialogue)
        for case, verdict, scores in zip(cases, verdicts, people, strict=True)
        for reply, score in enumerate(scores)
        if score is not None
    ]
    if not labelled:
        return None
    both = [(ours, theirs, dialogue) for ours, theirs, dialogue in labelled if ours is not None]
    ours, theirs, dialogues = zip(*both, strict=True) if both else ((), (), ())
    same, twice = alike(verdicts, [name])
    return CriterionAgreement(
        criterion=name,
        **score_agreement(ours, theirs, dialogues, resamples=resamples, seed=seed),
        n=len(both),
        dialogues=len(set(dialogues)),
        unreadable=len(labelled) - len(both),
        in_both_orders=same,
        shown_twice=twice,
    )


def _score(criterion: Criterion, case: Labelled, labels: Mapping[str, str]) -> float | None:
    """The score of people's label; None where they did not label this."""
    label = labels.get(criterion.people or "")
    if label is None:
        return None
    if label not in criterion.scores:
        known_labels = ", ".join(map(repr, criterion.scores))
        raise UserError(f"{case.where}: {criterion.people}: the rubric has no label {label!r}; it has {known_labels}")
    return criterion.scores[label]
