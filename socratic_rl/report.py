"""The page people look at: base against tutor, in numbers with intervals, in pictures and in dialogues."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from socratic_rl.dialogue import from_messages, text_id
from socratic_rl.page import BASE, BETTER, INK, TUTOR, UNCLEAR, WORSE, Plot, Row, draw, fill, number, points, rounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_BREAK = "\u00a0"

DIALOGUES = 20
"""How many dialogues the page shows."""


@dataclass(frozen=True)
class Report:
    """What the page is made of."""

    title: str
    facts: Mapping[str, str]
    """What was trained on what, with which settings, when: shown as they are, in their order."""
    metrics: Sequence[Row]
    """The rows of ``evaluation.json``."""
    curves: Sequence[Row]
    """The rows of the ``log_history`` of transformers."""
    dialogues: Sequence[Row]
    """Replies side by side: ``problem_id``, ``topic``, ``question``, ``answer``, ``turn`` (from 0), ``prompt`` (chat
    messages), ``reference`` (the annotated turn), ``base``, ``tutor``, ``base_marks``, ``tutor_marks``."""


@dataclass(frozen=True)
class Measure:
    """How a figure of ``evaluation.json`` is named, explained and judged."""

    label: str
    phrase: str
    """What the sentence on one model says, around its figure."""
    meaning: str
    better: int
    """1 where more is better, -1 where less is, 0 where neither is."""
    rows: str = "replies to"
    share: bool = True


MEASURES = {
    "asks_question": Measure(
        "Asks a question",
        "asks a question in {} of its replies",
        "Share of replies that ask the student a question.",
        1,
    ),
    "reveals_answer": Measure(
        "Reveals the answer",
        "reveals the answer in {} of its replies",
        "Share of replies that state the gold answer's value before the student or the problem did, or present it as "
        "a conclusion.",
        -1,
    ),
    "preference_accuracy": Measure(
        "Prefers the chosen reply",
        "prefers the chosen reply in {} of the held-out pairs",
        "Share of held-out pairs whose chosen reply gained more likelihood over the base than the rejected one did. "
        "The base has no preference over itself, which counts as a half.",
        1,
        rows="pairs from",
    ),
    "ranking_accuracy": Measure(
        "Finds the chosen reply likelier",
        "finds the chosen reply likelier in {} of the held-out pairs",
        "Share of held-out pairs whose chosen reply the model finds likelier, per token, than the rejected one.",
        1,
        rows="pairs from",
    ),
    "log_ratio_margin": Measure(
        "Log-ratio margin",
        "has a log-ratio margin of {}",
        "Mean log-likelihood (nats) that the chosen reply gained over the base, less what the rejected one gained.",
        1,
        rows="pairs from",
        share=False,
    ),
    "speaks_for_student": Measure(
        "Speaks for the student",
        "speaks for the student in {} of its replies",
        "Share of replies that also write what the student says.",
        -1,
    ),
    "repeats_turn": Measure(
        "Repeats a turn",
        "repeats an earlier turn in {} of its replies",
        "Share of replies that say an earlier teacher turn of the dialogue again.",
        -1,
    ),
    "cut_off": Measure(
        "Is cut off",
        "is cut off at the length limit in {} of its replies",
        "Share of replies that reach the limit of tokens before their end.",
        -1,
    ),
    "words": Measure(
        "Words",
        "writes {} words a reply",
        "Mean number of words in a reply; neither more nor fewer is better in itself.",
        0,
        share=False,
    ),
}

FEW = 10
"""Problems below which the page warns of its intervals."""

HEADLINE = ("asks_question", "reveals_answer", "preference_accuracy")
"""Measures that the page opens with; any other opens it too where the tutor is worse."""

VERDICTS = {
    "better": "Better than the base",
    "worse": "Worse than the base",
    "unclear": "No clear difference",
    "more": "More than the base",
    "fewer": "Fewer than the base",
    "unsure": "No interval",
}

MARKS: dict[str, dict[bool | None, tuple[str, str]]] = {
    "asks_question": {True: ("asks", "better"), False: ("does not ask", "worse")},
    "reveals_answer": {
        True: ("reveals the answer", "worse"),
        False: ("does not reveal", "better"),
        None: ("no gold answer", "unclear"),
    },
    "speaks_for_student": {True: ("speaks for the student", "worse")},
    "repeats_turn": {True: ("repeats a turn", "worse")},
    "cut_off": {True: ("cut off", "worse")},
}
"""What is written beside a reply, and its tone, by the value of the measure."""

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


def render(report: Report) -> str:
    """The report as one HTML page that needs nothing from outside; all text in it is escaped."""
    lines = [_line(row) for row in _ordered(report.metrics)]
    compared = [line for line in lines if line["kind"] == "all" and line["difference"]]
    return fill(
        "report.html.j2",
        title=report.title,
        facts=report.facts,
        lead=_lead(compared),
        headline=[
            line
            for line in lines
            if line["kind"] == "all" and (line["name"] in HEADLINE or line["verdict"] == "worse") and line["sentence"]
        ],
        overall=[line for line in lines if line["kind"] == "all"],
        kinds=[line for line in lines if line["kind"] != "all"],
        differences=_difference_plots(report.metrics),
        curves=_curve_plots(report.curves),
        dialogues=[_dialogue(row) for row in select(report.dialogues)],
        count=len(report.dialogues),
        problems=len({row["problem_id"] for row in report.dialogues}),
        failures=sum(map(fails, report.dialogues)),
    )


# ---- figures in words ----


def _measure(name: str) -> Measure:
    words = name.replace("_", " ")
    return MEASURES.get(name) or Measure(words.capitalize(), f"{words}: {{}}", "", 0, share=False)


def _ordered(metrics: Iterable[Row]) -> list[Row]:
    """Rows by measure as the page lists them, the figure over all pairs before those by kind of rejection."""
    order = {name: place for place, name in enumerate(MEASURES)}
    return sorted(metrics, key=lambda row: (order.get(row["name"], len(order)), row["kind"] != "all"))


def _change(value: float, share: bool, sign: bool = True) -> str:
    """A difference: points of a share, or the measure's own unit."""
    value = round(100 * value if share else value, 6)
    text = f"{abs(value):.{0 if share and (abs(value) >= 1 or not value) else 1}f}"
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def _verdict(row: Row) -> str:
    """What the interval of the difference says: a key of ``VERDICTS``, or nothing where there is no base."""
    difference, low, high = (number(row.get(key)) for key in ("difference", "low", "high"))
    if difference is None:
        return ""
    if low is None or high is None:
        return "unsure"
    if low <= 0 <= high:
        return "unclear"
    better = _measure(row["name"]).better
    if not better:
        return "more" if difference > 0 else "fewer"
    return "better" if difference * better > 0 else "worse"


