"""What the entry points share: one clear line for a mistake, and the closing table."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from socratic_rl.core.text import plain
from socratic_rl.pages.sweep_jobs import FIGURES, Job, ranked, written

if TYPE_CHECKING:
    from rich.table import Table

    from socratic_rl.measures.figures import (
        CriterionAgreement,
        Figure,
        LabelAgreement,
        SpeakerComparison,
        SpeakerFigure,
    )
    from socratic_rl.pages.screen import Screen


def table(title: str, columns: Mapping[str, Mapping[str, Any]], **options: Any) -> "Table":
    """A table in the style of all that are printed.

    Args:
        title: Stands above it.
        columns: By heading, how rich draws each; figures are right-aligned unless told otherwise.
        options: Of rich's table.
    """
    from rich import box
    from rich.table import Table

    drawn = Table(title=title, box=box.SIMPLE_HEAD, **{"title_justify": "left", "title_style": "bold"} | options)
    for heading, column in columns.items():
        drawn.add_column(heading, **{"justify": "right", **column})
    return drawn


LEFT = {"justify": "left"}


NARROW_FIGURE = {"no_wrap": True}


def closing_table(title: str, rows: Mapping[str, object]) -> None:
    """Print what a command made and where it lies."""
    drawn = table(
        title,
        {"name": {"style": "dim", "no_wrap": True} | LEFT, "value": {"overflow": "fold"} | LEFT},
        show_header=False,
    )
    for name, value in rows.items():
        if name != "next":
            drawn.add_row(name, str(value))
    console().print(drawn)
    if command := rows.get("next"):
        # on one line, however long, so that it can be pasted
        console().print(f"next: {command}", soft_wrap=True)


def parity_table(gaps: Mapping[str, Mapping[str, float]], share: tuple[float, float] | None, turns: int) -> None:
    """Print how far an exported tutor is from the trained one, beside the base's file and what training changed.

    Args:
        gaps: ``mean``, ``largest``, ``greedy`` and ``n`` of ``tutor`` and ``training``, and of ``base`` where known.
        share: How much of training's change the export shows, and its standard error; None where nothing changed.
        turns: How many were read.
    """
    sides = {"base": "base", "tutor": "tutor", "training": "tutor against base"}
    title = f"Exported against trained, {turns} held-out turns, {gaps['tutor']['n']} tokens"
    drawn = table(title, {"difference": LEFT} | {name: {} for name in sides.values()})
    rows = {
        "mean |Δ log-prob|": ("mean", ".4f"),
        "largest |Δ log-prob|": ("largest", ".4f"),
        "same likeliest token": ("greedy", ".1%"),
    }
    for name, (figure, form) in rows.items():
        drawn.add_row(name, *(format(gaps[side][figure], form) if side in gaps else "–" for side in sides))
    drawn.add_row("share of training shown", "–", f"{share[0]:.2f} ± {share[1]:.2f}" if share else "–", "1")
    console().print(drawn)


def metrics_table(title: str, figures: Sequence["Figure"]) -> None:
    """Print an evaluation's figures: base, tutor, the difference with its 95% interval, n; not those by topic.

    Earlier rounds stand between base and tutor, which then is the last round; a second table compares the last two.
    """
    past = [earlier.name for earlier in figures[0].earlier]
    names = ["base", *past, f"round {len(past) + 1}" if past else "tutor"]
    _print_metrics(title, figures, names)
    if past:
        steps = [
            figure.model_copy(update={**dict(figure.step), "base": figure.earlier[-1].value, "earlier": ()})
            for figure in figures
            if figure.overall and figure.step
        ]
        _print_metrics(f"{names[-1].capitalize()} against {names[-2]}", steps, names[-2:])


def _print_metrics(title: str, figures: Sequence["Figure"], names: Sequence[str]) -> None:
    from socratic_rl.pages.page import in_digits

    judged = any(figure.judged for figure in figures)
    headings = (
        "measure",
        "kind",
        *names,
        "difference",
        "95% interval",
        "n",
        *(("κ against people",) if judged else ()),
    )
    drawn = table(title, {heading: LEFT if heading in ("measure", "kind") else {} for heading in headings})
    for figure in figures:
        if figure.by_topic:
            continue
        base, *others = in_digits(figure).values()
        rounds = ["–" if past.value is None else f"{past.value:.3f}" for past in figure.earlier]
        drawn.add_row(figure.name, figure.kind, base, *rounds, *others, *([_trust(figure)] if judged else []))
    console().print(drawn)


def speakers_table(figures: Sequence["SpeakerFigure"], comparisons: Sequence["SpeakerComparison"]) -> None:
    """Print what each speaker does by each measure of all replies, and the tutor beside the prompted base."""
    from socratic_rl.pages.wording import by_speaker

    speakers, rows = by_speaker(figures, comparisons)
    headings = ("measure", *speakers, "tutor − prompted", "verdict")
    drawn = table("Speakers", {heading: LEFT if heading in ("measure", "verdict") else {} for heading in headings})
    for measure, cells, beside in rows:
        drawn.add_row(measure, *map(_figure, cells), _difference(beside), (beside and beside.verdict) or "")
    console().print(drawn)


def _figure(figure: "SpeakerFigure | None") -> str:
    return "–" if figure is None or figure.value is None else f"{figure.value:.2f}"


def _difference(row: "SpeakerComparison | None") -> str:
    if row is None or row.difference is None:
        return "–"
    interval = "" if row.low is None or row.high is None else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.difference:+.2f}{interval}"


def _trust(figure: "Figure") -> str:
    """How well a judge's score agrees with people; empty for what no judge gave."""
    if not figure.judged:
        return ""
    agreement = figure.agreement
    if agreement is None:
        return "not calibrated"
    if agreement.kappa is None:
        return f"– ({agreement.n})"
    interval = "" if agreement.low is None else f" [{agreement.low:.2f}, {agreement.high:.2f}]"
    return f"{agreement.kappa:.2f}{interval} ({agreement.n})"


