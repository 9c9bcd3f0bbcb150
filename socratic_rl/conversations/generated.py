"""Conversations that a generator writes: by role-play, or as one script."""

import hashlib
import random
from abc import abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Annotated

from pydantic import Field

from socratic_rl.conversations.prompting import as_heard, fill, holds, read_prompt, split_prompt, without_label
from socratic_rl.conversations.transcripts import said_once
from socratic_rl.conversations.writer import CUT_OFF, EMPTY, Flaw, conversation, gate
from socratic_rl.core.component import Component, Tokens, Whole
from socratic_rl.core.dialogue import Conversation, Problem, Speaker, Turn, parse_transcript, seed_from
from socratic_rl.core.errors import UserError, under
from socratic_rl.core.generator import Generator, Request, Talk
from socratic_rl.notation import answers


class Generated(Component):
    """What both ways of writing by a generator share."""

    max_turns: Whole = Field(ge=2, le=1000)
    """The most turns of a conversation, the statement of the problem included."""
    per_problem: Whole = Field(ge=1, le=10_000)
    """Conversations about each problem."""

    def ids(self, problems: Iterable[Problem]) -> Iterator[str]:
        """Every conversation that it would write, in order."""
        return (f"{problem.id}/{number}" for problem in problems for number in range(self.per_problem))

    def _ends(self, turns: Sequence[Turn], problem: Problem) -> bool:
        """Whether the conversation ends with the last of these turns."""
        reached = len(turns) > 1 and turns[-1].speaker == "student" and bool(problem.answer)
        return len(turns) >= self.max_turns or (reached and answers.states(turns[-1].text, problem.answer))

    def write(
        self, problems: Iterable[Problem], generator: Generator | None, seed: int, done: Container[str]
    ) -> Iterator[Conversation]:
        """The conversations as they finish, without those in ``done``.

        Raises:
            UserError: There is no generator, or it fails.
        """
        if generator is None:
            raise UserError("generator: none is set, and these conversations need one; e.g. generator=llama_cpp")
        talks = (
            (key, partial(self._talk, problem, key, generator, seed))
            for problem in problems
            for key in self.ids([problem])
        )
        return _in_groups(talks, generator, done)

    @abstractmethod
    def _talk(self, problem: Problem, key: str, generator: Generator, seed: int) -> Talk[Conversation]:
        """Write one conversation, asking the generator for each reply."""


GROUP = 4
"""Conversations of a group, as a multiple of how many a generator works on at once: what is done again after a kill,
and how rarely fewer are left than it could hold."""


def _in_groups(
    talks: Iterable[tuple[str, Callable[[], Talk[Conversation]]]], generator: Generator, done: Container[str]
) -> Iterator[Conversation]:
    """Hold conversations in groups that do not depend on what is done.

    What stands beside a prompt in a batch can change its reply by rounding: so a run that was killed and goes on gives
    the same text as one that was not.
    """
    rest = iter(talks)
    while group := list(islice(rest, GROUP * generator.width)):
        if all(key in done for key, _ in group):
            continue
        with under("generator"):
            for _, held in generator.hold(start() for _, start in group):
                if held.id not in done:
                    yield held


class RolePlay(Generated):
    """Teacher and student speak in turn, each from its own prompt.

    The teacher knows the worked solution and may not state it; the student has a persona and sees only the problem. A
    conversation that has a flaw is not carried on.
    """

    teacher_prompt: Annotated[str | None, holds("{solution}")]
    """A text file with ``{solution}`` in it, maybe ``{problem}`` and ``{answer}`` too; None is the shipped one."""
    student_prompt: Annotated[str | None, holds("{problem}")]
    """A text file with ``{problem}`` in it, maybe ``{persona}`` too; None is the shipped one."""

    @cached_property
    def _prompts(self) -> dict[Speaker, str]:
        return {
            "teacher": read_prompt(self.teacher_prompt, "teacher.txt"),
            "student": read_prompt(self.student_prompt, "student.txt"),
        }

    @cached_property
    def _parts(self) -> dict[Speaker, tuple[str, list[Turn]]]:
        return {speaker: split_prompt(prompt) for speaker, prompt in self._prompts.items()}

    @cached_property
    def _personas(self) -> list[str]:
        return [line for line in read_prompt(None, "personas.txt").splitlines() if line]

    def _talk(self, problem: Problem, key: str, generator: Generator, seed: int) -> Talk[Conversation]:
        persona = random.Random(seed_from(seed, key, "persona")).choice(self._personas)
        turns = [Turn(speaker="student", text=problem.question)]
        flaws: list[Flaw] = []
        while not flaws and not self._ends(turns, problem):
            speaker: Speaker = "student" if turns[-1].speaker == "teacher" else "teacher"
            instructions, examples = self._parts[speaker]
            heard = as_heard(speaker, fill(instructions, problem, persona), examples, turns)
            reply = yield Request(messages=heard, seed=seed_from(seed, key, len(turns)))
            text = without_label(reply.text, speaker)
            if speaker == "teacher":
                text = said_once(text)
            if not text:
                flaws.append(Flaw(EMPTY, len(turns)))
                break
            turns.append(Turn(speaker=speaker, text=text))
            if reply.finish == "length":
                flaws.append(Flaw(CUT_OFF, len(turns) - 1))
            flaws += gate(turns, problem)
        return conversation(
            key,
            problem,
            turns,
            flaws,
            {
                "writer": "roleplay",
                "generator": generator.identity(),
                "prompt": _sha256(*self._prompts.values(), *self._personas),
                "seed": seed,
                "persona": persona,
            },
        )


class Script(Generated):
    """One completion writes the whole dialogue, as the continuation of a few examples."""

    prompt: Annotated[str | None, holds("{problem}", ending="Teacher:")]
    """A text file with ``{problem}`` in it that ends in ``Teacher:``; None is the shipped one."""
    max_tokens: Tokens
    """The most tokens of a whole dialogue."""

    @cached_property
    def _prompt(self) -> str:
        return read_prompt(self.prompt, "script.txt")

    def _talk(self, problem: Problem, key: str, generator: Generator, seed: int) -> Talk[Conversation]:
        reply = yield Request(
            text=fill(self._prompt, problem),
            seed=seed_from(seed, key, "script"),
            # where the next example would begin
            stop=("\nProblem:",),
            max_tokens=self.max_tokens,
        )
        written = [Turn(speaker="student", text=problem.question), *parse_transcript(f"Teacher: {reply.text}")]
        end = next((n for n in range(1, len(written)) if self._ends(written[:n], problem)), len(written))
        turns = [
            turn.model_copy(update={"text": said_once(turn.text)}) if turn.speaker == "teacher" else turn
            for turn in written[:end]
        ]
        flaws = gate(turns, problem)
        if len(turns) == 1:
            flaws.append(Flaw(EMPTY, 1))
        if reply.finish == "length" and end == len(written):
            flaws.append(Flaw(CUT_OFF, len(turns) - 1))
        return conversation(
            key,
            problem,
            turns,
            flaws,
            {
                "writer": "script",
                "generator": generator.identity(),
                "prompt": _sha256(self._prompt),
                "seed": seed,
            },
        )


def _sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
