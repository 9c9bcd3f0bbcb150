"""Every measure of an evaluation, registered once: tables, pages, marks and failures all derive from here.

To add a measure of replies, write its function in ``replies`` and an entry in ``MEASURES``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from socratic_rl.core.dialogue import Message
from socratic_rl.measures import replies
from socratic_rl.measures.figures import Marks
from socratic_rl.measures.spans import Span


@dataclass(frozen=True)
class MeasuredReply:
    """A teacher's reply with what the measures look at."""

    text: str
    answer: str
    """The problem's gold answer; empty where there is none."""
    before: tuple[str, ...]
    """The problem's text, then every earlier turn."""
    teacher_turns: tuple[str, ...]
    """The earlier turns of the teacher."""
    cut_off: bool = field(default=False, compare=False)
    """Whether it reached the limit of tokens before its end."""

    @classmethod
    def of(
        cls, text: str, answer: str, question: str, prompt: Sequence[Message], cut_off: bool = False
    ) -> "MeasuredReply":
        """A reply to a dialogue.

        Args:
            text: The reply.
            answer: The gold answer.
            question: The problem's text.
            prompt: The dialogue before the reply.
            cut_off: Whether the reply was cut off.
        """
        before = (question, *(message["content"] for message in prompt))
        return cls(
            text, answer, before, tuple(turn["content"] for turn in prompt if turn["role"] == "assistant"), cut_off
        )


