"""The rows of ``replies.jsonl``: a held-out turn with what base, earlier rounds and tutor say there."""

from collections.abc import Mapping
from typing import TypedDict

from socratic_rl.core.dialogue import Message

Marks = Mapping[str, bool | int | None]
"""The measures of a reply by name; None where a measure is not defined."""


class MarkedText(TypedDict):
    """A reply and its measures."""

    text: str
    marks: Marks


class EarlierReply(MarkedText):
    """What an earlier round of the tutor says."""

    name: str


class ReplyRow(TypedDict):
    """A row of the file."""

    problem_id: str
    conversation_id: str
    turn: int
    """From 0."""
    prompt: list[Message]
    reference: str
    """What the dialogue's own teacher says here."""
    question: str
    answer: str
    """The gold answer; empty where it is not known."""
    topic: str
    base: str
    tutor: str
    base_marks: Marks
    tutor_marks: Marks
    earlier: list[EarlierReply]
