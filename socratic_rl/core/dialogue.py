"""The four nouns that flow through the pipeline, and how a dialogue is read and written.

``Problem`` → ``Conversation`` → ``PreferencePair``; a ``Conversation`` is made of ``Turn``s. Each is one JSONL record.
This is the one place that maps student → user and teacher → assistant.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, StringConstraints

Speaker = Literal["student", "teacher"]


Message = dict[str, str]
"""A chat message as chat templates take it: ``{"role": …, "content": …}``."""


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


ROLES: dict[str, str] = {"student": "user", "teacher": "assistant"}


TurnKey = tuple[str, int]
"""A teacher turn among all others: its conversation's id, and its number among that conversation's teacher turns."""


class Record(BaseModel):
    """An immutable JSONL record; keys it does not know are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def to_record(self) -> dict[str, Any]:
        """Plain JSON values; optional keys that are not set are left out."""
        return self.model_dump(mode="json", exclude_none=True)


class Turn(Record):
    """What one speaker says before the other speaks."""

    speaker: Speaker
    text: Text
    act: str | None = None
    """The teacher's dialogue act where the source labels it (MathDial: focus, probing, telling, generic)."""
    worse: str | None = None
    """A worse teacher turn that a person gave at this very place (Bridge: the novice's reply)."""


class Step(Record):
    """One step of a worked solution."""

    work: Text
    """The step itself: ``3 * 12 = 36 apples``."""
    question: str | None = None
    """What a teacher would ask to lead to it."""
    reply: str | None = None
    """What a student would say to that question; ``work`` stands in where it is not given."""


class Problem(Record):
    """A problem with its worked solution."""

    id: Text
    question: Text
    solution: str
    steps: tuple[Step, ...] = ()
    answer: str
    """The gold answer as its source writes it, units included; empty only where the source has none (Bridge)."""
    topic: str = ""
    source: str
    dialogues: tuple[tuple[Turn, ...], ...] | None = None
    """Human dialogues about this problem, where the source brings them."""


class Conversation(Record):
    """Teacher and student on one problem. The first turn is the student's and states the problem."""

    id: Text
    problem_id: Text
    turns: tuple[Turn, ...]
    accepted: bool
    """Whether the quality gate let it pass; only accepted conversations become pairs."""
    reasons: tuple[str, ...] = ()
    """Why the quality gate did not let it pass."""
    provenance: dict[str, Any]
    """Where it came from: writer, generator, hash of weights, hash of prompt, seed."""

    def turn_key(self, index: int) -> TurnKey:
        """The key of the teacher turn at an index of ``turns``."""
        return self.id, teacher_turns(self.turns[:index])


class PreferencePair(Record):
    """A row in TRL's conversational preference form, with what it takes to trace it back."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    conversation_id: str
    problem_id: str
    turn: int
    """Which teacher turn of the conversation is chosen, from 0."""
    rejection: str
    """The kind of rejected turn."""
    split: Literal["train", "validation", "test"]
    labels: dict[str, tuple[str, str]] | None = None
    """What the source says of the chosen and of the rejected side, such as who wrote it (``author``)."""

    @classmethod
    def of(cls, prompt: Sequence[Turn], chosen: str, rejected: str, **trace: Any) -> Self:
        """The pair of two teacher turns after the dialogue ``prompt``."""
        return cls(
            prompt=to_messages(prompt),
            chosen=[teacher_message(chosen)],
            rejected=[teacher_message(rejected)],
            **trace,
        )

    @property
    def student_text(self) -> str:
        """What both turns reply to."""
        return self.prompt[-1]["content"]

    @property
    def chosen_text(self) -> str:
        """What the better turn says."""
        return self.chosen[0]["content"]

    @property
    def rejected_text(self) -> str:
        """What the worse turn says."""
        return self.rejected[0]["content"]


class AtTurn(Protocol):
    """What is about one teacher turn of a conversation: a pair, a vote, a reply."""

    @property
    def conversation_id(self) -> str: ...  # noqa: D102

    @property
    def turn(self) -> int: ...  # noqa: D102


def turn_key(record: AtTurn) -> TurnKey:
    """The key of the teacher turn that a record is about."""
    return record.conversation_id, record.turn


def teacher_turns(dialogue: Iterable[Turn | Message]) -> int:
    """How many turns of a dialogue are the teacher's, which is the number of the teacher turn that comes next."""
    roles = (turn["role"] if isinstance(turn, dict) else ROLES[turn.speaker] for turn in dialogue)
    return sum(role == ROLES["teacher"] for role in roles)