@dataclass(frozen=True)
class Measure:
    """How a figure is measured, named, explained and judged."""

    name: str
    label: str
    phrase: str
    """What the sentence on one model says, around its figure."""
    meaning: str
    better: int
    """1 where more is better, -1 where less is, 0 where neither is."""
    rows: str = "replies to"
    """What is counted, before "24 problems"."""
    share: bool = True
    headline: bool = False
    """Whether the page opens with it; any other opens it too where the tutor is worse."""
    find: Callable[[MeasuredReply], list[Span] | None] | None = None
    """Where a reply does what is measured; None where the measure is not defined for the reply."""
    value: Callable[[MeasuredReply], int] | None = None
    """The measure of a reply in which nothing is marked."""
    tag: str = ""
    """What the page writes behind a mark."""
    fault: str = ""
    """What is said of a reply that fails by this measure."""
    gravity: int = 0
    """1 for the gravest failure."""
    fails_when: bool = True
    """The value with which a reply fails."""
    merit: str = ""
    """What is said of a reply that does not fail."""


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "asks_question",
            "Asks a question",
            "asks a question in {} of its replies",
            "Share of replies that ask the student a question.",
            better=1,
            headline=True,
            find=lambda reply: replies.questions(reply.text),
            tag="asks",
            fault="does not ask",
            gravity=2,
            fails_when=False,
            merit="asks",
        ),
        Measure(
            "reveals_answer",
            "Reveals the answer",
            "reveals the answer in {} of its replies",
            "Share of replies that state the gold answer's value before the student or the problem did, or present it "
            "as a conclusion.",
            better=-1,
            headline=True,
            find=lambda reply: replies.revealed(reply.text, reply.answer, reply.before),
            tag="reveals",
            fault="reveals the answer",
            gravity=1,
            merit="does not reveal",
        ),
        Measure(
            "preference_accuracy",
            "Prefers the chosen reply",
            "prefers the chosen reply in {} of the held-out pairs",
            "Share of held-out pairs whose chosen reply gained more likelihood over the base than the rejected one "
            "did. The base has no preference over itself, which counts as a half.",
            better=1,
            rows="pairs from",
            headline=True,
        ),
        Measure(
            "ranking_accuracy",
            "Finds the chosen reply likelier",
            "finds the chosen reply likelier in {} of the held-out pairs",
            "Share of held-out pairs whose chosen reply the model finds likelier, per token, than the rejected one.",
            better=1,
            rows="pairs from",
        ),
        Measure(
            "log_ratio_margin",
            "Log-ratio margin",
            "has a log-ratio margin of {}",
            "Mean log-likelihood (nats) that the chosen reply gained over the base, less what the rejected one gained.",
            better=1,
            rows="pairs from",
            share=False,
        ),
        Measure(
            "speaks_for_student",
            "Speaks for the student",
            "speaks for the student in {} of its replies",
            "Share of replies that also write what the student says.",
            better=-1,
            find=lambda reply: replies.students_part(reply.text),
            tag="speaks for the student",
            fault="speaks for the student",
            gravity=3,
        ),
        Measure(
            "repeats_turn",
            "Repeats a turn",
            "repeats an earlier turn in {} of its replies",
            "Share of replies that say an earlier teacher turn of the dialogue again.",
            better=-1,
            find=lambda reply: [(0, len(reply.text))] if replies.repeats_turn(reply.text, reply.teacher_turns) else [],
            tag="repeats",
            fault="repeats a turn",
            gravity=4,
        ),
        Measure(
            "cut_off",
            "Is cut off",
            "is cut off at the length limit in {} of its replies",
            "Share of replies that reach the limit of tokens before their end.",
            better=-1,
            value=lambda reply: reply.cut_off,
            fault="is cut off",
            gravity=5,
        ),
        Measure(
            "words",
            "Words",
            "writes {} words a reply",
            "Mean number of words in a reply; neither more nor fewer is better in itself.",
            better=0,
            share=False,
            value=lambda reply: replies.word_count(reply.text),
        ),
        Measure(
            "solves_alone",
            "Solves alone",
            "is for students who solve {} alone",
            "Share of attempts that a simulated student solves before any dialogue.",
            better=0,
            rows="attempts at",
        ),
        Measure(
            "solves_after",
            "Solves after the dialogue",
            "leaves students who solve {}",
            "Share of attempts that the student solves after a dialogue with the model.",
            better=1,
            rows="attempts at",
        ),
        Measure(
            "gain",
            "Student's gain",
            "brings a gain of {}",
            "How many more attempts are solved after the dialogue than alone. A teacher that tells the answer gains "
            "too.",
            better=1,
            rows="attempts at",
        ),
        Measure(
            "dialogue_reveals",
            "Reveals in the dialogue",
            "reveals the answer in {} of its dialogues",
            "Share of dialogues in which the model gives the answer away.",
            better=-1,
            rows="attempts at",
        ),
    )
}
"""By name, in the order in which pages list them."""


MARKED = {name: measure.find for name, measure in MEASURES.items() if measure.find}
"""The measures that mark something in a reply."""


OF_REPLIES = tuple(name for name, measure in MEASURES.items() if measure.find or measure.value)
"""The measures of one reply."""


FAILURES = {
    measure.name: measure
    for measure in sorted(MEASURES.values(), key=lambda measure: measure.gravity)
    if measure.gravity
}
"""The measures by which a reply fails, the gravest first."""


@lru_cache(maxsize=1 << 14)
def spans(reply: MeasuredReply) -> Mapping[str, list[Span] | None]:
    """By measure, where the reply does what the measure counts; None where the measure is not defined.

    What was measured is kept, so that the page of the same run does not measure it again.
    """
    return {name: find(reply) for name, find in MARKED.items()}


def marks_of(reply: MeasuredReply) -> Marks:
    """The judge-free measures of a reply; None where a measure is not defined."""
    found_spans = spans(reply)
    marks: dict[str, bool | int | None] = {}
    for name in OF_REPLIES:
        if value := MEASURES[name].value:
            marks[name] = value(reply)
        else:
            places = found_spans[name]
            marks[name] = None if places is None else bool(places)
    return marks


def failures(marks: Marks) -> list[str]:
    """The measures by which a reply fails, the gravest first."""
    return [name for name, measure in FAILURES.items() if marks.get(name) is measure.fails_when]
