"""The jobs of a sweep in order: together where they differ in their seed alone, the best first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal

from pydantic import BaseModel

from socratic_rl.core.files import read_model

FIGURES = {"accuracy": "eval_rewards/accuracies", "ranking": "eval_ranking_accuracy", "margin": "eval_rewards/margins"}
"""The held-out figures that jobs are ordered by, the first first, each by what it is called in a table.

The margin comes last because it has β as a factor.
"""


class Start(BaseModel):
    """What a sweep was started with: its ``sweep.json``."""

    overrides: tuple[str, ...]
    choices: tuple[str, ...]
    """The keys that its jobs differ in."""
    options: tuple[str, ...] = ()
    """The options by which the user's own configs were found."""


class Outcome(BaseModel):
    """How a job of a sweep ended: its ``result.json``."""

    overrides: tuple[str, ...]
    status: Literal["finished", "failed", "stopped"]
    score: float | None
    """What its entry point returned."""
    held_out: dict[str, float | int]
    """The held-out figures of a training, under TRL's names."""
    error: str | None


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
        return fmean(figures) if (figures := self.figures(name)) else None

    def spread(self, name: str) -> float | None:
        """The sample standard deviation of a figure; None where fewer than two jobs have it."""
        return stdev(figures) if len(figures := self.figures(name)) > 1 else None


def results(sweep: Path) -> list[Path]:
    """The results of a sweep's jobs, whose folders may lie in each other, as values with a slash make them."""
    return [path for path in sweep.rglob(RESULT) if "wandb" not in path.relative_to(sweep).parts]


def read_jobs(sweep: Path) -> list[Job]:
    """The jobs of a multirun in the order of their numbers."""
    keys = read_model(Start, sweep / START).choices
    jobs = []
    for path in sorted(results(sweep), key=lambda path: (len(path.parent.name), path.parent.name)):
        result = read_model(Outcome, path)
        values = {key_of(text): text.partition("=")[2] for text in result.overrides}
        jobs.append(
            Job(
                folder=path.parent,
                choices={key: values[key] for key in keys if key in values},
                status=result.status,
                score=result.score,
                held_out=result.held_out,
                error=result.error,
                overrides=tuple(text for text in result.overrides if key_of(text) not in keys),
            )
        )
    return jobs


def ranked(jobs: Sequence[Job]) -> list[Group]:
    """Jobs put together by all choices but ``seed``, best mean first; ties in one figure are settled by the next."""
    groups: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple((key, value) for key, value in job.choices.items() if key != "seed"), []).append(job)
    unsorted = [Group(dict(choices), sorted(members, key=_order)) for choices, members in groups.items()]
    return sorted(unsorted, key=lambda group: tuple(map(_descending, map(group.mean, FIGURES))))


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


START = "sweep.json"
"""In the sweep's folder: the overrides that it was started with and the keys that its jobs differ in."""


RESULT = "result.json"
"""In each job's folder: how it ended."""


TRAINING_LOG = "training_log.jsonl"
"""In a finished training's folder: the ``log_history`` of transformers."""


def key_of(text: str) -> str:
    """The key of an override as it is written, with its plus where it has one."""
    return text.partition("=")[0].strip()
