"""The jobs of a sweep in order: together where they differ in their seed alone, the best first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from socratic_rl import sweeps
from socratic_rl.record import read_json

FIGURES = {"accuracy": "eval_rewards/accuracies", "ranking": "eval_ranking_accuracy", "margin": "eval_rewards/margins"}
"""The held-out figures that jobs are ordered by, the first first, each by what it is called in a table.

The margin comes last because it has β as a factor.
"""


@dataclass(frozen=True)
class Job:
    """A job of a sweep and how it ended."""

    folder: Path
    choices: Mapping[str, str]
    """The swept keys with this job's values, as they were written on the command line."""
    status: Literal["finished", "failed", "stopped"]
    score: float | None
    """What its entry point returned."""
    held_out: Mapping[str, float]
    """The held-out figures of a training, under TRL's names."""
    error: str | None
    overrides: tuple[str, ...] = ()

    def figure(self, name: str) -> float | None:
        """A held-out figure by its name in ``FIGURES``; the score stands for the first where there is none."""
        return self.held_out.get(FIGURES[name], self.score if name == next(iter(FIGURES)) else None)


@dataclass(frozen=True)
class Group:
    """Jobs that differ in nothing but ``seed``, the best first."""

    choices: Mapping[str, str]
    """Their choices but ``seed``."""
    jobs: Sequence[Job]

    def figures(self, name: str) -> list[float]:
        """The figure of each job that has it."""
        return [value for job in self.jobs if (value := job.figure(name)) is not None]

    def mean(self, name: str) -> float | None:
        """The mean of a figure over the jobs that have it."""
        return fmean(found) if (found := self.figures(name)) else None

    def spread(self, name: str) -> float | None:
        """The sample standard deviation of a figure; None where fewer than two jobs have it."""
        return stdev(found) if len(found := self.figures(name)) > 1 else None


def read_jobs(sweep: Path) -> list[Job]:
    """The jobs of a multirun in the order of their numbers."""
    keys = read_json(sweep / sweeps.START)["choices"]
    jobs = []
    for path in sorted(sweep.glob(f"*/{sweeps.RESULT}"), key=lambda path: (len(path.parent.name), path.parent.name)):
        result = read_json(path)
        values = {sweeps.key_of(text): text.partition("=")[2] for text in result["overrides"]}
        jobs.append(
            Job(
                folder=path.parent,
                choices={key: values[key] for key in keys if key in values},
                status=result["status"],
                score=result["score"],
                held_out=result["held_out"],
                error=result["error"],
                overrides=tuple(text for text in result["overrides"] if sweeps.key_of(text) not in keys),
            )
        )
    return jobs


def ranked(jobs: Sequence[Job]) -> list[Group]:
    """Jobs put together by all choices but ``seed``, best mean first; ties in one figure are settled by the next."""
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple((key, value) for key, value in job.choices.items() if key != "seed"), []).append(job)
    made = [Group(dict(choices), sorted(members, key=_order)) for choices, members in groups.items()]
    return sorted(made, key=lambda group: tuple(map(_descending, map(group.mean, FIGURES))))


def _order(job: Job) -> tuple[object, ...]:
    return job.status != "finished", *map(_descending, map(job.figure, FIGURES))


def _descending(value: float | None) -> tuple[bool, float]:
    """Sorts the largest first and what is missing last."""
    return value is None or value != value, -(value or 0)


def written(choices: Mapping[str, str]) -> str:
    """Choices as they are written on a command line, numbers that a sampler drew with four digits."""
    return " ".join(f"{key}={_short(value)}" for key, value in choices.items())


def _short(value: str) -> str:
    drawn = len(value) > 8 and re.fullmatch(r"-?\d*\.?\d+(e-?\d+)?", value)
    return f"{float(value):.4g}" if drawn else value


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
