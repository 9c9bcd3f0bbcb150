"""Replies with the measures' marks in their text, and how they fail."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from socratic_rl.core.dialogue import from_messages, text_id
from socratic_rl.measures import replies
from socratic_rl.measures.replies import FAILURES, failures
from socratic_rl.measures.spans import Span
from socratic_rl.pages.page import Row

SHOWN = 20
"""How many dialogues the page lists at once; the others are folded."""


ROOM = 750_000
"""Characters of the dialogues' records that the page takes, so that it stays below 2 MB."""


MERITS = {("asks_question", True): "asks", ("reveals_answer", False): "does not reveal"}
"""What else is written beside a reply."""


UNKNOWN = "no gold answer"


TAGS = {
    "asks_question": "asks",
    "reveals_answer": "reveals",
    "speaks_for_student": "speaks for the student",
    "repeats_turn": "repeats",
}
"""What is written behind a mark in a text."""


class Piece(NamedTuple):
    """A piece of a reply."""

    text: str
    marks: list[str]
    """The measures whose marks lie on it."""
    ends: list[str]
    """Those of which a mark ends with it."""


def counted(dialogues: Sequence[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """How often base, earlier rounds and tutor fail in each way, and in any: ``name``, ``label``, ``counts``.

    A count is None where the measure is not defined for any reply.

    Args:
        dialogues: The rows of ``replies.jsonl``.
        names: What base, earlier rounds and tutor are called.
    """
    columns = list(zip(*([side["marks"] for side in sides(row, names)] for row in dialogues), strict=True))
    rows = [
        {
            "name": name,
            "label": label,
            "counts": [
                sum(marks.get(name) is value for marks in column)
                if any(marks.get(name) is not None for marks in column)
                else None
                for column in columns
            ],
        }
        for name, (value, label) in FAILURES.items()
    ]
    whole = [sum(bool(failures(marks)) for marks in column) for column in columns]
    return [*rows, {"name": "any", "label": "any of these", "counts": whole}]


def select(dialogues: Iterable[Row], room: int = ROOM) -> list[Row]:
    """The dialogues in the page's order, as many as there is room for.

    The tutor's failures come first, the gravest before others, then as many problems as there are, and turns mixed.
    The choice looks at nothing else, and it is the same on every run.
    """
    kinds = list(FAILURES)
    seen: Counter[tuple[int, str]] = Counter()
    ranked = []
    for row in sorted(dialogues, key=lambda row: text_id(row["problem_id"], str(row["turn"]))):
        failed = failures(row["tutor_marks"])
        rank = kinds.index(failed[0]) if failed else len(kinds)
        ranked.append((rank, seen[rank, row["problem_id"]], row))
        seen[rank, row["problem_id"]] += 1
    chosen: list[Row] = []
    for *_, row in sorted(ranked, key=lambda item: item[:2]):
        room -= len(str(row))
        if room < 0 and chosen:
            break
        chosen.append(row)
    return chosen


def sides(row: Row, names: Sequence[str]) -> list[dict[str, Any]]:
    """What base, earlier rounds and tutor say at a turn: ``name``, ``style``, ``text`` and ``marks``."""
    past = [(reply["name"], "earlier", reply["text"], reply["marks"]) for reply in row.get("earlier") or ()]
    said = [
        (names[0], "base", row["base"], row["base_marks"]),
        *past,
        (names[-1], "tutor", row["tutor"], row["tutor_marks"]),
    ]
    return [dict(zip(("name", "style", "text", "marks"), side, strict=True)) for side in said]


def shown(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """A row of ``replies.jsonl`` as the page shows it.

    Args:
        row: With ``problem_id``, ``topic``, ``question``, ``answer``, ``turn``, ``prompt``, ``reference`` and replies.
        names: What base, earlier rounds and tutor are called.
    """
    turns = from_messages(row["prompt"])
    return {
        **row,
        "question": row["question"] or turns[0].text,
        "turns": turns,
        "failed": failures(row["tutor_marks"]),
        "sides": [side | _reply(row, side["text"], side["marks"]) for side in sides(row, names)],
    }


def _reply(row: Row, text: str, marks: Row) -> dict[str, Any]:
    found = replies.spans(text, row["answer"], row["question"], row["prompt"])
    chips = [(FAILURES[name][1], "worse") for name in failures(marks)]
    chips += [(label, "better") for (name, value), label in MERITS.items() if marks.get(name) is value]
    if "reveals_answer" in marks and marks["reveals_answer"] is None:
        chips.append((UNKNOWN, "unclear"))
    earlier = [message["content"] for message in row["prompt"] if message["role"] == "assistant"]
    return {
        "pieces": cut(text, {name: places for name, places in found.items() if places and marks.get(name)}),
        "chips": chips,
        "cut_off": marks.get("cut_off") is True,
        "words": marks.get("words"),
        "repeats": replies.repeated_turn(text, earlier) if marks.get("repeats_turn") else None,
    }


def cut(text: str, found: Mapping[str, Sequence[Span]]) -> list[Piece]:
    """The text in pieces that each have the same marks from end to end."""
    every = [(name, span) for name, places in found.items() for span in places]
    edges = sorted({0, len(text), *(edge for _, span in every for edge in span)})
    return [
        Piece(
            text[start:end],
            [name for name, (first, last) in every if first <= start and end <= last],
            [name for name, (_, last) in every if last == end],
        )
        for start, end in pairwise(edges)
    ]