def _line(row: Row) -> dict[str, Any]:
    """A row of ``evaluation.json`` as the page writes it."""
    measure = _measure(row["name"])
    base, tutor, difference = (number(row.get(key)) for key in ("base", "tutor", "difference"))

    def interval(side: str) -> str:
        low, high = number(row.get(f"{side}low")), number(row.get(f"{side}high"))
        if low is None or high is None:
            return ""
        if side:
            return f"[{rounded(low, measure.share)},{NO_BREAK}{rounded(high, measure.share)}]"
        return f"[{_change(low, measure.share, sign=False)},{NO_BREAK}{_change(high, measure.share, sign=False)}]"

    line = {
        "name": row["name"],
        "kind": row["kind"],
        "label": measure.label if row["kind"] == "all" else row["kind"].replace("_", " "),
        "meaning": measure.meaning if row["kind"] == "all" else measure.label,
        "base": rounded(base, measure.share),
        "base_interval": interval("base_"),
        "tutor": rounded(tutor, measure.share),
        "tutor_interval": interval("tutor_"),
        "difference": "" if difference is None else _change(difference, measure.share),
        "interval": interval(""),
        "unit": "points" if measure.share else measure.label.lower(),
        "n": f"{row['n']:,}",
        "problems": "–" if row.get("problems") is None else f"{row['problems']:,}",
        "problem_count": row.get("problems"),
        "verdict": _verdict(row),
    }
    line["verdict_text"] = VERDICTS.get(line["verdict"], "")
    line["sentence"] = "" if tutor is None else _sentence(measure, line)
    return line


def _sentence(measure: Measure, line: Row) -> str:
    text = f"The tutor {measure.phrase.format(line['tutor'])}"
    if line["difference"]:
        text += f", its base in {line['base']}" if measure.share else f", its base {line['base']}"
        text += f": {line['difference']} {line['unit']}"
        text += f" {line['interval']}" if line["interval"] else ""
    elif line["tutor_interval"]:
        text += f" {line['tutor_interval']}"
    text += f", n{NO_BREAK}={NO_BREAK}{line['n']} {measure.rows.split()[0]}"
    if (count := line["problem_count"]) is not None:
        text += f" {measure.rows.split()[1]} {line['problems']} problem{'' if count == 1 else 's'}"
    endings = {
        "unclear": ". The interval includes zero, so this shows no difference",
        "worse": ". The tutor is worse here than the model it came from",
        "unsure": ". One problem is too few for an interval, so this shows no difference",
    }
    return text + endings.get(line["verdict"], "") + "."


