"""The page people look at: base against tutor, in numbers with intervals, in pictures and in dialogues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from socratic_rl.core.files import read_model, whole_file
from socratic_rl.core.rows import read_rows
from socratic_rl.measures.figures import Figure, FigureFile, ReplyRow, SpeakerComparison, SpeakerFigure
from socratic_rl.pages import marked_replies, pictures
from socratic_rl.pages.page import Row, fill
from socratic_rl.pages.wording import JUDGE, by_speaker, lead, measure_of, ordered, pivoted, worded

TITLE = "Socratic RL: tutor against base"


HEADLINE_FACTS = ("headline", "validated")


FIRST_FACTS = 4
"""How many facts, the first ones, say what was trained on what; the page opens with them."""


@dataclass(frozen=True)
class Report:
    """What the page is made of."""

    title: str
    facts: Mapping[str, str]
    """What was trained on what, with which settings, when: shown as they are, in their order."""
    metrics: Sequence[Figure]
    """The rows of ``evaluation.json``."""
    curves: Sequence[Row]
    """The rows of the ``log_history`` of transformers."""
    dialogues: Sequence[ReplyRow]
    """The rows of ``replies.jsonl``."""
    suites: Sequence[FigureFile] = ()
    """Figures of other suites."""
    speakers: Sequence[SpeakerFigure] = ()
    comparisons: Sequence[SpeakerComparison] = ()


def write(folder: Path, log: Path) -> Path:
    """Write ``report.html`` from what the commands left, and give its path.

    Args:
        folder: Holds ``evaluation.json`` and ``replies.jsonl``, and perhaps ``suites``.
        log: The training log; it need not be there.
    """
    path = folder / "report.html"
    with whole_file(path) as temporary:
        temporary.write_text(render(from_folder(folder, log)), encoding="utf-8")
    return path


def from_folder(folder: Path, log: Path) -> Report:
    """The report of what lies in a folder; see ``write``."""
    evaluation = read_model(FigureFile, folder / "evaluation.json")
    return Report(
        TITLE,
        evaluation.facts,
        evaluation.metrics,
        curves=[row for _, row in read_rows(str(log))] if log.exists() else [],
        dialogues=cast("list[ReplyRow]", [row for _, row in read_rows(str(folder / "replies.jsonl"))]),
        speakers=evaluation.figures,
        comparisons=evaluation.comparisons,
        suites=[read_model(FigureFile, path) for path in sorted((folder / "suites").glob("*.json"))],
    )


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing from outside; all text in it is escaped."""
    # the headline and what it rests on stand above everything else
    headline = {key: report.facts[key] for key in HEADLINE_FACTS if key in report.facts}
    facts = [(key, value) for key, value in report.facts.items() if key not in headline]
    past = list(dict.fromkeys(past.name for figure in report.metrics for past in figure.earlier))
    names = ["base", *past, f"round {len(past) + 1}" if past else "tutor"]
    return fill(
        "report.html.j2",
        title=report.title,
        facts=facts[:FIRST_FACTS],
        settings=facts[FIRST_FACTS:],
        names=names,
        headline_facts=headline,
        speakers=_speakers(report),
        judged=[worded(figure) for figure in report.metrics if figure.name.startswith(JUDGE)],
        suites=[
            {"name": suite.name, "facts": suite.facts, "lines": [worded(figure) for figure in suite.metrics]}
            for suite in report.suites
        ],
        curves=pictures.curve_plots(report.curves),
        **_measured(report.metrics, names),
        **_dialogues(report.dialogues, names),
    )


def _measured(figures: Sequence[Figure], names: Sequence[str]) -> dict[str, Any]:
    """The parts of the page about what was measured without a judge."""
    rows = ordered(figure for figure in figures if not figure.name.startswith(JUDGE))
    overall = [figure for figure in rows if figure.overall]
    topics = [figure for figure in rows if figure.by_topic]
    kinds = [figure for figure in rows if not figure.overall and not figure.by_topic]
    lines = [worded(figure) for figure in overall]
    return {
        "lead": lead([line for line in lines if line["difference"]]),
        "headline": [
            line
            for line in lines
            if (measure_of(line["name"]).headline or line["verdict"] == "worse") and line["sentence"]
        ],
        "overall": lines,
        "differences": pictures.difference_plot(rows),
        "rounds": pictures.round_plots([figure for figure in _headline(overall) if figure.earlier], names),
        "by_topic": pivoted(map(worded, _headline(topics))),
        "by_kind": pivoted(map(worded, kinds)),
        "parts": [
            *pictures.sides_plot(
                "Asks a question, by problem topic", [figure for figure in topics if figure.name == "asks_question"]
            ),
            *pictures.sides_plot(
                "Prefers the chosen reply, by kind of rejected reply",
                [figure for figure in kinds if figure.name == "preference_accuracy"],
            ),
        ],
    }


def _speakers(report: Report) -> dict[str, Any]:
    """The table of all speakers: ``names``, and a row a measure with each one's figure and the tutor's difference."""
    names, rows = by_speaker(report.speakers, report.comparisons)
    table = [
        {
            "label": measure_of(row.measure).label,
            "meaning": measure_of(row.measure).meaning,
            "cells": [_in_words(row.measure, figure) for figure in row.figures],
            "difference": _difference(row.measure, row.beside_prompted),
            "verdict": row.beside_prompted.verdict if row.beside_prompted else None,
        }
        for row in rows
    ]
    most = max((figure.n for row in rows for figure in row.figures if figure), default=0)
    return {"names": names, "rows": table, "n": most}


def _in_words(measure: str, figure: SpeakerFigure | None) -> str:
    if figure is None or figure.value is None:
        return "–"
    return f"{figure.value:.0%}" if measure_of(measure).share else f"{figure.value:.1f}"


def _difference(measure: str, row: SpeakerComparison | None) -> str:
    if row is None or row.difference is None:
        return "–"
    scale, digits = (100, 0) if measure_of(measure).share else (1, 1)
    ends = (
        "" if row.low is None or row.high is None else f" [{scale * row.low:.{digits}f}, {scale * row.high:.{digits}f}]"
    )
    return f"{scale * row.difference:+.{digits}f}{ends}"


def _headline(figures: Sequence[Figure]) -> list[Figure]:
    return [figure for figure in figures if measure_of(figure.name).headline]


def _dialogues(rows: Sequence[ReplyRow], names: Sequence[str]) -> dict[str, Any]:
    """The parts of the page about what was said."""
    dialogues = [marked_replies.on_page(row, names) for row in marked_replies.select(rows)]
    return {
        "dialogues": dialogues,
        "first": marked_replies.SHOWN,
        "count": len(rows),
        "problems": len({row["problem_id"] for row in rows}),
        "failures": marked_replies.counted(rows, names),
        "tags": marked_replies.TAGS,
        "topics": sorted({row["topic"] for row in dialogues}),
    }
