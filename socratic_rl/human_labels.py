"""The judge-free measures against what people say of the same replies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from socratic_rl import answers, metrics, mrbench
from socratic_rl.config import Component
from socratic_rl.dialogue import Record, text_id
from socratic_rl.statistics import agreement
from socratic_rl.storage import parse_record, read_rows


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
    return answers.states(row.reply, row.answer) if row.answer else None


MEASURES: dict[str, tuple[Literal["asks", "reveals"], Callable[[Judged], bool | None]]] = {
    "asks_question": ("asks", lambda row: metrics.asks_question(row.reply)),
    "reveals_answer": ("reveals", lambda row: metrics.reveals_answer(row.reply, row.answer, row.known)),
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
        for where, dialogue in mrbench.read(self.mrbench) if self.mrbench else ():
            known = tuple(turn.text for turn in dialogue.turns)
            for tutor, reply in dialogue.replies.items():
                yield Judged(
                    "mrbench",
                    f"{where}, {tutor}",
                    dialogue.id,
                    reply.text,
                    dialogue.answer,
                    known,
                    reveals=reply.labels.reveals == mrbench.RIGHT,
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


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the figures with their 95% intervals, to how many of n people say yes, and how many have no gold answer."""
    from rich import box
    from rich.table import Table

    from socratic_rl import terminal

    table = Table(title="Measures against people", box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    # the set stands below the measure, so that it all fits into 80 columns
    table.add_column("measure", no_wrap=True)
    figures = {"precision": "precision", "recall": "recall", "f1": "F1", "kappa": "Cohen's κ"}
    for heading in (*figures.values(), "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        digits = (in_two_lines(row[key], row[f"{key}_low"], row[f"{key}_high"]) for key in figures)
        table.add_row(f"{row['measure']}\n{row['set']}", *digits, str(row["n"]))
    terminal.console().print(table)


def in_two_lines(figure: float | None, low: float | None, high: float | None) -> str:
    """A figure, and its interval below it."""
    if figure is None:
        return "–"
    return f"{figure:.2f}" + (f"\n{low:.2f}–{high:.2f}" if low is not None and high is not None else "")
