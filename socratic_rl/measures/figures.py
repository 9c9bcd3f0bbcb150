"""What an evaluation writes, base against tutor: the rows of ``evaluation.json`` and ``replies.jsonl``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

from pydantic import BaseModel, BeforeValidator, ConfigDict

from socratic_rl.core.dialogue import Message

TOPIC = "topic: "
"""How the kind of a figure that is about one problem topic begins."""


def finite(value: Any) -> float | None:
    """The value as a finite number; ``None`` where it is not one."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


Number = Annotated[float | None, BeforeValidator(finite)]


class Estimate(NamedTuple):
    """A value with the ends of its 95% interval; ``None`` where the data does not give it."""

    value: float | None
    low: float | None
    high: float | None


class _Row(BaseModel):
    """Part of a row; what a later version adds to it is not read."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class RoundFigure(_Row):
    """What an earlier round of the tutor reaches."""

    name: str
    value: Number
    low: Number = None
    high: Number = None


class StepFigure(_Row):
    """The difference that the last round made."""

    difference: Number
    low: Number
    high: Number


class JudgeAgreement(_Row):
    """How well a judge's labels agree with people's: Cohen's κ over n replies."""

    kappa: Number
    low: Number = None
    high: Number = None
    n: int


class Figure(_Row):
    """One measure of base and tutor, on all rows or on those of a kind."""

    name: str
    kind: str
    """``all``, a kind of rejection, or ``topic: …``."""
    base: Number
    tutor: Number
    difference: Number
    low: Number
    """Lower end of the interval of the difference."""
    high: Number
    base_low: Number = None
    base_high: Number = None
    tutor_low: Number = None
    tutor_high: Number = None
    n: int
    """Rows that both sides have a value for."""
    problems: int | None = None
    """Problems that those rows come from."""
    earlier: tuple[RoundFigure, ...] = ()
    """What the tutor was trained on top of, oldest first."""
    step: StepFigure | None = None
    """The tutor's difference to the last of ``earlier``."""
    agreement: JudgeAgreement | None = None
    """Of the judge whose score this is; None where it was not compared with people."""

    @property
    def judged(self) -> bool:
        """Whether a judge gave the scores."""
        return "agreement" in self.model_fields_set

    @property
    def overall(self) -> bool:
        """Whether the figure is over all rows."""
        return self.kind == "all"

    @property
    def by_topic(self) -> bool:
        """Whether the figure is about one problem topic."""
        return self.kind.startswith(TOPIC)

    @property
    def of_base(self) -> Estimate:
        """The base's mean with its interval."""
        return Estimate(self.base, self.base_low, self.base_high)

    @property
    def of_tutor(self) -> Estimate:
        """The tutor's mean with its interval."""
        return Estimate(self.tutor, self.tutor_low, self.tutor_high)

    @property
    def of_difference(self) -> Estimate:
        """Tutor minus base with its interval."""
        return Estimate(self.difference, self.low, self.high)

    def to_record(self) -> dict[str, Any]:
        """The row as JSON values; ``earlier``, ``step`` and ``agreement`` only where they were set."""
        return {key: value for key, value in self.model_dump(mode="json").items() if key in self.model_fields_set}


Family = Literal["primary", "secondary"]


Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True)
class SpeakerFigure:
    """What a speaker does: a row of ``figures``."""

    measure: str
    kind: str
    """``all``, a kind of rejection, a topic."""
    speaker: str
    value: float | None
    low: float | None
    """None below ten problems, and where a figure is constant by construction."""
    high: float | None
    n: int
    problems: int


@dataclass(frozen=True)
class SpeakerComparison:
    """The tutor beside another speaker on the same rows: a row of ``comparisons``."""

    measure: str
    kind: str
    speaker: str
    against: str
    difference: float | None
    low: float | None
    """Of the unadjusted 95% interval."""
    high: float | None
    n: int
    problems: int
    p: float | None
    family: Family | None
    """None for what is only shown."""
    verdict: Verdict | None


class FigureFile(_Row):
    """``evaluation.json``, or the file of one suite, which has a name."""

    name: str = ""
    metrics: tuple[Figure, ...]
    facts: dict[str, Any]
    figures: tuple[SpeakerFigure, ...] = ()
    """By speaker; files of before have none."""
    comparisons: tuple[SpeakerComparison, ...] = ()
    """The tutor beside every other speaker."""


class _Agreement(_Row):
    """How well labels agree with people's."""

    def estimate(self, name: str) -> Estimate:
        """A figure with its interval."""
        return Estimate(*(getattr(self, f"{name}{end}") for end in ("", "_low", "_high")))

    def to_record(self) -> dict[str, Any]:
        """The row as JSON values."""
        return self.model_dump(mode="json")


class LabelAgreement(_Agreement):
    """How well a measure agrees with people: a row of ``human_labels.json``."""

    measure: str
    set: str
    precision: Number
    precision_low: Number
    precision_high: Number
    recall: Number
    recall_low: Number
    recall_high: Number
    f1: Number
    f1_low: Number
    f1_high: Number
    kappa: Number
    kappa_low: Number
    kappa_high: Number
    n: int
    """Replies that both speak of."""
    dialogues: int
    """The dialogues that those belong to."""
    people: int
    """How many of them people say yes to."""
    without_answer: int
    """The labelled replies left out for want of a gold answer."""


class CriterionAgreement(_Agreement):
    """How well a judge agrees with people on a criterion: a row of ``calibration.json``."""

    criterion: str
    agreement: Number = None
    agreement_low: Number = None
    agreement_high: Number = None
    kappa: Number
    kappa_low: Number
    kappa_high: Number
    n: int
    """Replies that both labelled."""
    dialogues: int = 0
    unreadable: int = 0
    """Replies without a score."""
    in_both_orders: int = 0
    """How many of ``shown_twice`` got the same label in both orders."""
    shown_twice: int = 0


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
    """A row of ``replies.jsonl``: a held-out turn with what base, earlier rounds and tutor say there."""

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
    steps: NotRequired[list[dict[str, str]]]
    """Of the worked solution; files of before have none."""
    base: str
    tutor: str
    base_marks: Marks
    tutor_marks: Marks
    earlier: list[EarlierReply]
    others: NotRequired[dict[str, MarkedText]]
    """What the other speakers say, by speaker; files of before have none."""
