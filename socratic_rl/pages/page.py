"""What the pages share: their frame, their pictures, figures in words."""

import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from socratic_rl.measures.figures import Figure, finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]


HUE_NAMES = tuple(f"hue{number}" for number in range(1, 9))
"""Colours that tell series apart."""


COLOURS = {
    f"#0000{number:02x}": f"var(--{name})"
    for number, name in enumerate(
        ("ink", "muted", "line", "base", "tutor", "better", "worse", "unclear", *HUE_NAMES), 1
    )
}
"""Stand-ins that matplotlib draws with; the page's style gives each its colour in light and in dark."""


INK, MUTED, LINE, BASE, TUTOR, BETTER, WORSE, UNCLEAR, *HUES = COLOURS


def fill(template: str, **values: Any) -> str:
    """A page that needs nothing from outside, from one of our templates; all text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("socratic_rl.pages"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(hues=HUE_NAMES, **values)


def rounded(value: float | None, share: bool) -> str:
    """A mean, rounded so that neither "0%" nor "100%" is said of what only comes near it."""
    if value is None:
        return "–"
    if not share:
        return f"{value:.{0 if abs(value) >= 100 else 1}f}".replace("-", "−")
    percent = round(100 * value, 6)
    near_an_end = 0 < abs(percent) < 1 or 99 < abs(percent) < 100
    return f"{percent:.{1 if near_an_end else 0}f}%".replace("-", "−")


def in_digits(figure: Figure) -> dict[str, str]:
    """A figure for a plain table: base, tutor, difference, its 95% interval, with three digits."""

    def digits(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{value:{sign}.3f}"

    return {
        "base": digits(figure.base),
        "tutor": digits(figure.tutor),
        "difference": digits(figure.difference, "+"),
        "interval": "–" if figure.low is None else f"[{digits(figure.low, '+')}, {digits(figure.high, '+')}]",
        "n": str(figure.n),
    }


def points(history: Iterable[Row], key: str) -> list[tuple[float, float]]:
    """The steps at which a key of a ``log_history`` has a value, with the value."""
    logged = ((finite(row.get("step")), finite(row.get(key))) for row in history)
    return [(step, value) for step, value in logged if step is not None and value is not None]


def steps_axis(axes: "Axes") -> None:
    """Training steps from left to right, as whole numbers."""
    axes.grid(axis="y")
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Plot:
    """A picture, and what it shows in words for who cannot see it."""

    title: str
    words: str
    svg: Markup
    keys: tuple[tuple[str, str], ...] = ()
    """What each mark means, with the style that draws it."""
    note: str = ""


def draw(name: str, draw: Callable[["Axes"], None], height: float) -> Markup:
    """Draw as inline SVG, 360 px wide; colours and typeface come from the page around it."""
    import matplotlib.figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": name,  # the same ids on every run, other ids in every picture
        "font.size": 12,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": LINE,
        "axes.labelcolor": MUTED,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "grid.color": LINE,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(settings):
        figure = matplotlib.figure.Figure(figsize=(360 / 72, height / 72), layout="constrained", facecolor="none")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # names of artists, the same in every picture and used by none
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg)
    svg = re.sub(r" font-family: [^;\"<>]*;?", "", svg)
    svg = re.sub("|".join(COLOURS), lambda match: COLOURS[match[0]], svg)
    # made by matplotlib, which escapes the text that it is given
    return Markup(svg)  # noqa: S704
