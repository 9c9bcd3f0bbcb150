"""How the figures of an evaluation are named, judged and said in words."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from socratic_rl.measures.figures import TOPIC, Estimate, Figure, JudgeAgreement, SpeakerComparison, SpeakerFigure
from socratic_rl.measures.registry import MEASURES, Measure
from socratic_rl.pages.page import Row, rounded

NO_BREAK = "\u00a0"


JUDGE = "judge/"
"""How the name of a judge's score begins."""


FEW = 10
"""Problems below which the page warns of its intervals."""


VERDICTS = {
    "better": "Better than the base",
    "worse": "Worse than the base",
    "unclear": "No clear difference",
    "more": "More than the base",
    "less": "Less than the base",
    "unsure": "No interval",
}


def measure_of(name: str) -> Measure:
    """The measure of that name; what a judge scores, from 0 to 1, or is not known is neither better nor worse."""
    words = name.removeprefix(JUDGE).replace("_", " ")
    return MEASURES.get(name) or Measure(
        name, words.capitalize(), f"{words}: {{}}", "", better=0, share=name.startswith(JUDGE)
    )


def ordered(figures: Iterable[Figure]) -> list[Figure]:
    """Figures by measure as the page lists them, the one over all pairs before those by kind of rejection."""
    order = {name: position for position, name in enumerate(MEASURES)}
    return sorted(figures, key=lambda figure: (order.get(figure.name, len(order)), not figure.overall))


def _change(value: float, share: bool, sign: bool = True) -> str:
    """A difference: points of a share, or the measure's own unit."""
    value = round(100 * value if share else value, 6)
    text = f"{abs(value):.{0 if share and (abs(value) >= 1 or not value) else 1}f}"
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def verdict_of(figure: Figure) -> str:
    """What the interval of the difference says: a key of ``VERDICTS``, or nothing where there is no base."""
    if figure.difference is None:
        return ""
    if figure.low is None or figure.high is None:
        return "unsure"
    if figure.low <= 0 <= figure.high:
        return "unclear"
    better = measure_of(figure.name).better
    if not better:
        return "more" if figure.difference > 0 else "less"
    return "better" if figure.difference * better > 0 else "worse"


def worded(figure: Figure) -> dict[str, Any]:
    """A figure as the page writes it."""
    measure = measure_of(figure.name)
    line: dict[str, Any] = {
        "name": figure.name,
        "kind": figure.kind,
        "label": measure.label if figure.overall else figure.kind.removeprefix(TOPIC).replace("_", " "),
        "meaning": measure.meaning if figure.overall else measure.label,
        "earlier": {
            past.name: _value_and_interval(Estimate(past.value, past.low, past.high), measure)
            for past in figure.earlier
        },
        "difference": "" if figure.difference is None else _change(figure.difference, measure.share),
        "interval": _interval_of_change(figure.low, figure.high, measure),
        "unit": "points" if measure.share else measure.label.lower(),
        "n": f"{figure.n:,}",
        "problems": "–" if figure.problems is None else f"{figure.problems:,}",
        "problem_count": figure.problems,
        "verdict": verdict_of(figure),
        "agreement": agreement_words(figure.agreement) if figure.judged else "",
    }
    for side, estimate in (("base", figure.of_base), ("tutor", figure.of_tutor)):
        line[side], line[f"{side}_interval"] = _value_and_interval(estimate, measure)
    line["verdict_text"] = VERDICTS.get(line["verdict"], "")
    line["sentence"] = "" if figure.tutor is None else _sentence(measure, line)
    return line


def _value_and_interval(estimate: Estimate, measure: Measure) -> tuple[str, str]:
    value, low, high = estimate
    interval = (
        "" if low is None or high is None else _brackets(rounded(low, measure.share), rounded(high, measure.share))
    )
    return rounded(value, measure.share), interval


def _interval_of_change(low: float | None, high: float | None, measure: Measure) -> str:
    if low is None or high is None:
        return ""
    return _brackets(_change(low, measure.share, sign=False), _change(high, measure.share, sign=False))


def _brackets(low: str, high: str) -> str:
    return f"[{low},{NO_BREAK}{high}]"


def agreement_words(agreement: JudgeAgreement | None) -> str:
    """How well a judge agrees with people."""
    if agreement is None or agreement.kappa is None:
        return "the judge was not compared with people"
    low, high = agreement.low, agreement.high
    interval = "" if low is None or high is None else f" {_brackets(f'{low:.2f}', f'{high:.2f}')}"
    return f"judge against people: κ{NO_BREAK}{agreement.kappa:.2f}{interval}, n{NO_BREAK}={NO_BREAK}{agreement.n:,}"


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


def since(figure: Figure) -> str:
    """What the last round changed; empty where the figure has no ``step``."""
    step = figure.step
    if step is None or step.difference is None:
        return ""
    measure = measure_of(figure.name)
    text = (
        f"{_change(step.difference, measure.share)} points {_interval_of_change(step.low, step.high, measure)}".strip()
    )
    unclear = step.low is None or step.high is None or step.low <= 0 <= step.high
    return f"{text}{', no clear difference' if unclear else ''}"


def lead(compared: Sequence[Row]) -> str:
    """The first sentences of the page: where the tutor is better than its base, where worse, where neither."""
    judged = [line for line in compared if measure_of(line["name"]).better]
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


def pivoted(lines: Iterable[Row]) -> dict[str, Any]:
    """Figures of several kinds as one table: a column for each measure, a row for each kind in their order."""
    columns: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        columns[line["name"]] = measure_of(line["name"]).label
        row = rows.setdefault(line["kind"], {"label": line["label"], "problems": line["problems"], "lines": {}})
        row["lines"][line["name"]] = line
    return {
        "columns": list(columns.values()),
        "rows": [{**row, "lines": [row["lines"].get(name) for name in columns]} for row in rows.values()],
    }


class SpeakerRow(NamedTuple):
    """What all speakers do by one measure."""

    measure: str
    figures: list[SpeakerFigure | None]
    """In the order of the speakers; None where one has no row."""
    beside_prompted: SpeakerComparison | None
    """The tutor beside the prompted base."""


def by_speaker(
    figures: Sequence[SpeakerFigure], comparisons: Sequence[SpeakerComparison]
) -> tuple[list[str], list[SpeakerRow]]:
    """The speakers, the tutor last, and a row for each measure of all replies."""
    speakers = [*dict.fromkeys(row.against for row in comparisons), "tutor"]
    values = {(figure.measure, figure.speaker): figure for figure in figures if figure.kind == "all"}
    beside = {row.measure: row for row in comparisons if row.kind == "all" and row.against == "prompted"}
    measures = dict.fromkeys(row.measure for row in comparisons)
    return speakers, [
        SpeakerRow(measure, [values.get((measure, name)) for name in speakers], beside.get(measure))
        for measure in measures
    ]
