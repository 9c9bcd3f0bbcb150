"""What the entry points share: one clear line for a mistake, and the closing table."""

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from socratic_rl.pages.sweep_jobs import FIGURES, Job, ranked, written

if TYPE_CHECKING:
    from rich.console import Console


def closing_table(title: str, rows: Mapping[str, object]) -> None:
    """Print what a command made and where it lies."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    console().print(table)


def parity_table(gaps: Mapping[str, Mapping[str, float]], share: tuple[float, float] | None, turns: int) -> None:
    """Print how far an exported tutor is from the trained one, beside the base's file and what training changed.

    Args:
        gaps: ``mean``, ``largest``, ``greedy`` and ``n`` of ``tutor`` and ``training``, and of ``base`` where known.
        share: How much of training's change the export shows, and its standard error; None where nothing changed.
        turns: How many were read.
    """
    from rich import box
    from rich.table import Table

    title = f"Exported against trained, {turns} held-out turns, {gaps['tutor']['n']} tokens"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("difference")
    sides = {"base": "base", "tutor": "tutor", "training": "tutor against base"}
    for name in sides.values():
        table.add_column(name, justify="right")
    rows = {
        "mean |Δ log-prob|": ("mean", ".4f"),
        "largest |Δ log-prob|": ("largest", ".4f"),
        "same likeliest token": ("greedy", ".1%"),
    }
    for name, (figure, form) in rows.items():
        table.add_row(name, *(format(gaps[side][figure], form) if side in gaps else "–" for side in sides))
    table.add_row("share of training shown", "–", f"{share[0]:.2f} ± {share[1]:.2f}" if share else "–", "1")
    console().print(table)


def metrics_table(title: str, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Print an evaluation's figures: base, tutor, the difference with its 95% interval, n; not those by topic.

    Earlier rounds stand between base and tutor, which then is the last round; a second table compares the last two.
    """
    past = [one["name"] for one in metrics[0].get("earlier", ())]
    names = ["base", *past, f"round {len(past) + 1}" if past else "tutor"]
    _print_metrics(title, metrics, names)
    if past:
        steps = [
            {**row, **row["step"], "base": row["earlier"][-1]["value"], "earlier": []}
            for row in metrics
            if row["kind"] == "all"
        ]
        _print_metrics(f"{names[-1].capitalize()} against {names[-2]}", steps, names[-2:])


def _print_metrics(title: str, metrics: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    from rich import box
    from rich.table import Table

    from socratic_rl.measures.replies import TOPIC
    from socratic_rl.pages.page import in_digits

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in ("measure", "kind", *names, "difference", "95% interval", "n"):
        table.add_column(column, justify="left" if column in ("measure", "kind") else "right")
    judged = any("agreement" in row for row in metrics)
    if judged:
        table.add_column("κ against people", justify="right")
    for row in metrics:
        if row["kind"].startswith(TOPIC):
            continue
        base, *others = in_digits(row).values()
        rounds = ["–" if one["value"] is None else f"{one['value']:.3f}" for one in row.get("earlier", ())]
        table.add_row(row["name"], row["kind"], base, *rounds, *others, *([_trust(row)] if judged else []))
    console().print(table)


def _trust(row: Mapping[str, Any]) -> str:
    """How well a judge's score agrees with people; empty for what no judge gave."""
    if "agreement" not in row:
        return ""
    found = row["agreement"]
    if found is None:
        return "not calibrated"
    if found["kappa"] is None:
        return f"– ({found['n']})"
    interval = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['kappa']:.2f}{interval} ({found['n']})"


def in_two_lines(figure: float | None, low: float | None, high: float | None) -> str:
    """A figure, and its interval below it."""
    if figure is None:
        return "–"
    return f"{figure:.2f}" + (f"\n{low:.2f}–{high:.2f}" if low is not None and high is not None else "")


def print_closing_table(jobs: Sequence[Job]) -> None:
    """Print a table of the jobs of a multirun, best first; with several seeds each group's mean and spread."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    groups = ranked(jobs)
    seeds = any(len(group.jobs) > 1 for group in groups)
    trained = any(job.held_out for job in jobs)
    title = f"{len(jobs)} jobs{f' in {len(groups)} groups of seeds' if seeds else ''}, best first"
    table = Table("job", "choices", title=title, box=box.SIMPLE_HEAD)
    names = list(FIGURES) if trained else list(FIGURES)[:1]
    for name in names:
        table.add_column(name if trained else "score", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    for group in groups:
        if seeds:
            done = sum(job.status == "finished" for job in group.jobs)
            count = f"{done} seeds" if done == len(group.jobs) else f"{done} of {len(group.jobs)} seeds"
            means = [_mean_and_spread(group.mean(name), group.spread(name)) for name in names]
            table.add_row("", Text(written(group.choices) or "(defaults)"), *means, count, style="bold")
        for job in group.jobs:
            choices = {key: value for key, value in job.choices.items() if not seeds or key == "seed"}
            figures = ["–" if (value := job.figure(name)) is None else f"{value:.4f}" for name in names]
            where = str(job.folder) if job.status == "finished" else f"{job.status}{job.error and f': {job.error}'}"
            table.add_row(*map(Text, (job.folder.name, written(choices) or "(defaults)", *figures, where)))
    Console(width=140).print(table)
    if any(group.spread(name) is not None for group in groups for name in names):
        print("mean ± standard deviation over the seeds that finished")


def _mean_and_spread(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"


NARROW = 80
"""Columns below which two replies stand below each other."""


# they would turn the direction of what follows
BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def console() -> "Console":
    """The terminal; where the output goes into a file or a pipe, 120 columns unless COLUMNS says otherwise."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def plain(text: str) -> str:
    r"""Text whose control characters are shown (``\x1b``), not obeyed, since what a model writes can be anything."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    unsafe = unicodedata.category(character) in {"Cc", "Cs"} or character in BIDIRECTIONAL
    return character.encode("unicode_escape").decode() if unsafe and character not in "\n\t" else character


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
    screen.print(Panel(Text(plain(prompt)), title="prompt", title_align="left"))
    panels = [
        Panel(Text(plain(text)), title=Text(name), title_align="left", subtitle=notes[name] or None, width=width)
        for name, text in replies.items()
    ]
    screen.print(Columns(panels, padding=(0, 1)))
    for name, value in facts.items():
        screen.print(Text(f"{name}  {value}", style="dim"))
