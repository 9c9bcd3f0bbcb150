"""How the figures of an evaluation are named, judged and said in words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from socratic_rl.measures.replies import TOPIC
from socratic_rl.pages.page import Row, number, rounded

NO_BREAK = "\u00a0"


JUDGE = "judge/"
"""How the name of a judge's score begins."""


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
    "solves_alone": Measure(
        "Solves alone",
        "is for students who solve {} alone",
        "Share of attempts that a simulated student solves before any dialogue.",
        0,
        rows="attempts at",
    ),
    "solves_after": Measure(
        "Solves after the dialogue",
        "leaves students who solve {}",
        "Share of attempts that the student solves after a dialogue with the model.",
        1,
        rows="attempts at",
    ),
    "gain": Measure(
        "Student's gain",
        "brings a gain of {}",
        "How many more attempts are solved after the dialogue than alone. A teacher that tells the answer gains too.",
        1,
        rows="attempts at",
    ),
    "dialogue_reveals": Measure(
        "Reveals in the dialogue",
        "reveals the answer in {} of its dialogues",
        "Share of dialogues in which the model gives the answer away.",
        -1,
        rows="attempts at",
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
    "less": "Less than the base",
    "unsure": "No interval",
}


def measure_of(name: str) -> Measure:
    """The measure of that name; what a judge scores, from 0 to 1, or is not known is neither better nor worse."""
    words = name.removeprefix(JUDGE).replace("_", " ")
    return MEASURES.get(name) or Measure(words.capitalize(), f"{words}: {{}}", "", 0, share=name.startswith(JUDGE))


def ordered(metrics: Iterable[Row]) -> list[Row]:
    """Rows by measure as the page lists them, the figure over all pairs before those by kind of rejection."""
    order = {name: place for place, name in enumerate(MEASURES)}
    return sorted(metrics, key=lambda row: (order.get(row["name"], len(order)), row["kind"] != "all"))


def _change(value: float, share: bool, sign: bool = True) -> str:
    """A difference: points of a share, or the measure's own unit."""
    value = round(100 * value if share else value, 6)
    text = f"{abs(value):.{0 if share and (abs(value) >= 1 or not value) else 1}f}"
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def verdict_of(row: Row) -> str:
    """What the interval of the difference says: a key of ``VERDICTS``, or nothing where there is no base."""
    difference, low, high = (number(row.get(key)) for key in ("difference", "low", "high"))
    if difference is None:
        return ""
    if low is None or high is None:
        return "unsure"
    if low <= 0 <= high:
        return "unclear"
    better = measure_of(row["name"]).better
    if not better:
        return "more" if difference > 0 else "less"
    return "better" if difference * better > 0 else "worse"


def worded(row: Row) -> dict[str, Any]:
    """A row of ``evaluation.json`` as the page writes it."""
    measure = measure_of(row["name"])
    base, tutor, difference = (number(row.get(key)) for key in ("base", "tutor", "difference"))
    whole = row["kind"] == "all"
    line = {
        "name": row["name"],
        "kind": row["kind"],
        "label": measure.label if whole else row["kind"].removeprefix(TOPIC).replace("_", " "),
        "meaning": measure.meaning if whole else measure.label,
        "base": rounded(base, measure.share),
        "base_interval": _interval(row.get("base_low"), row.get("base_high"), measure),
        "earlier": {
            past["name"]: (
                rounded(number(past["value"]), measure.share),
                _interval(past.get("low"), past.get("high"), measure),
            )
            for past in row.get("earlier") or ()
        },
        "tutor": rounded(tutor, measure.share),
        "tutor_interval": _interval(row.get("tutor_low"), row.get("tutor_high"), measure),
        "difference": "" if difference is None else _change(difference, measure.share),
        "interval": _interval(row.get("low"), row.get("high"), measure, of_change=True),
        "unit": "points" if measure.share else measure.label.lower(),
        "n": f"{row['n']:,}",
        "problems": "–" if row.get("problems") is None else f"{row['problems']:,}",
        "problem_count": row.get("problems"),
        "verdict": verdict_of(row),
        "agreement": agreement_of(row) if "agreement" in row else "",
    }
    line["verdict_text"] = VERDICTS.get(line["verdict"], "")
    line["sentence"] = "" if tutor is None else _sentence(measure, line)
    return line


def _interval(low: Any, high: Any, measure: Measure, of_change: bool = False) -> str:
    first, last = number(low), number(high)
    if first is None or last is None:
        return ""
    if of_change:
        return f"[{_change(first, measure.share, sign=False)},{NO_BREAK}{_change(last, measure.share, sign=False)}]"
    return f"[{rounded(first, measure.share)},{NO_BREAK}{rounded(last, measure.share)}]"


def agreement_of(row: Row) -> str:
    """How well the judge of a row's score agrees with people."""
    found = row["agreement"]
    kappa = number(found["kappa"]) if found else None
    if found is None or kappa is None:
        return "the judge was not compared with people"
    low, high = number(found.get("low")), number(found.get("high"))
    interval = "" if low is None or high is None else f" [{low:.2f},{NO_BREAK}{high:.2f}]"
    return f"judge against people: κ{NO_BREAK}{kappa:.2f}{interval}, n{NO_BREAK}={NO_BREAK}{found['n']:,}"


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


def since(row: Row) -> str:
    """What the last round changed, where a row says so: its ``step``."""
    step = row.get("step") or {}
    difference, low, high = (number(step.get(key)) for key in ("difference", "low", "high"))
    if difference is None:
        return ""
    measure = measure_of(row["name"])
    interval = _interval(low, high, measure, of_change=True)
    text = f"{_change(difference, measure.share)} points {interval}".strip()
    unclear = low is None or high is None or low <= 0 <= high
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