def text_id(*texts: str) -> str:
    """A short id made from texts alone, so that it stays when rows are added or moved (16 hex digits of SHA-256)."""
    return hashlib.sha256("\x1f".join(" ".join(t.split()) for t in texts).casefold().encode()).hexdigest()[:16]


def seed_from(*parts: object) -> int:
    """A seed that depends on nothing but these, from 0 to 2³¹ - 1."""
    return int(text_id(*map(str, parts)), 16) % 2**31


def merge_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Neighbouring turns of one speaker become one, since chat templates want strict alternation."""
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].speaker == turn.speaker:
            merged[-1] = merged[-1].model_copy(update={"text": f"{merged[-1].text}\n{turn.text}"})
        else:
            merged.append(turn)
    return merged


def teacher_message(text: str) -> Message:
    """What a teacher says, as a chat message."""
    return {"role": ROLES["teacher"], "content": text}


def to_messages(turns: Iterable[Turn]) -> list[Message]:
    """A dialogue as chat messages."""
    return [{"role": ROLES[turn.speaker], "content": turn.text} for turn in merge_turns(turns)]


def from_messages(messages: Iterable[Message]) -> list[Turn]:
    """Chat messages as a dialogue; system messages are nobody's turn."""
    speakers = {role: speaker for speaker, role in ROLES.items()}
    return [
        Turn.model_validate({"speaker": speakers[m["role"]], "text": m["content"]})
        for m in messages
        if m["role"] in speakers
    ]


def shortened(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """A dialogue, then the same without its oldest exchange after the problem, without its two oldest, and so on.

    The problem (everything up to the first student turn) and the last exchange, which is replied to, stay. What goes is
    a teacher's turn with the student's reply, so that the roles still alternate.
    """
    head = next((i for i, m in enumerate(messages) if m["role"] == ROLES["student"]), 0) + 1
    yield list(messages)
    for gone in range(2, len(messages) - head - 1, 2):
        yield [*messages[:head], *messages[head + gone :]]


LABEL = re.compile(
    r"^[ \t]*\**(students?|teachers?|tutor|professor|user|assistant)\**[ \t]*:\**[ \t]*", re.IGNORECASE | re.MULTILINE
)
"""A speaker's label at the start of a line, with or without bold marks."""


SPEAKERS: dict[str, Speaker] = {
    "student": "student",
    "students": "student",
    "user": "student",
    "teacher": "teacher",
    "teachers": "teacher",
    "tutor": "teacher",
    "professor": "teacher",
    "assistant": "teacher",
}


def parse_transcript(text: str) -> list[Turn]:
    """Read ``Student: …`` / ``Teacher: …`` lines; a turn goes on until the next label.

    Args:
        text: The transcript. Text before the first label and labels without text are dropped.

    Returns:
        The turns in order, not merged.
    """
    pieces = LABEL.split(text)
    return [
        Turn(speaker=SPEAKERS[label.lower()], text=text_of_turn)
        for label, text_of_turn in zip(pieces[1::2], pieces[2::2], strict=True)
        if text_of_turn.strip()
    ]


def render_transcript(turns: Iterable[Turn]) -> str:
    """The dialogue as ``Student: …`` / ``Teacher: …`` lines."""
    return "\n".join(f"{turn.speaker.capitalize()}: {turn.text}" for turn in turns)


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message at the head of the user's first one, for templates that know no system role."""
    first, *rest = messages
    if first["role"] != "system":
        return list(messages)
    if not rest:
        return [{"role": "user", "content": first["content"]}]
    return [{"role": rest[0]["role"], "content": f"{first['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
