"""Every measure of an evaluation, registered once: tables, pages, marks and failures all derive from here.

To add a measure of replies, write its function in ``replies`` and an entry in ``MEASURES``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from socratic_rl.measures import replies, steps
from socratic_rl.measures.figures import Marks
from socratic_rl.measures.measured_reply import MeasuredReply
from socratic_rl.notation.spans import Span


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
    value: Callable[[MeasuredReply], int | None] | None = None
    """The measure of a reply in which nothing is marked; None where it is not defined for the reply."""
    settled: bool = False
    """Whether the value of a reply that was cut off is known, whatever its end had been."""
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


def _tells_step(reply: MeasuredReply) -> list[Span] | None:
    return steps.tells_step(reply.text, reply.steps, reply.before, reply.asked) if reply.steps else None


def _hands_over(reply: MeasuredReply) -> list[Span] | None:
    return steps.hands_over(reply.text, reply.steps, reply.before, reply.asked) if reply.steps else None


def _asks_known(reply: MeasuredReply) -> list[Span] | None:
    if not reply.steps:
        return None
    results = [steps.result(step.work) for step in reply.steps]
    just_stated = steps.stated_by_student(reply.student_turns[-1:], reply.before[0])
    return steps.asks_known(
        reply.text,
        reply.before[0],
        reply.student_turns,
        reply.asked,
        is_known_step=len(reply.points_at) == 1 and results[reply.points_at[0]] in just_stated,
        is_last=reply.due == len(results) - 1,
    )


def _invents(reply: MeasuredReply) -> list[Span] | None:
    return steps.invents(reply.text, reply.steps, reply.answer, reply.before) if reply.steps else None


def _guides(reply: MeasuredReply) -> bool | None:
    return None if reply.guides is None else reply.guides and not spans(reply)["tells_step"]


def _helps(reply: MeasuredReply) -> bool | None:
    hurts = ("tells_step", "hands_over", "asks_known", "invents", "repeats_turn")
    return reply.guides and not reply.cut_off and not any(spans(reply)[name] for name in hurts)


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "helps",
            "Helps",
            "helps in {} of its replies",
            "Share of replies that point at the step that comes next and do not tell or hand it over, repeat a turn, "
            "ask what is known, invent a number, or end cut off.",
            better=1,
            headline=True,
            value=_helps,
            settled=True,
        ),
        Measure(
            "guides_share",
            "Points at the next step",
            "points at the next step in {} of its replies",
            "Share of replies that point at the step that comes next alone, and do not tell it.",
            better=1,
            value=_guides,
        ),
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
            gravity=3,
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
            "tells_step",
            "Tells a step",
            "tells a step in {} of its replies",
            "Share of replies that state a result of the worked solution that nobody has stated, or do the step in "
            "words.",
            better=-1,
            find=_tells_step,
            tag="tells",
            fault="tells a step",
            gravity=2,
        ),
        Measure(
            "hands_over",
            "Hands over the operation",
            "hands over the operation in {} of its replies",
            "Share of replies that ask only for the result of an operation that they give with all its numbers.",
            better=-1,
            find=_hands_over,
            tag="hands over",
            fault="hands over the operation",
            gravity=6,
        ),
        Measure(
            "asks_known",
            "Asks what is known",
            "asks what is known in {} of its replies",
            "Share of replies that ask for a value that the problem or the student has just stated, or ask the "
            "problem's own question again.",
            better=-1,
            find=_asks_known,
            tag="is known",
            fault="asks what is known",
            gravity=4,
        ),
        Measure(
            "invents",
            "Invents a number",
            "invents a number in {} of its replies",
            "Share of replies with a number that neither problem, dialogue nor worked solution has.",
            better=-1,
            find=_invents,
            tag="invented",
            fault="invents a number",
            gravity=5,
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
            gravity=7,
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
            gravity=8,
        ),
        Measure(
            "cut_off",
            "Is cut off",
            "is cut off at the length limit in {} of its replies",
            "Share of replies that reach the limit of tokens before their end.",
            better=-1,
            value=lambda reply: reply.cut_off,
            settled=True,
            fault="is cut off",
            gravity=9,
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
    """The judge-free measures of a reply; None where a measure is not defined.

    Of a reply that was cut off that is every measure that its end could have changed.
    """
    spans_of = spans(reply)
    marks: dict[str, bool | int | None] = {}
    for name in OF_REPLIES:
        if value := MEASURES[name].value:
            marks[name] = value(reply) if MEASURES[name].settled or not reply.cut_off else None
        else:
            marked = spans_of[name]
            marks[name] = None if marked is None or (reply.cut_off and not marked) else bool(marked)
    return marks


def failures(marks: Marks) -> list[str]:
    """The measures by which a reply fails, the gravest first."""
    return [name for name, measure in FAILURES.items() if marks.get(name) is measure.fails_when]
