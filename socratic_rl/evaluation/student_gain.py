"""What a student gains: a simulated one solves held-out problems alone, after a dialogue with the base, with the tutor.

A teacher that tells the answer raises the solve rate too, so how many dialogues reveal it stands beside the gain.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Annotated, Any, ClassVar

from pydantic import Field

from socratic_rl.conversations.prompting import as_heard, fill, read_prompt, split_prompt, template, without_label
from socratic_rl.core.component import Component, Count, Whole
from socratic_rl.core.dialogue import Message, Problem, Speaker, Turn, render_transcript, seed_from, to_messages
from socratic_rl.core.errors import UserError, under
from socratic_rl.core.generator import Request, in_order
from socratic_rl.core.provenance import in_a_line
from socratic_rl.evaluation.suites import Options, Result, suite_result
from socratic_rl.evaluation.test_sets import not_trained_on
from socratic_rl.generators.tutors import TutorGenerator, chat_requests, prompt_room
from socratic_rl.measures import replies
from socratic_rl.measures.figures import Figure
from socratic_rl.measures.intervals import compare_sides
from socratic_rl.models.tokens import fit_prompt
from socratic_rl.models.tutor import Tutor
from socratic_rl.notation import answers

PROMPT = resources.files("socratic_rl.evaluation") / "prompts" / "solve.jinja"


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

    def solved(self, text: str) -> bool:
        """Whether what the student tells as its answer, or else the last number it wrote, is the gold answer."""
        return answers.solves(text, self.problem.answer)

    def gain(self, teacher: str) -> int:
        """1 where the student solves the problem only after the dialogue, -1 where only alone, else 0."""
        return self.solved(self.after[teacher]) - self.solved(self.alone)

    def reveals(self, teacher: str) -> bool:
        """Whether the teacher gives the answer away anywhere in its dialogue."""
        texts = [turn.text for turn in self.dialogues[teacher]]
        return any(
            turn.speaker == "teacher" and replies.reveals_answer(turn.text, self.problem.answer, texts[:index])
            for index, turn in enumerate(self.dialogues[teacher])
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
                    "text": text,
                    "solved": self.solved(text),
                }
                for teacher, text in self.after.items()
            },
        }


class StudentGain(Component):
    """A simulated student's solve rate before and after it talked with a teacher."""

    name: str
    generator: Any
    """Who plays the student."""
    attempts: Annotated[Whole, Field(ge=1, le=1000)]
    """How often each problem is tried alone, and after a dialogue with each teacher."""
    turns: Annotated[Whole, Field(ge=1, le=1000)]
    """Exchanges of a dialogue."""
    limit: Count | None
    """The first so many problems; None is all."""

    asks_tutor: ClassVar[bool] = True

    def run(self, tutor: Tutor, options: Options) -> Result:
        """Let the student talk with base and tutor, and compare what it solves before and after; see ``Suite``.

        Raises:
            UserError: There is no problem to try, the generator fails, or a problem is too long for a teacher.
        """
        problems = problems_to_try(tutor, options)[: self.limit]
        generators = options.repliers().generators
        options.begin()
        teachers = {name: teacher(generator, f"{name} replies") for name, generator in generators.items()}
        with under("suite.generator"):
            tries = self.tries(problems, teachers, options.seed)
        figures = compare(tries, seed=options.seed, resamples=options.resamples)
        lines = {
            "attempts": f"{len(tries)} at {len(problems)} held-out problems, {self.attempts} each",
            "exchanges": str(self.turns),
            "sampling": in_a_line(options.sampling.as_config()),
        }
        facts = {
            "tutor": options.adapter,
            "base": tutor.settings.name,
            "student": in_a_line(self.generator.identity()),
            **lines,
        }
        return suite_result(
            self.name,
            f"{self.name}: {lines['attempts']}",
            figures,
            facts,
            lines,
            score=figures[GAIN].tutor,
            dialogues=[attempt.to_record() for attempt in tries],
        )

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
        for attempt in tries:
            attempt.persona = random.Random(attempt.seed(seed, "persona")).choice(personas)
        requests = [self._solve(attempt, [], seed) for attempt in tries]
        for attempt, reply in zip(tries, self._say(requests), strict=True):
            attempt.alone = reply
        for name, teacher in teachers.items():
            self._talk(tries, name, teacher, seed)
            requests = [self._solve(attempt, attempt.dialogues[name], seed) for attempt in tries]
            for attempt, reply in zip(tries, self._say(requests), strict=True):
                attempt.after[name] = reply
        return tries

    def _talk(self, tries: Sequence[Try], name: str, teacher: Teacher, seed: int) -> None:
        """Hold each attempt's dialogue with a teacher; it ends early when the student states the answer."""
        for attempt in tries:
            attempt.dialogues[name] = [Turn(speaker="student", text=attempt.problem.question)]
        talking = list(tries)
        for exchange in range(self.turns):
            dialogues = [to_messages(attempt.dialogues[name]) for attempt in talking]
            taught = teacher(dialogues, [attempt.seed(seed, "teacher", exchange) for attempt in talking])
            talking = _go_on(talking, name, "teacher", taught)
            requests = [
                self._reply(attempt, attempt.dialogues[name], attempt.seed(seed, "student", exchange))
                for attempt in talking
            ]
            talking = _go_on(talking, name, "student", self._say(requests))
            talking = [
                attempt
                for attempt in talking
                if not answers.states(attempt.dialogues[name][-1].text, attempt.problem.answer)
            ]

    def _reply(self, attempt: Try, turns: Sequence[Turn], seed: int) -> Request:
        """What the student says next in a dialogue."""
        instructions, examples = split_prompt(read_prompt(None, "student.txt"))
        system = fill(instructions, attempt.problem, attempt.persona)
        return Request(seed=seed, messages=as_heard("student", system, examples, turns), stop=OTHERS)

    def _solve(self, attempt: Try, dialogue: Sequence[Turn], seed: int) -> Request:
        """The student's attempt, from the same seed alone and after each dialogue."""
        # the problem stands above it
        talked = render_transcript(dialogue[1:])
        prompt = template(PROMPT).render(persona=attempt.persona, problem=attempt.problem.question, dialogue=talked)
        return Request(seed=attempt.seed(seed, "solve"), messages=({"role": "user", "content": prompt},), stop=OTHERS)

    def _say(self, requests: Sequence[Request]) -> list[str]:
        """What the student says to each request."""
        return [reply.text for reply in in_order(self.generator.generate(requests), len(requests), "student")]


