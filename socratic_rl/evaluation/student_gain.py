"""What a student gains: a simulated one solves held-out problems alone, after a dialogue with the base, with the tutor.

A teacher that tells the answer raises the solve rate too, so how many dialogues reveal it stands beside the gain.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from socratic_rl.conversations.prompting import as_heard, fill, read_prompt, render, split_prompt, without_label
from socratic_rl.core.component import Component
from socratic_rl.core.dialogue import Message, Problem, Speaker, Turn, render_transcript, seed_from, to_messages
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Request, in_order
from socratic_rl.generators.tutors import TutorGenerator, chat_requests, prompt_room
from socratic_rl.measures import answers, replies
from socratic_rl.measures.answers import _is_answer, _told
from socratic_rl.measures.intervals import metric_row
from socratic_rl.models.tokens import fit_prompt

Teacher = Callable[[Sequence[list[Message]], Sequence[int]], Sequence[str]]
"""Replies to dialogues, each from its own seed."""


OTHERS = ("\nTeacher:", "\nStudent:")
"""Where a student that goes on for both sides is stopped."""


@dataclass
class Try:
    """One attempt of the student at a problem: alone, and after a dialogue with each teacher."""

    problem: Problem
    number: int
    persona: str = ""
    alone: str = ""
    dialogues: dict[str, list[Turn]] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)

    def seed(self, seed: int, *parts: object) -> int:
        """Of one thing that is drawn in this attempt, the same for both teachers."""
        return seed_from(seed, self.problem.id, self.number, *parts)

    def solved(self, said: str) -> bool:
        """Whether what the student tells as its answer, or else the last number it wrote, is the gold answer."""
        answer = self.problem.answer
        told = _told(said, answer)
        return _is_answer(told, answer) if told else answers.ends_in(said, answer)

    def gain(self, teacher: str) -> int:
        """1 where the student solves the problem only after the dialogue, -1 where only alone, else 0."""
        return self.solved(self.after[teacher]) - self.solved(self.alone)

    def reveals(self, teacher: str) -> bool:
        """Whether the teacher gives the answer away anywhere in its dialogue."""
        said = [turn.text for turn in self.dialogues[teacher]]
        return any(
            turn.speaker == "teacher" and replies.reveals_answer(turn.text, self.problem.answer, said[:place])
            for place, turn in enumerate(self.dialogues[teacher])
        )

    def to_record(self) -> dict[str, Any]:
        """The attempt as JSON values."""
        return {
            "problem_id": self.problem.id,
            "question": self.problem.question,
            "answer": self.problem.answer,
            "attempt": self.number,
            "persona": self.persona,
            "alone": {"text": self.alone, "solved": self.solved(self.alone)},
            **{
                teacher: {
                    "dialogue": [turn.to_record() for turn in self.dialogues[teacher]],
                    "reveals": self.reveals(teacher),
                    "text": said,
                    "solved": self.solved(said),
                }
                for teacher, said in self.after.items()
            },
        }


class StudentGain(Component):
    """A simulated student's solve rate before and after it talked with a teacher."""

    name: str
    generator: Any
    """Who plays the student."""
    attempts: Annotated[int, Field(ge=1)]
    """How often each problem is tried alone, and after a dialogue with each teacher."""
    turns: Annotated[int, Field(ge=1)]
    """Exchanges of a dialogue."""
    limit: Annotated[int, Field(ge=1)] | None
    """The first so many problems; None is all."""

    def tries(self, problems: Sequence[Problem], teachers: Mapping[str, Teacher], seed: int) -> list[Try]:
        """All attempts at the problems, each alone and after a dialogue with each teacher.

        Args:
            problems: With gold answers.
            teachers: Who talks with the student, by name.
            seed: Everything that is drawn for the student and for the teachers comes from it.

        Raises:
            UserError: The generator fails, or a problem is too long for a teacher.
        """
        personas = [line for line in read_prompt(None, "personas.txt").splitlines() if line]
        tries = [Try(problem, number) for problem in problems for number in range(self.attempts)]
        for one in tries:
            one.persona = random.Random(one.seed(seed, "persona")).choice(personas)
        for one, reply in zip(tries, self._say([self._solve(one, [], seed) for one in tries]), strict=True):
            one.alone = reply
        for name, teacher in teachers.items():
            self._talk(tries, name, teacher, seed)
            requests = [self._solve(one, one.dialogues[name], seed) for one in tries]
            for one, reply in zip(tries, self._say(requests), strict=True):
                one.after[name] = reply
        return tries

    def _talk(self, tries: Sequence[Try], name: str, teacher: Teacher, seed: int) -> None:
        """Hold each attempt's dialogue with a teacher; it ends early when the student states the answer."""
        for one in tries:
            one.dialogues[name] = [Turn(speaker="student", text=one.problem.question)]
        talking = list(tries)
        for exchange in range(self.turns):
            heard = [to_messages(one.dialogues[name]) for one in talking]
            said = teacher(heard, [one.seed(seed, "teacher", exchange) for one in talking])
            talking = _go_on(talking, name, "teacher", said)
            asked = [self._reply(one, one.dialogues[name], one.seed(seed, "student", exchange)) for one in talking]
            talking = _go_on(talking, name, "student", self._say(asked))
            talking = [one for one in talking if not answers.states(one.dialogues[name][-1].text, one.problem.answer)]

    def _reply(self, one: Try, turns: Sequence[Turn], seed: int) -> Request:
        """What the student says next in a dialogue."""
        instructions, examples = split_prompt(read_prompt(None, "student.txt"))
        system = fill(instructions, one.problem, one.persona)
        return Request(seed=seed, messages=as_heard("student", system, examples, turns), stop=OTHERS)

    def _solve(self, one: Try, dialogue: Sequence[Turn], seed: int) -> Request:
        """The student's attempt, from the same seed alone and after each dialogue."""
        # the problem stands above it
        talked = render_transcript(dialogue[1:])
        prompt = render("solve.jinja", persona=one.persona, problem=one.problem.question, dialogue=talked)
        return Request(seed=one.seed(seed, "solve"), messages=({"role": "user", "content": prompt},), stop=OTHERS)

    def _say(self, requests: Sequence[Request]) -> list[str]:
        """What the student says to each request."""
        return [reply.text for reply in in_order(self.generator.generate(requests), len(requests), "student")]


