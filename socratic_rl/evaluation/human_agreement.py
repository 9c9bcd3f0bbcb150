"""The judge-free measures against what people say of the same replies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Record, render_transcript, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.records import parse_record
from socratic_rl.core.rows import read_rows
from socratic_rl.evaluation import mrbench as mrbench_module
from socratic_rl.evaluation.judge import Case, Judge, alike
from socratic_rl.evaluation.rubric import Criterion
from socratic_rl.measures import answers as answers_module
from socratic_rl.measures import replies as replies_module
from socratic_rl.measures.intervals import agreement, score_agreement
from socratic_rl.pages.console import in_two_lines


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
    known: tuple[str, ...]
    """The problem, then every earlier turn."""
    asks: bool | None = None
    """Whether people say that it asks; None where the set does not say."""
    reveals: bool | None = None
    """Whether people say that it gives the right answer away."""


def _states_answer(row: Judged) -> bool | None:
    return answers_module.states(row.reply, row.answer) if row.answer else None


MEASURES: dict[str, tuple[Literal["asks", "reveals"], Callable[[Judged], bool | None]]] = {
    "asks_question": ("asks", lambda row: replies_module.asks_question(row.reply)),
    "reveals_answer": ("reveals", lambda row: replies_module.reveals_answer(row.reply, row.answer, row.known)),
    # bare rules, to see what the measures add to them
    "has_question_mark": ("asks", lambda row: "?" in row.reply),
    "states_answer": ("reveals", _states_answer),
}
"""Each measure that people have labels for, with the label that it faces."""


class Verdict(Record):
    """What people say of a reply by the four criteria of Socratic-LLM, of which two face a judge-free measure."""

    model_config = ConfigDict(frozen=True, extra="allow")

    questions: Literal["yes", "no"]
    reveal_answer: Literal["yes", "no"]


class Judgement(Record):
    """A row of the judgements."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str
    output: str
    evaluation: Verdict


class HumanLabels(Component):
    """Replies with people's labels, in the files of two data sets; either may be None."""

    mrbench: str | None
    """MRBench: "Yes (and the answer is correct)" is yes; a wrong answer gives nothing away, so it is no."""
    judgements: str | None
    """Replies with ``evaluation.questions`` and ``evaluation.reveal_answer``; no gold answers."""

    def mistakes(self) -> list[str]:
        """Files that do not exist, or none given."""
        given = {"mrbench": self.mrbench, "judgements": self.judgements}
        if not any(given.values()):
            return ["mrbench: a file is needed here, as suite.judgements, or as both"]
        return [f"{key}: {path}: no such file" for key, path in given.items() if path and not Path(path).is_file()]

    def read(self) -> Iterator[Judged]:
        """The judged replies.

        Raises:
            UserError: A file is another one, or a row lacks something; names the file and the line.
        """
        for where, dialogue in mrbench_module.read(self.mrbench) if self.mrbench else ():
            known = tuple(turn.text for turn in dialogue.turns)
            for tutor, reply in dialogue.replies.items():
                yield Judged(
                    "mrbench",
                    f"{where}, {tutor}",
                    dialogue.id,
                    reply.text,
                    dialogue.answer,
                    known,
                    reveals=reply.labels.reveals == mrbench_module.RIGHT,
                )
        for where, said in self.read_judgements():
            yield Judged(
                "judgements",
                where,
                text_id(said.prompt),
                said.output,
                "",
                (),
                asks=said.evaluation.questions == "yes",
                reveals=said.evaluation.reveal_answer == "yes",
            )

    def read_judgements(self) -> Iterator[tuple[str, Judgement]]:
        """The rows of the judgements, each with its place; none where there is no such file."""
        columns = ("prompt", "output", "evaluation")
        for where, row in read_rows(self.judgements, columns=columns) if self.judgements else ():
            yield where, parse_record(Judgement, where, row)