def problems_to_try(tutor: Tutor, options: Options) -> list[Problem]:
    """Problems with answers that the tutor's data set held out, or that another one holds out and nobody trained on.

    Raises:
        UserError: There are none.
    """
    if options.other_dataset is None:
        problems = tutor.held_out_problems()
    else:
        dataset, pairs = options.held_out(tutor)
        fresh, _ = not_trained_on(pairs, tutor, f"dataset.path: {dataset.path}")
        by_id = dataset.read_problems()
        problems = [by_id[id_] for id_ in dict.fromkeys(pair.problem_id for pair in fresh) if id_ in by_id]
    answered = [problem for problem in problems if problem.answer]
    if not answered:
        raise UserError(
            f"suite: no problem with an answer was held out from the training of {options.adapter}; those of other "
            "pairs: dataset=socratic dataset.path=PAIRS.jsonl"
        )
    return answered


def _go_on(talking: Sequence[Try], name: str, speaker: Speaker, texts: Sequence[str]) -> list[Try]:
    """Add what was said to the dialogues; those where nothing was said end there."""
    going = []
    for attempt, text in zip(talking, texts, strict=True):
        if spoken := without_label(text, speaker):
            attempt.dialogues[name].append(Turn(speaker=speaker, text=spoken))
            going.append(attempt)
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


MEASURES: dict[tuple[str, str], Callable[[Try, str], float | None]] = {
    ("solves_alone", "all"): lambda attempt, _: attempt.solved(attempt.alone),
    ("solves_after", "all"): lambda attempt, name: attempt.solved(attempt.after[name]),
    ("gain", "all"): Try.gain,
    ("dialogue_reveals", "all"): Try.reveals,
    # the attempts in which neither teacher revealed the answer
    ("gain", "nothing revealed"): lambda attempt, name: None if attempt.reveals(name) else attempt.gain(name),
}
"""What is measured of an attempt with a teacher, by name and kind."""


GAIN = list(MEASURES).index(("gain", "all"))


def compare(tries: Sequence[Try], *, seed: int, resamples: int) -> list[Figure]:
    """The figures; n counts attempts, and intervals draw whole problems.

    Args:
        tries: With dialogues of ``base`` and ``tutor``.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
    """
    groups = [attempt.problem.id for attempt in tries]
    figures = []
    for (name, kind), measure in MEASURES.items():
        base, tutor = ([measure(attempt, side) for attempt in tries] for side in ("base", "tutor"))
        figures.append(compare_sides(name, kind, base, tutor, groups, seed=seed, resamples=resamples))
    return figures