def _go_on(talking: Sequence[Try], name: str, speaker: Speaker, said: Sequence[str]) -> list[Try]:
    """Add what was said to the dialogues; those where nothing was said end there."""
    going = []
    for one, text in zip(talking, said, strict=True):
        if spoken := without_label(text, speaker):
            one.dialogues[name].append(Turn(speaker=speaker, text=spoken))
            going.append(one)
    return going


def teacher(generator: TutorGenerator, label: str) -> Teacher:
    """Base or tutor as a teacher.

    Args:
        generator: What replies.
        label: What its progress bar is called.
    """

    def reply(dialogues: Sequence[list[Message]], seeds: Sequence[int]) -> list[str]:
        room = prompt_room(generator)
        fitted = [fit_prompt(dialogue, generator.tokenizer, room) for dialogue in dialogues]
        if None in fitted:
            raise UserError(f"sampling.max_new_tokens: leaves {room} tokens for a problem, and one is longer")
        requests = chat_requests([prompt for prompt in fitted if prompt], seeds)
        return [reply.text for reply in in_order(generator.generate(requests), len(requests), label)]

    return reply


def compare(tries: Sequence[Try], *, seed: int, resamples: int) -> list[dict[str, Any]]:
    """Rows as in ``evaluation.json``; n counts attempts, and intervals draw whole problems.

    Args:
        tries: With dialogues of ``base`` and ``tutor``.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    measures: dict[tuple[str, str], Callable[[Try, str], float | None]] = {
        ("solves_alone", "all"): lambda one, _: one.solved(one.alone),
        ("solves_after", "all"): lambda one, name: one.solved(one.after[name]),
        ("gain", "all"): Try.gain,
        ("dialogue_reveals", "all"): Try.reveals,
        # the attempts in which neither teacher revealed the answer
        ("gain", "nothing revealed"): lambda one, name: None if one.reveals(name) else one.gain(name),
    }
    groups = [one.problem.id for one in tries]
    rows = []
    for (name, kind), measure in measures.items():
        base, tutor = ([measure(one, side) for one in tries] for side in ("base", "tutor"))
        rows.append(metric_row(name, kind, base, tutor, groups, seed=seed, resamples=resamples))
    return rows