def compare(judged: Sequence[Judged], resamples: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """How well each measure agrees with people, a row for each measure and set, and the replies on which they differ.

    A row has ``n``, the replies that both speak of, ``dialogues``, how many those belong to, ``people``, how many of
    them people say yes to, and ``without_answer``, the labelled replies left out for want of a gold answer.
    """
    rows, disagreements = [], []
    for measure, (label, measured) in MEASURES.items():
        for name in dict.fromkeys(row.set for row in judged):
            labelled = [row for row in judged if row.set == name and getattr(row, label) is not None]
            found = [(row, bool(said)) for row in labelled if (said := measured(row)) is not None]
            if not labelled:
                continue
            people = [bool(getattr(row, label)) for row, _ in found]
            dialogues = [row.dialogue for row, _ in found]
            figures = agreement([said for _, said in found], people, dialogues, resamples=resamples, seed=seed)
            counted = {"n": len(found), "dialogues": len(set(dialogues)), "people": sum(people)}
            rows.append(
                {"measure": measure, "set": name, **figures, **counted, "without_answer": len(labelled) - len(found)}
            )
            disagreements += [
                {
                    "measure": measure,
                    "set": name,
                    "where": row.where,
                    "people": yes,
                    "measured": said,
                    "answer": row.answer,
                    "reply": row.reply,
                    "before": row.known[-1] if row.known else "",
                }
                for (row, said), yes in zip(found, people, strict=True)
                if said != yes
            ]
    return rows, disagreements


def print_human_labels(rows: Sequence[dict[str, Any]]) -> None:
    """Print the figures with their 95% intervals, to how many of n people say yes, and how many have no gold answer."""
    from rich import box
    from rich.table import Table

    from socratic_rl.pages import console

    table = Table(title="Measures against people", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    # the set stands below the measure, so that it all fits into 80 columns
    table.add_column("measure", no_wrap=True)
    figures = {"precision": "precision", "recall": "recall", "f1": "F1", "kappa": "Cohen's κ"}
    for heading in (*figures.values(), "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        digits = (in_two_lines(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in figures)
        table.add_row(f"{row['measure']}\n{row['set']}", *digits, str(row["n"]))
    console.console().print(table)


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

    limit: Annotated[int, Field(ge=1)] | None
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
        for where, said in islice(self.read_judgements(), self.limit):
            labels = _labels(said.evaluation.model_dump())
            yield Labelled("judgements", where, text_id(said.prompt), Case(said.prompt, (said.output,)), (labels,))


def _labels(values: Mapping[str, Any]) -> dict[str, str]:
    """Labels as text, numbers without decimals."""
    return {name: f"{value:g}" if isinstance(value, int | float) else str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found."""

    criteria: list[dict[str, Any]]
    """For each criterion ``agreement`` and ``kappa`` with intervals, ``n`` (replies that both labelled), ``dialogues``,
    ``unreadable`` (replies without a score) and how many of ``shown_twice`` got the same label ``in_both_orders``."""
    answers: list[dict[str, Any]]
    """The judge's texts, with what was read of them and what people say."""


def calibrate(
    judge: Judge, cases: Sequence[Labelled], resamples: int, seed: int, kept: Path | None = None
) -> Calibrated:
    """Compare a judge with people on each criterion that they labelled too.

    Args:
        judge: The judge.
        cases: What people labelled.
        resamples: Of the bootstrap.
        seed: Of the judge's sampling and of the bootstrap.
        kept: Keeps the judge's answers as they come.

    Raises:
        UserError: There is no such criterion, people use a label that the rubric does not have, or the generator fails.
    """
    asked = [one for one in cases if any(criterion.people in one.labels[0] for criterion in judge.criteria.values())]
    if not asked:
        raise UserError(
            f"suite: people labelled nothing that judge.rubric={judge.rubric} asks; mrbench needs suite.mrbench=FILE, "
            "socratic_llm suite.judgements=FILE"
        )
    people = {
        name: [[_score(criterion, one, labels) for labels in one.labels] for one in asked]
        for name, criterion in judge.criteria.items()
    }
    verdicts = judge.judge([one.case for one in asked], seed, kept)
    rows = []
    for name in judge.criteria:
        found = [
            (judge.score(verdict, reply, name), score, one.dialogue)
            for one, verdict, scores in zip(asked, verdicts, people[name], strict=True)
            for reply, score in enumerate(scores)
            if score is not None
        ]
        both = [(ours, theirs, dialogue) for ours, theirs, dialogue in found if ours is not None]
        if not found:
            continue
        ours, theirs, dialogues = zip(*both, strict=True) if both else ((), (), ())
        same, twice = alike(verdicts, [name])
        rows.append(
            {
                "criterion": name,
                **score_agreement(ours, theirs, dialogues, resamples=resamples, seed=seed),
                "n": len(both),
                "dialogues": len(set(dialogues)),
                "unreadable": len(found) - len(both),
                "in_both_orders": same,
                "shown_twice": twice,
            }
        )
    answers = [
        {
            "where": one.where,
            "shown": [one.case.replies[reply] for reply in answer.shown],
            "raw": answer.raw,
            "labels": answer.labels,
            "people": [one.labels[reply] for reply in answer.shown],
        }
        for one, verdict in zip(asked, verdicts, strict=True)
        for answer in verdict.answers
    ]
    return Calibrated(rows, answers)


def _score(criterion: Criterion, one: Labelled, labels: Mapping[str, str]) -> float | None:
    """The score of people's label; None where they did not label this."""
    label = labels.get(criterion.people or "")
    if label is None:
        return None
    if label not in criterion.scores:
        known = ", ".join(map(repr, criterion.scores))
        raise UserError(f"{one.where}: {criterion.people}: the rubric has no label {label!r}; it has {known}")
    return criterion.scores[label]


def print_calibration(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the figures with their 95% intervals, how many replies have no score, and how often both orders agree."""
    from rich import box
    from rich.table import Table

    from socratic_rl.pages import console

    table = Table(title="Judge against people", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("criterion", no_wrap=True)
    for heading in ("agreement", "Cohen's κ", "n", "unreadable", "same in both orders"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (in_two_lines(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in ("agreement", "kappa"))
        order = f"{row['in_both_orders']} of {row['shown_twice']}" if row["shown_twice"] else "–"
        table.add_row(row["criterion"], *figures, str(row["n"]), str(row["unreadable"]), order)
    console.console().print(table)
