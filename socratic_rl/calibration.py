"""The judge against what people say of the same replies, which tells how far its scores can be trusted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from socratic_rl import mrbench
from socratic_rl.dialogue import render_transcript, text_id
from socratic_rl.errors import UserError
from socratic_rl.human_labels import HumanLabels, in_two_lines
from socratic_rl.judge import Case, Criterion, Judge, alike
from socratic_rl.statistics import score_agreement


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
        for where, dialogue in islice(mrbench.read(self.mrbench) if self.mrbench else (), self.limit):
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


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the figures with their 95% intervals, how many replies have no score, and how often both orders agree."""
    from rich import box
    from rich.table import Table

    from socratic_rl import terminal

    table = Table(title="Judge against people", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("criterion", no_wrap=True)
    for heading in ("agreement", "Cohen's κ", "n", "unreadable", "same in both orders"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (in_two_lines(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in ("agreement", "kappa"))
        order = f"{row['in_both_orders']} of {row['shown_twice']}" if row["shown_twice"] else "–"
        table.add_row(row["criterion"], *figures, str(row["n"]), str(row["unreadable"]), order)
    terminal.console().print(table)