def print_human_labels(rows: Sequence["LabelAgreement"]) -> None:
    """Print the figures with their 95% intervals, to how many of n people say yes, and how many have no gold answer."""
    headings = {"precision": "precision", "recall": "recall", "f1": "F1", "kappa": "Cohen's κ"}
    # the set stands below the measure, so that it all fits into 80 columns
    columns = {"measure": LEFT | NARROW_FIGURE} | dict.fromkeys((*headings.values(), "n"), NARROW_FIGURE)
    drawn = table("Measures against people", columns)
    for row in rows:
        figures = (in_two_lines(*row.estimate(key)) for key in headings)
        drawn.add_row(f"{row.measure}\n{row.set}", *figures, str(row.n))
    console().print(drawn)


def print_calibration(rows: Sequence["CriterionAgreement"]) -> None:
    """Print the figures with their 95% intervals, how many replies have no score, and how often both orders agree."""
    columns = {"criterion": LEFT | NARROW_FIGURE} | {
        heading: {} for heading in ("agreement", "Cohen's κ", "n", "unreadable", "same in both orders")
    }
    drawn = table("Judge against people", columns)
    for row in rows:
        figures = (in_two_lines(*row.estimate(key)) for key in ("agreement", "kappa"))
        order = f"{row.in_both_orders} of {row.shown_twice}" if row.shown_twice else "–"
        drawn.add_row(row.criterion, *figures, str(row.n), str(row.unreadable), order)
    console().print(drawn)


def in_two_lines(figure: float | None, low: float | None, high: float | None) -> str:
    """A figure, and its interval below it."""
    if figure is None:
        return "–"
    return f"{figure:.2f}" + (f"\n{low:.2f}–{high:.2f}" if low is not None and high is not None else "")


def print_closing_table(jobs: Sequence[Job]) -> None:
    """Print a table of the jobs of a multirun, best first; with several seeds each group's mean and spread."""
    from socratic_rl.pages.screen import Screen

    groups = ranked(jobs)
    seeds = any(len(group.jobs) > 1 for group in groups)
    trained = any(job.held_out for job in jobs)
    title = f"{len(jobs)} jobs{f' in {len(groups)} groups of seeds' if seeds else ''}, best first"
    names = list(FIGURES) if trained else list(FIGURES)[:1]
    columns = {"job": LEFT, "choices": LEFT} | {name if trained else "score": NARROW_FIGURE for name in names}
    columns["where"] = {"overflow": "fold"} | LEFT
    drawn = table(title, columns, title_justify="center", title_style=None)
    for group in groups:
        if seeds:
            done = sum(job.status == "finished" for job in group.jobs)
            count = f"{done} seeds" if done == len(group.jobs) else f"{done} of {len(group.jobs)} seeds"
            means = [_mean_and_spread(group.mean(name), group.spread(name)) for name in names]
            drawn.add_row("", written(group.choices) or "(defaults)", *means, count, style="bold")
        for job in group.jobs:
            choices = {key: value for key, value in job.choices.items() if not seeds or key == "seed"}
            figures = ["–" if (value := job.figure(name)) is None else f"{value:.4f}" for name in names]
            where = str(job.folder) if job.status == "finished" else f"{job.status}{job.error and f': {job.error}'}"
            drawn.add_row(job.folder.name, written(choices) or "(defaults)", *figures, where)
    Screen(width=140).print(drawn)
    if any(group.spread(name) is not None for group in groups for name in names):
        print("mean ± standard deviation over the seeds that finished")


def _mean_and_spread(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"


NARROW = 80
"""Columns below which two replies stand below each other."""


def console() -> "Screen":
    """The terminal; where the output goes into a file or a pipe, 120 columns unless COLUMNS says otherwise."""
    from socratic_rl.pages.screen import Screen

    return Screen(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def side_by_side(prompt: str, replies: Mapping[str, str], notes: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Print the replies to a prompt beside each other, or below each other where the terminal is narrow.

    Args:
        prompt: What was asked.
        replies: By who gave them.
        notes: What to say of each reply, if anything.
        facts: How they were drawn.
    """
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    screen = console()
    width = screen.width // len(replies) - 1 if screen.width >= NARROW else screen.width
    screen.print(Panel(prompt, title="prompt", title_align="left"))
    panels = [
        Panel(
            text,
            title=Text(plain(name)),
            title_align="left",
            subtitle=Text(notes[name]) if notes[name] else None,
            width=width,
        )
        for name, text in replies.items()
    ]
    screen.print(Columns(panels, padding=(0, 1)))
    for name, value in facts.items():
        screen.print(f"{name}  {value}", style="dim")
