"""The pictures of the report."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from socratic_rl.pages.page import BASE, BETTER, INK, TUTOR, UNCLEAR, WORSE, Plot, Row, draw, number, points
from socratic_rl.pages.wording import measure_of, ordered, since, verdict_of, worded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


End = tuple[str, float | None, float | None, float | None]
"""What a value is of, the value, and its interval."""


def difference_plot(metrics: Sequence[Row]) -> list[Plot]:
    """Tutor minus base with intervals, a row for each share; nothing where no share has a base."""
    rows = [row for row in ordered(metrics) if row["kind"] == "all" and measure_of(row["name"]).share]
    rows = [row for row in rows if verdict_of(row)]
    if not rows:
        return []
    lines = [worded(row) for row in rows]
    words = "; ".join(f"{x['label']}: {x['difference']} points {x['interval']}".strip() for x in lines)
    return [
        Plot(
            "Tutor minus base, in points",
            f"Difference of tutor and base with 95% intervals. {words}.",
            draw("differences", partial(_forest, rows=rows, lines=lines), 44 + 34 * len(rows)),
            (("better", "round better"), ("worse", "turned worse"), ("no clear difference", "hollow unclear")),
        )
    ]


def sides_plot(title: str, rows: Sequence[Row]) -> list[Plot]:
    """A share of base and tutor with intervals, a row for each kind; nothing where there is no kind."""
    if not rows:
        return []
    lines = [worded(row) for row in rows]
    words = "; ".join(f"{x['label']}: base {x['base']}, tutor {x['tutor']}" for x in lines)
    return [
        Plot(
            title,
            f"{title}. {words}.",
            draw(title, partial(_sides, rows=rows, lines=lines), 44 + 34 * len(rows)),
            (("base", "base"), ("tutor, with its figure", "round tutor")),
        )
    ]


def round_plots(metrics: Sequence[Row], names: Sequence[str]) -> list[Plot]:
    """A share of base, each earlier round and the tutor side by side, a picture for each measure.

    Args:
        metrics: The rows of ``evaluation.json`` to draw.
        names: What base, earlier rounds and tutor are called.
    """
    plots = []
    for row in metrics:
        past = [_end(reply["name"], reply, "") for reply in row["earlier"]]
        ends = [_end(names[0], row, "base"), *past, _end(names[-1], row, "tutor")]
        label = measure_of(row["name"]).label
        words = ", ".join(f"{name} {100 * value:.0f}%" for name, value, *_ in ends if value is not None)
        step = since(row)
        note = f"Since {names[-2]}: {step}." if step else ""
        drawn = draw(f"rounds {label}", partial(_rounds, ends=ends), 230)
        plots.append(Plot(label, f"{label}: {words}.", drawn, note=note))
    return plots


def _end(name: str, row: Row, side: str) -> End:
    keys = (side, f"{side}_low", f"{side}_high") if side else ("value", "low", "high")
    value, low, high = (number(row.get(key)) for key in keys)
    return name, value, low, high


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
    for place, value in enumerate(values):
        axes.text(1.2, place, value, transform=axes.get_yaxis_transform(), ha="right", va="center", fontweight="bold")


def _forest(axes: "Axes", rows: Sequence[Row], lines: Sequence[Row]) -> None:
    tones = {"better": (BETTER, "o", BETTER), "worse": (WORSE, "D", WORSE)}
    _rows_axis(axes, [line["label"] for line in lines], [line["difference"] for line in lines])
    axes.axvline(0, color=INK, linewidth=1)
    for place, row in enumerate(rows):
        colour, marker, fill = tones.get(verdict_of(row), (UNCLEAR, "o", "none"))
        low, high = number(row.get("low")), number(row.get("high"))
        if low is not None and high is not None:
            axes.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot(100 * row["difference"], place, marker, color=colour, markerfacecolor=fill, markersize=8)
    ends = [100 * value for row in rows for key in ("low", "high", "difference") if (value := number(row.get(key)))]
    axes.set_xlim(min([-10, *ends]) - 4, max([10, *ends]) + 4)


def _sides(axes: "Axes", rows: Sequence[Row], lines: Sequence[Row]) -> None:
    _rows_axis(axes, [line["label"] for line in lines], [line["tutor"] for line in lines])
    for side, shift, colour, marker in (("base", -0.14, BASE, "s"), ("tutor", 0.14, TUTOR, "o")):
        for place, row in enumerate(rows):
            value, low, high = (number(row.get(key)) for key in (side, f"{side}_low", f"{side}_high"))
            if value is None:
                continue
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [place + shift] * 2, color=colour, linewidth=2.5)
            axes.plot(100 * value, place + shift, marker, color=colour, markersize=7)
    axes.set_xlim(-3, 103)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")


def _rounds(axes: "Axes", ends: Sequence[End]) -> None:
    for place, (_, value, low, high) in enumerate(ends):
        colour, marker = (TUTOR, "o") if place else (BASE, "s")
        if value is None:
            continue
        if low is not None and high is not None:
            axes.plot([place, place], [100 * low, 100 * high], color=colour, linewidth=2.5)
        axes.plot(place, 100 * value, marker, color=colour, markersize=8)
        axes.annotate(f"{100 * value:.0f}%", (place, 100 * value), (9, 0), textcoords="offset points", va="center")
    axes.set_xticks(range(len(ends)), [textwrap.fill(name, 12, max_lines=2, placeholder=" …") for name, *_ in ends])
    axes.set_xlim(-0.4, len(ends) - 0.4)
    axes.set_ylim(-4, 104)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f}%")
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
    axes.grid(axis="y")
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.legend(loc="best")