def _lead(compared: Sequence[Row]) -> str:
    """The first sentences of the page: where the tutor is better than its base, where worse, where neither."""
    judged = [line for line in compared if _measure(line["name"]).better]
    if not judged:
        return "No measure compares the tutor with its base."
    openings = {
        "better": "The tutor is better than its base on {}: it {}.",
        "worse": "The tutor is worse than its base on {}: it {}.",
        "unclear": "No clear difference on {}: {}.",
        "unsure": "Too few problems to tell on {}: {}.",
    }
    sentences = []
    for verdict, opening in openings.items():
        named = []
        for line in judged:
            if line["verdict"] == verdict:
                label = line["label"][0].lower() + line["label"][1:]
                often = f" {'less' if line['difference'].startswith('−') else 'more'} often"
                named.append(label + (often if verdict in ("better", "worse") else ""))
        if named:
            total = f"{len(named)} of {len(judged)} measure{'' if len(judged) == 1 else 's'}"
            sentences.append(opening.format(total, ", ".join(named)))
    fewest = min((line["problem_count"] for line in judged if line["problem_count"] is not None), default=FEW)
    if 1 < fewest < FEW:
        sentences.append(
            f"The intervals come from as few as {fewest} problems, which makes them too narrow to rely on."
        )
    return " ".join(sentences)


# ---- pictures ----


def _difference_plots(metrics: Sequence[Row]) -> list[Plot]:
    rows = _ordered(metrics)
    shares = [row for row in rows if row["kind"] == "all" and _measure(row["name"]).share and _verdict(row)]
    kinds = [row for row in rows if row["kind"] != "all" and row["name"] == "preference_accuracy"]
    plots = []
    if shares:
        lines = [_line(row) for row in shares]
        words = "; ".join(f"{x['label']}: {x['difference']} points {x['interval']}".strip() for x in lines)
        plots.append(
            Plot(
                "Tutor minus base, in points",
                f"Difference of tutor and base with 95% intervals. {words}.",
                draw("differences", partial(_forest, rows=shares, lines=lines), 44 + 34 * len(shares)),
                (("better", "round better"), ("worse", "turned worse"), ("no clear difference", "hollow unclear")),
            )
        )
    if kinds:
        lines = [_line(row) for row in kinds]
        words = "; ".join(f"{x['label']}: base {x['base']}, tutor {x['tutor']}" for x in lines)
        plots.append(
            Plot(
                "Prefers the chosen reply, by kind of rejected reply",
                f"Preference accuracy by kind of rejected reply. {words}.",
                draw("kinds", partial(_sides, rows=kinds, lines=lines), 44 + 34 * len(kinds)),
                (("base", "base"), ("tutor, with its figure", "round tutor")),
            )
        )
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
        colour, marker, fill = tones.get(_verdict(row), (UNCLEAR, "o", "none"))
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


def _curve_plots(history: Sequence[Row]) -> list[Plot]:
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


# ---- dialogues ----


def fails(dialogue: Row) -> bool:
    """Whether the tutor reveals the answer or does not ask."""
    marks = dialogue["tutor_marks"]
    return marks.get("reveals_answer") is True or marks.get("asks_question") is False


def select(dialogues: Iterable[Row], limit: int = DIALOGUES) -> list[Row]:
    """At most ``limit`` dialogues: failures first, then as many problems as there are, and turns mixed.

    The choice looks at nothing else, and it is the same on every run.
    """
    mixed = sorted(dialogues, key=lambda row: text_id(row["problem_id"], str(row["turn"])))
    seen: Counter[str] = Counter()
    ranked = []
    for row in sorted(mixed, key=lambda row: not fails(row)):
        ranked.append((not fails(row), seen[row["problem_id"]], row))
        seen[row["problem_id"]] += 1
    return [row for *_, row in sorted(ranked, key=lambda item: item[:2])[:limit]]


def _marks(marks: Row) -> list[tuple[str, str]]:
    return [MARKS[name][value] for name, value in marks.items() if value in MARKS.get(name, {})]


def _dialogue(row: Row) -> dict[str, Any]:
    turns = from_messages(row["prompt"])
    return {
        **row,
        "question": row["question"] or turns[0].text,
        "turns": turns,
        "failed": fails(row),
        "sides": [
            {
                "name": side,
                "reply": row[side],
                "marks": _marks(row[f"{side}_marks"]),
                "words": row[f"{side}_marks"].get("words"),
            }
            for side in ("base", "tutor")
        ],
    }
