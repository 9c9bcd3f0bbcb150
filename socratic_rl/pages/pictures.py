"""The pictures of the report."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_rl.measures.figures import Estimate, Figure
from socratic_rl.pages.page import BASE, BETTER, INK, TUTOR, UNCLEAR, WORSE, Plot, Row, draw, points, steps_axis
from socratic_rl.pages.wording import measure_of, ordered, since, verdict_of, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

Mark = tuple[str, str, str]
"""Colour, marker and what fills the marker."""


OF_BASE, OF_TUTOR = (BASE, "s", BASE), (TUTOR, "o", TUTOR)


CURVES = (
    ("Loss", "loss", "What training minimises."),
    ("Reward accuracy", "rewards/accuracies", "Share of pairs whose chosen reply has the higher implicit reward."),
    (
        "Reward margin",
        "rewards/margins",
        "By how much the chosen reply's reward exceeds the rejected one's, on average.",
    ),
)
"""Titles, keys and meanings of the training curves; ``eval_`` stands before the key of what held-out pairs gave."""


Ends = Sequence[tuple[str, Estimate]]
"""What is drawn side by side: whose value it is, and the value with its interval."""


def difference_plot(figures: Sequence[Figure]) -> list[Plot]:
    """Tutor minus base with intervals, a row for each share; nothing where no share has a base."""
    rows = [
        figure
        for figure in ordered(figures)
        if figure.overall and measure_of(figure.name).share and figure.difference is not None
    ]
    if not rows:
        return []
    lines = [worded(figure) for figure in rows]
    words = "; ".join(f"{x['label']}: {x['difference']} points {x['interval']}".strip() for x in lines)
    return [
        Plot(
            "Tutor minus base, in points",
            f"Difference of tutor and base with 95% intervals. {words}.",
            draw("differences", partial(_forest, figures=rows, lines=lines), 44 + 34 * len(rows)),
            (("better", "round better"), ("worse", "turned worse"), ("no clear difference", "hollow unclear")),
        )
    ]


def sides_plot(title: str, figures: Sequence[Figure]) -> list[Plot]:
    """A share of base and tutor with intervals, a row for each kind; nothing where there is no kind."""
    if not figures:
        return []
    lines = [worded(figure) for figure in figures]
    words = "; ".join(f"{x['label']}: base {x['base']}, tutor {x['tutor']}" for x in lines)
    return [
        Plot(
            title,
            f"{title}. {words}.",
            draw(title, partial(_sides, figures=figures, lines=lines), 44 + 34 * len(figures)),
            (("base", "base"), ("tutor, with its figure", "round tutor")),
        )
    ]


def round_plots(figures: Sequence[Figure], names: Sequence[str]) -> list[Plot]:
    """A share of base, each earlier round and the tutor side by side, a picture for each measure.

    Args:
        figures: What to draw.
        names: What base, earlier rounds and tutor are called.
    """
    plots = []
    for figure in figures:
        past = [(reply.name, Estimate(reply.value, reply.low, reply.high)) for reply in figure.earlier]
        ends = [(names[0], figure.of_base), *past, (names[-1], figure.of_tutor)]
        label = measure_of(figure.name).label
        words = ", ".join(f"{name} {100 * end.value:.0f}%" for name, end in ends if end.value is not None)
        step = since(figure)
        note = f"Since {names[-2]}: {step}." if step else ""
        drawn = draw(f"rounds {label}", partial(_rounds, ends=ends), 230)
        plots.append(Plot(label, f"{label}: {words}.", drawn, note=note))
    return plots


def curve_plots(history: Sequence[Row]) -> list[Plot]:
    """The training curves, one picture for each key of ``CURVES`` that was logged."""
    plots = []
    for title, key, meaning in CURVES:
        named = {"training": points(history, key), "held out": points(history, f"eval_{key}")}
        series = {label: logged for label, logged in named.items() if logged}
        if series:
            words = "; ".join(
                f"{label} {first:.3g} at step {start:g}, {last:.3g} at step {end:g}"
                for label, ((start, first), *_, (end, last)) in ((k, [v[0], *v]) for k, v in series.items())
            )
            drawn = draw(key, partial(_curve, series=series), height=240)
            plots.append(Plot(title, f"{title}: {words}.", drawn, note=meaning))
    return plots


def _rows_axis(axes: "Axes", labels: Sequence[str], values: Sequence[str]) -> None:
    """One row a label from top to bottom, its figure at the right."""
    axes.set_yticks(range(len(labels)), [textwrap.fill(x, 16, max_lines=2, placeholder=" …") for x in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for row, value in enumerate(values):
        axes.text(1.2, row, value, transform=axes.get_yaxis_transform(), ha="right", va="center", fontweight="bold")


def _percent(axis: "Axis") -> None:
    axis.set_major_formatter(lambda value, _: f"{value:.0f}%")


def _estimate(
    axes: "Axes",
    position: float,
    estimate: Estimate,
    mark: Mark,
    *,
    size: int,
    upright: bool = False,
    **line: Any,
) -> None:
    """Draw a share as a mark on the line of its interval, in percent; nothing where there is no value."""
    colour, marker, fill = mark
    value, low, high = estimate
    if value is None:
        return

    def plot(*values: float, marker: str = "", **style: Any) -> None:
        positions = [position] * len(values)
        axes.plot(*((positions, values) if upright else (values, positions)), marker, color=colour, **style)

    if low is not None and high is not None:
        plot(100 * low, 100 * high, linewidth=2.5, **line)
    plot(100 * value, marker=marker, markerfacecolor=fill, markersize=size)


def _forest(axes: "Axes", figures: Sequence[Figure], lines: Sequence[Row]) -> None:
    marks = {"better": (BETTER, "o", BETTER), "worse": (WORSE, "D", WORSE)}
    _rows_axis(axes, [line["label"] for line in lines], [line["difference"] for line in lines])
    axes.axvline(0, color=INK, linewidth=1)
    for row, figure in enumerate(figures):
        mark = marks.get(verdict_of(figure), (UNCLEAR, "o", "none"))
        _estimate(axes, row, figure.of_difference, mark, size=8, solid_capstyle="butt")
    ends = [100 * value for figure in figures for value in figure.of_difference if value]
    axes.set_xlim(min([-10, *ends]) - 4, max([10, *ends]) + 4)


def _sides(axes: "Axes", figures: Sequence[Figure], lines: Sequence[Row]) -> None:
    _rows_axis(axes, [line["label"] for line in lines], [line["tutor"] for line in lines])
    for row, figure in enumerate(figures):
        _estimate(axes, row - 0.14, figure.of_base, OF_BASE, size=7)
    for row, figure in enumerate(figures):
        _estimate(axes, row + 0.14, figure.of_tutor, OF_TUTOR, size=7)
    axes.set_xlim(-3, 103)
    _percent(axes.xaxis)


def _rounds(axes: "Axes", ends: Ends) -> None:
    for column, (_, end) in enumerate(ends):
        _estimate(axes, column, end, OF_TUTOR if column else OF_BASE, size=8, upright=True)
        if end.value is not None:
            height = 100 * end.value
            axes.annotate(f"{height:.0f}%", (column, height), (9, 0), textcoords="offset points", va="center")
    axes.set_xticks(range(len(ends)), [textwrap.fill(name, 12, max_lines=2, placeholder=" …") for name, _ in ends])
    axes.set_xlim(-0.4, len(ends) - 0.4)
    axes.set_ylim(-4, 104)
    _percent(axes.yaxis)
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _curve(axes: "Axes", series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    styles = {"training": (TUTOR, "-", 1.8), "held out": (INK, "--", 1.5)}
    for label, logged in series.items():
        colour, line, width = styles[label]
        marker = "o" if label == "held out" or len(logged) == 1 else ""
        axes.plot(
            *zip(*logged, strict=True), line, color=colour, linewidth=width, marker=marker, markersize=5, label=label
        )
    steps_axis(axes)
    axes.legend(loc="best")
