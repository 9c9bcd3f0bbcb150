"""The page people look at: base against tutor, in numbers with intervals, in pictures and in dialogues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from socratic_rl.core.files import read_json, whole_file
from socratic_rl.core.rows import read_rows
from socratic_rl.measures.replies import TOPIC
from socratic_rl.pages import marked_replies, pictures
from socratic_rl.pages.page import Row, fill
from socratic_rl.pages.wording import HEADLINE, JUDGE, lead, ordered, pivoted, worded

TITLE = "Socratic RL: tutor against base"


FIRST_FACTS = 4
"""How many facts, the first ones, say what was trained on what; the page opens with them."""


@dataclass(frozen=True)
class Report:
    """What the page is made of."""

    title: str
    facts: Mapping[str, str]
    """What was trained on what, with which settings, when: shown as they are, in their order."""
    metrics: Sequence[Row]
    """The rows of ``evaluation.json``; with ``earlier``, the figures of earlier rounds, ``step``, the difference to the
    last of them, and ``agreement``, how well a judge agrees with people, where they have them."""
    curves: Sequence[Row]
    """The rows of the ``log_history`` of transformers."""
    dialogues: Sequence[Row]
    """Replies side by side: ``problem_id``, ``topic``, ``question``, ``answer``, ``turn`` (from 0), ``prompt`` (chat
    messages), ``reference`` (the annotated turn), ``base``, ``tutor``, ``base_marks``, ``tutor_marks``, and ``earlier``
    (``name``, ``text``, ``marks`` of each earlier round)."""
    suites: Sequence[Row] = ()
    """Figures on outside test sets: ``name``, ``metrics``, ``facts``."""


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
    found = read_json(folder / "evaluation.json")
    return Report(
        TITLE,
        found["facts"],
        found["metrics"],
        curves=[row for _, row in read_rows(str(log))] if log.exists() else [],
        dialogues=[row for _, row in read_rows(str(folder / "replies.jsonl"))],
        suites=[read_json(path) for path in sorted((folder / "suites").glob("*.json"))],
    )


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing from outside; all text in it is escaped."""
    rows = ordered(row for row in report.metrics if not row["name"].startswith(JUDGE))
    overall = [row for row in rows if row["kind"] == "all"]
    topics = [row for row in rows if row["kind"].startswith(TOPIC)]
    kinds = [row for row in rows if row["kind"] != "all" and not row["kind"].startswith(TOPIC)]
    lines = [worded(row) for row in overall]
    past = list(dict.fromkeys(past["name"] for row in report.metrics for past in row.get("earlier") or ()))
    names = ["base", *past, f"round {len(past) + 1}" if past else "tutor"]
    dialogues = [marked_replies.shown(row, names) for row in marked_replies.select(report.dialogues)]
    facts = list(report.facts.items())
    return fill(
        "report.html.j2",
        title=report.title,
        facts=facts[:FIRST_FACTS],
        settings=facts[FIRST_FACTS:],
        lead=lead([line for line in lines if line["difference"]]),
        headline=[
            line for line in lines if (line["name"] in HEADLINE or line["verdict"] == "worse") and line["sentence"]
        ],
        differences=pictures.difference_plot(rows),
        names=names,
        rounds=pictures.round_plots([row for row in overall if row.get("earlier") and row["name"] in HEADLINE], names),
        by_topic=pivoted(worded(row) for row in topics if row["name"] in HEADLINE),
        by_kind=pivoted(map(worded, kinds)),
        parts=[
            *pictures.sides_plot(
                "Asks a question, by problem topic", [row for row in topics if row["name"] == "asks_question"]
            ),
            *pictures.sides_plot(
                "Prefers the chosen reply, by kind of rejected reply",
                [row for row in kinds if row["name"] == "preference_accuracy"],
            ),
        ],
        judged=[worded(row) for row in report.metrics if row["name"].startswith(JUDGE)],
        suites=[{**suite, "lines": [worded(row) for row in suite["metrics"]]} for suite in report.suites],
        curves=pictures.curve_plots(report.curves),
        overall=lines,
        dialogues=dialogues,
        first=marked_replies.SHOWN,
        count=len(report.dialogues),
        problems=len({row["problem_id"] for row in report.dialogues}),
        failures=marked_replies.counted(report.dialogues, names),
        tags=marked_replies.TAGS,
        topics=sorted({row["topic"] for row in dialogues}),
    )
