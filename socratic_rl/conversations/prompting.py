"""Prompt texts: from a file to what one side of a dialogue hears."""

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AfterValidator

from socratic_rl.core.dialogue import LABEL, SPEAKERS, Message, Problem, Speaker, Turn, merge_turns, parse_transcript

if TYPE_CHECKING:
    import jinja2


PROMPTS = resources.files("socratic_rl.conversations") / "prompts"
"""The prompts of conversations that come with the project."""


def read_prompt(path: str | None, shipped: str) -> str:
    """The text of a prompt file, or of the one with that name that comes with the project."""
    return prompt_text(Path(path).expanduser() if path else PROMPTS / shipped)


def prompt_text(file: Traversable) -> str:
    """The text of a prompt file."""
    return file.read_text(encoding="utf-8").strip()


def template(file: Traversable) -> "jinja2.Template":
    """The Jinja template in a prompt file."""
    return _compiled(prompt_text(file))


@cache
def _compiled(text: str) -> "jinja2.Template":
    import jinja2

    prompts = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701  no HTML
    return prompts.from_string(text)


def holds(placeholder: str, ending: str = "") -> AfterValidator:
    """Refuses the path of a prompt file that is missing, lacks a placeholder or does not end as it must."""

    def check(path: str | None) -> str | None:
        if path is None:
            return None
        try:
            text = read_prompt(path, "")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8") from error
        except OSError as error:
            raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        if placeholder not in text:
            raise ValueError(f"{path}: has no {placeholder} in it")
        if not text.endswith(ending):
            raise ValueError(f"{path}: must end in {ending!r}")
        return path

    return AfterValidator(check)


def fill(prompt: str, problem: Problem, persona: str = "") -> str:
    """The prompt with its placeholders filled, all at once so that no filling is filled again."""
    values = {
        "problem": problem.question,
        "solution": problem.solution or "\n".join(step.work for step in problem.steps),
        "answer": problem.answer,
        "persona": persona,
    }
    return re.sub(r"\{(problem|solution|answer|persona)\}", lambda match: values[match[1]], prompt)


def split_prompt(prompt: str) -> tuple[str, list[Turn]]:
    """A prompt's instructions, and the example dialogue that begins with the first speaker's label in it."""
    label = LABEL.search(prompt)
    return (prompt[: label.start()].strip(), parse_transcript(prompt[label.start() :])) if label else (prompt, [])


def as_heard(speaker: Speaker, system: str, examples: Sequence[Turn], turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The dialogue as chat messages for one side, whose own turns are the assistant's, after the examples.

    The student does not hear its own statement of the problem, which its system message has, since chat templates want
    the user to begin.
    """
    heard = merge_turns([*examples, *(turns if speaker == "teacher" else turns[1:])])
    messages = ({"role": "assistant" if turn.speaker == speaker else "user", "content": turn.text} for turn in heard)
    return ({"role": "system", "content": system}, *messages)


def without_label(text: str, speaker: Speaker) -> str:
    """The text without its speaker's own name, with which a chat model may begin its turn."""
    label = LABEL.match(text)
    is_own = label and SPEAKERS[label[1].lower()] == speaker
    return (text[label.end() :] if label and is_own else text).strip()
