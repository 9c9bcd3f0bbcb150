"""The page that closes a sweep: its jobs in order, in pictures, and what the best one says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from socratic_rl.core.dialogue import from_messages
from socratic_rl.core.errors import shell_command
from socratic_rl.pages.page import (
    HUE_NAMES,
    HUES,
    INK,
    MUTED,
    TUTOR,
    Plot,
    Row,
    draw,
    fill,
    points,
    rounded,
    steps_axis,
)
from socratic_rl.pages.sweep_jobs import FIGURES, Group, Job, ranked, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = ("dpo.beta", "dpo.learning_rate")
"""The keys that a heat map is drawn of where both vary; else the first two numeric ones."""


CURVES = (
    ("Loss", "loss", "What training minimises, in the batch of each step."),
    ("Reward accuracy", "rewards/accuracies", "Share of a batch's pairs whose chosen reply has the higher reward."),
)


STYLES = (("", "-"), ("dashed", "--"), ("dotted", ":"))
"""How a series is drawn beside its colour, in the legend and by matplotlib."""


ERROR_LENGTH = 200


@dataclass(frozen=True)
class Sweep:
    """What the page is made of."""

    title: str
    facts: Mapping[str, str]
    jobs: Sequence[Job]
    curves: Mapping[Path, Sequence[Row]]
    """The ``log_history`` of each job that left one, by the job's folder."""
    samples: Sequence[Row]
    """The best job's replies: ``prompt`` (chat messages), ``reply``, ``teacher``."""

    @cached_property
    def groups(self) -> list[Group]:
        """The jobs in order."""
        return ranked(self.jobs)

    @cached_property
    def heat_maps(self) -> list[Plot]:
        """See ``heat_maps``."""
        return heat_maps(self.jobs)

    @cached_property
    def curve_plots(self) -> list[Plot]:
        """See ``curve_plots``."""
        return curve_plots(self.groups, self.curves)


def best_job(jobs: Sequence[Job]) -> Job | None:
    """The best job of the best group; None where none finished."""
    return next((job for group in ranked(jobs) for job in group.jobs if job.status == "finished"), None)


def render(sweep: Sweep) -> str:
    """The page as one HTML file that needs nothing from outside; all text in it is escaped."""
    groups = sweep.groups
    seeds = any(len(group.jobs) > 1 for group in groups)
    best = best_job(sweep.jobs)
    return fill(
        "sweep.html.j2",
        title=sweep.title,
        facts=sweep.facts,
        lead=_lead(groups),
        caution=_caution(best),
        figures=list(FIGURES),
        seeds=seeds,
        rows=[row for group in groups for row in _rows(group, seeds)],
        heat_maps=sweep.heat_maps,
        curves=sweep.curve_plots,
        best=best.folder.name if best else "",
        dialogues=[{**row, "turns": from_messages(row["prompt"])} for row in sweep.samples],
    )


def _figure(name: str, value: float | None) -> str:
    """A figure by its name in ``FIGURES``: shares in percent, the margin with two digits."""
    if value is None:
        return "–"
    return f"{value:.2f}" if name == "margin" else rounded(value, share=True)


