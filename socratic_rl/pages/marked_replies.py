"""Replies with the measures' marks in their text, and how they fail."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from socratic_rl.core.dialogue import Step, from_messages, text_id
from socratic_rl.measures.figures import Marks, ReplyRow
from socratic_rl.measures.measured_reply import MeasuredReply
from socratic_rl.measures.registry import FAILURES, MARKED, MEASURES, failures, spans
from socratic_rl.measures.replies import repeated_turn
from socratic_rl.notation.spans import Span

SHOWN = 20
"""How many dialogues the page lists at once; the others are folded."""


ROOM = 750_000
"""Characters of the dialogues' records that the page takes, so that it stays below 2 MB."""


UNKNOWN = "no gold answer"


TAGS = {name: MEASURES[name].tag for name in MARKED}
"""What is written behind a mark in a text."""


class Piece(NamedTuple):
    """A piece of a reply."""

    text: str
    marks: list[str]
    """The measures whose marks lie on it."""
    ends: list[str]
    """Those of which a mark ends with it."""


def counted(dialogues: Sequence[ReplyRow], names: Sequence[str]) -> list[dict[str, Any]]:
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
            "label": measure.fault,
            "counts": [
                sum(marks.get(name) is measure.fails_when for marks in column)
                if any(marks.get(name) is not None for marks in column)
                else None
                for column in columns
            ],
        }
        for name, measure in FAILURES.items()
    ]
    failing = [sum(bool(failures(marks)) for marks in column) for column in columns]
    return [*rows, {"name": "any", "label": "any of these", "counts": failing}]


def select(dialogues: Iterable[ReplyRow], room: int = ROOM) -> list[ReplyRow]:
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
    chosen: list[ReplyRow] = []
    for *_, row in sorted(ranked, key=lambda item: item[:2]):
        room -= len(str(row))
        if room < 0 and chosen:
            break
        chosen.append(row)
    return chosen


def sides(row: ReplyRow, names: Sequence[str]) -> list[dict[str, Any]]:
    """What base, earlier rounds and tutor say at a turn: ``name``, ``style``, ``text`` and ``marks``."""
    past = [(reply["name"], "earlier", reply["text"], reply["marks"]) for reply in row.get("earlier") or ()]
    replies = [
        (names[0], "base", row["base"], row["base_marks"]),
        *past,
        (names[-1], "tutor", row["tutor"], row["tutor_marks"]),
    ]
    return [dict(zip(("name", "style", "text", "marks"), reply, strict=True)) for reply in replies]


def on_page(row: ReplyRow, names: Sequence[str]) -> dict[str, Any]:
    """A row of ``replies.jsonl`` as the page shows it.

    Args:
        row: The row.
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


def _reply(row: ReplyRow, text: str, marks: Marks) -> dict[str, Any]:
    """What the page says of a reply: its pieces with their marks, and how it fails."""
    steps = tuple(Step.model_validate(step) for step in row.get("steps", ()))
    reply = MeasuredReply.of(text, row["answer"], row["question"], row["prompt"], steps=steps)
    chips = [(FAILURES[name].fault, "worse") for name in failures(marks)]
    chips += [
        (measure.merit, "better")
        for name, measure in MEASURES.items()
        if measure.merit and marks.get(name) is (not measure.fails_when)
    ]
    if "reveals_answer" in marks and marks["reveals_answer"] is None:
        chips.append((UNKNOWN, "unclear"))
    return {
        "pieces": cut(text, {name: marked for name, marked in spans(reply).items() if marked and marks.get(name)}),
        "chips": chips,
        "cut_off": marks.get("cut_off") is True,
        "words": marks.get("words"),
        "repeats": repeated_turn(text, reply.teacher_turns) if marks.get("repeats_turn") else None,
    }


def cut(text: str, marked: Mapping[str, Sequence[Span]]) -> list[Piece]:
    """The text in pieces that each have the same marks from end to end."""
    every = [(name, span) for name, spans_of_measure in marked.items() for span in spans_of_measure]
    edges = sorted({0, len(text), *(edge for _, span in every for edge in span)})
    return [
        Piece(
            text[start:end],
            [name for name, (first, last) in every if first <= start and end <= last],
            [name for name, (_, last) in every if last == end],
        )
        for start, end in pairwise(edges)
    ]
