"""A teacher's reply with what the measures look at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from socratic_rl.core.dialogue import ROLES, Message, Step
from socratic_rl.measures import replies, steps
from socratic_rl.measures.pointing import points_at
from socratic_rl.notation.spans import Span


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
    steps: tuple[Step, ...] = ()
    """Of the worked solution; empty where the source has none."""
    student_turns: tuple[str, ...] = ()
    """What the student said, the problem first."""
    cut_off: bool = field(default=False, compare=False)
    """Whether it reached the limit of tokens before its end."""

    @classmethod
    def of(
        cls,
        text: str,
        answer: str,
        question: str,
        prompt: Sequence[Message],
        cut_off: bool = False,
        steps: tuple[Step, ...] = (),
    ) -> "MeasuredReply":
        """A reply to a dialogue.

        Args:
            text: The reply.
            answer: The gold answer.
            question: The problem's text.
            prompt: The dialogue before the reply.
            cut_off: Whether the reply was cut off.
            steps: Of the worked solution.
        """
        turns = [message for message in prompt if message["role"] in ROLES.values()]
        teacher, student = (
            tuple(turn["content"] for turn in turns if turn["role"] == ROLES[speaker])
            for speaker in ("teacher", "student")
        )
        before = (question, *(turn["content"] for turn in turns))
        return cls(text, answer, before, teacher, steps, student, cut_off)

    @cached_property
    def due(self) -> int | None:
        """The step that comes next; None where there is none, or it is not known."""
        return steps.due_step(self.steps, self.before[0], self.student_turns)

    @cached_property
    def points_at(self) -> tuple[int, ...]:
        """The steps that the reply points at."""
        return points_at(self.text, self.before[0], self.steps)

    @property
    def guides(self) -> bool | None:
        """Whether the reply points at the due step alone; None where no step is due."""
        return None if self.due is None else self.points_at == (self.due,)

    @cached_property
    def asked(self) -> list[Span]:
        """Where the reply asks something."""
        return replies.questions(self.text)