def _spread(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if name == "margin" else f"{100 * value:.1f}"


def _lead(groups: Sequence[Group]) -> str:
    best = groups[0]
    accuracy = best.mean("accuracy")
    if accuracy is None:
        return "No job has a held-out figure."
    count = f"{len(groups)} sets of choices" if any(len(group.jobs) > 1 for group in groups) else f"{len(groups)} jobs"
    seeds = len(best.figures("accuracy"))
    spread = best.spread("accuracy")
    text = f"Best of {count}: {written(best.choices) or 'the defaults'}, with a held-out accuracy of "
    text += _figure("accuracy", accuracy)
    if seeds > 1 and spread is not None:
        text += f" (mean of {seeds} seeds, standard deviation {_spread('accuracy', spread)} points)"
    if ties := sum(group.mean("accuracy") == accuracy for group in groups[1:]):
        text += f". {ties} other{'s have' if ties > 1 else ' has'} the same accuracy; ranking and margin decide"
    return text + "."


def _caution(best: Job | None) -> str:
    if best is None or "eval_n" not in best.held_out:
        return ""
    command = shell_command("evaluate", f"adapter={best.folder / 'adapter'}")
    return (
        f"The jobs were ranked on the {best.held_out['eval_n']:.0f} held-out pairs that these figures are of, which "
        f"flatters the first; {command} "
        "measures it on problems that played no part."
    )


def _rows(group: Group, seeds: bool) -> list[dict[str, Any]]:
    """A group of seeds with its jobs below it, or one job, as rows of the table."""
    rows = []
    if seeds:
        done = sum(job.status == "finished" for job in group.jobs)
        rows.append(
            {
                "kind": "group",
                "choices": written(group.choices) or "(defaults)",
                "figures": [(_figure(x, group.mean(x)), _spread(x, group.spread(x))) for x in FIGURES],
                "count": f"{done} seeds" if done == len(group.jobs) else f"{done} of {len(group.jobs)} seeds",
                "status": "",
                "tone": "",
                "error": "",
            }
        )
    for job in group.jobs:
        choices = {key: value for key, value in job.choices.items() if key == "seed"} if seeds else job.choices
        rows.append(
            {
                "kind": "member" if seeds else "group",
                "choices": written(choices) or "(defaults)",
                "figures": [(_figure(x, job.figure(x)), "") for x in FIGURES],
                "count": job.folder.name,
                "status": job.status,
                "tone": "" if job.status == "finished" else "worse",
                "error": (job.error or "")[:ERROR_LENGTH],
            }
        )
    return rows


def labels(groups: Sequence[Group]) -> list[str]:
    """The groups' choices, short: the last part of each key and of a path, where that still tells them apart."""
    keys = list(dict.fromkeys(key for group in groups for key in group.choices))
    names = {key: _last(key, keys, ".") for key in keys}
    values = {key: [group.choices[key] for group in groups if key in group.choices] for key in keys}
    return [
        written({names[key]: _last(value, values[key], "/") for key, value in group.choices.items()}) or "(defaults)"
        for group in groups
    ]


def _last(text: str, others: Sequence[str], separator: str) -> str:
    last = text.rpartition(separator)[2]
    shared = any(other != text and other.rpartition(separator)[2] == last for other in others)
    return text if shared or not last else last


def heat_maps(jobs: Sequence[Job]) -> list[Plot]:
    """Accuracy and ranking accuracy over the two numeric choices that vary: β and learning rate where they do."""
    done = [job for job in jobs if job.figure("accuracy") is not None]
    keys = list(dict.fromkeys(key for job in done for key in job.choices))
    varied = {key: {job.choices.get(key) for job in done} for key in keys}
    varied = {key: values for key, values in varied.items() if len(values) > 1}
    numeric = [key for key, values in varied.items() if key != "seed" and all(map(_is_number, values))]
    numeric.sort(key=lambda key: key not in AXES)
    if len(numeric) < 2:
        return []
    across, up = sorted(numeric[:2], key=lambda key: key == AXES[0])
    others = [key for key in varied if key not in (across, up)]
    plots = []
    for name in ("accuracy", "ranking"):
        cells: dict[tuple[float, float], list[float]] = {}
        for job in done:
            if (value := job.figure(name)) is not None:
                cells.setdefault((float(job.choices[across]), float(job.choices[up])), []).append(value)
        if not cells:
            continue
        means = {point: fmean(values) for point, values in cells.items()}
        counts = sorted({len(values) for values in cells.values()})
        each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        note = f"Held-out {name}, the stronger the colour the better"
        note += f"; each the mean of {each} jobs, over {' and '.join(others)}." if others else "."
        words = "; ".join(f"{across} {x:g}, {up} {y:g}: {_figure(name, v)}" for (x, y), v in sorted(means.items()))
        # a search that draws its values leaves no grid
        grid = 2 * len(cells) >= len({x for x, _ in cells}) * len({y for _, y in cells})
        picture = partial(_heat_map, means=means, across=across, up=up, name=name, cells=_grid if grid else _scatter)
        height = 90 + 46 * len({y for _, y in cells}) if grid else 280
        plots.append(
            Plot(
                f"{name.capitalize()} by {up} and {across}",
                f"{words}.",
                draw(f"heat {name}", picture, height),
                note=note,
            )
        )
    return plots


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def _shade(value: float, values: Sequence[float]) -> float:
    """How dark a value is drawn: text on it stays readable at the darkest."""
    low, high = min(values), max(values)
    return 0.08 + 0.42 * ((value - low) / (high - low) if high > low else 0.5)


def _heat_map(
    axes: "Axes",
    means: Mapping[tuple[float, float], float],
    across: str,
    up: str,
    name: str,
    cells: Callable[["Axes", Mapping[tuple[float, float], float], str], None],
) -> None:
    """A figure over two choices, its cells as a grid or scattered."""
    cells(axes, means, name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _grid(axes: "Axes", means: Mapping[tuple[float, float], float], name: str) -> None:
    columns, rows = (sorted({point[side] for point in means}) for side in (0, 1))
    for (x, y), value in means.items():
        column, row = columns.index(x), rows.index(y)
        shade = _shade(value, list(means.values()))
        axes.fill_between([column - 0.48, column + 0.48], row - 0.47, row + 0.47, color=TUTOR, alpha=shade, linewidth=0)
        weight = "bold" if value == max(means.values()) else "normal"
        axes.text(column, row, _figure(name, value), ha="center", va="center", color=INK, fontweight=weight)
    axes.set_xticks(range(len(columns)), [f"{x:g}" for x in columns], rotation=45 if len(columns) > 5 else 0)
    axes.set_yticks(range(len(rows)), [f"{y:g}" for y in rows])
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scatter(axes: "Axes", means: Mapping[tuple[float, float], float], name: str) -> None:
    best = max(means, key=lambda point: means[point])
    for point, value in means.items():
        shade = _shade(value, list(means.values()))
        edge = INK if point == best else MUTED
        axes.plot(*point, "o", color=TUTOR, alpha=2 * shade, markersize=13, markeredgewidth=0)
        axes.plot(
            *point, "o", color=edge, markerfacecolor="none", markersize=13, markeredgewidth=2 if point == best else 1
        )
    axes.annotate(
        _figure(name, means[best]), best, (0, 11), textcoords="offset points", ha="center", color=INK, fontweight="bold"
    )
    for side, axis in ((0, axes.xaxis), (1, axes.yaxis)):
        values = [point[side] for point in means]
        if min(values) > 0 and max(values) >= 5 * min(values):
            (axes.set_xscale if side == 0 else axes.set_yscale)("log")
            axis.set_minor_formatter(lambda *_: "")
        else:
            axis.get_major_locator().set_params(nbins=4)  # type: ignore[call-arg]
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(0.15)
    axes.grid(alpha=0.6)
    axes.set_axisbelow(True)


def curve_plots(groups: Sequence[Group], curves: Mapping[Path, Sequence[Row]]) -> list[Plot]:
    """Every job's curves in one picture for each measure, the seeds of a group alike."""
    drawn = [group for group in groups if any(job.folder in curves for job in group.jobs)]
    plots = []
    for title, key, meaning in CURVES:
        lines = [
            [logged for job in group.jobs if (logged := points(curves.get(job.folder, ()), key))] for group in drawn
        ]
        if not any(lines):
            continue
        keys = [
            (label, f"series {_look(rank)[1]} {STYLES[rank % len(STYLES)][0]}")
            for rank, label in enumerate(labels(drawn)[: len(HUES)])
        ]
        if len(drawn) > len(HUES):
            keys.append((f"{len(drawn) - len(HUES)} others", "series unclear"))
        words = "; ".join(
            f"{written(job.choices) or 'job ' + job.folder.name} {logged[0][1]:.3g} at step {logged[0][0]:g}, "
            f"{logged[-1][1]:.3g} at step {logged[-1][0]:g}"
            for group in drawn
            for job in group.jobs
            if (logged := points(curves.get(job.folder, ()), key))
        )
        picture = draw(f"curves {key}", partial(_lines, lines=lines), height=260)
        plots.append(Plot(title, f"{title}: {words}.", picture, tuple(keys), f"{meaning} One line a job, best first."))
    return plots


def _look(rank: int) -> tuple[str, str]:
    """Colour and its name in the page's style, of the group of that rank."""
    return (HUES[rank], HUE_NAMES[rank]) if rank < len(HUES) else (MUTED, "unclear")


def _lines(axes: "Axes", lines: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> None:
    # the best lies on top
    for rank, jobs in reversed(list(enumerate(lines))):
        colour, style = _look(rank)[0], STYLES[rank % len(STYLES)][1] if rank < len(HUES) else "-"
        for logged in jobs:
            marker = "o" if len(logged) == 1 else ""
            width = 2.2 if rank == 0 else 1.4 if rank < len(HUES) else 0.8
            axes.plot(*zip(*logged, strict=True), style, color=colour, linewidth=width, marker=marker, markersize=4)
    steps_axis(axes)
