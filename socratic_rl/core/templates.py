"""What a chat template makes of messages, found out by building: where the system text goes, what frames a reply."""

import ctypes
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from socratic_rl.core.dialogue import Message, teacher_message, without_system
from socratic_rl.core.errors import UserError, in_short

SECONDS = 5.0
"""The longest that a template may take over one dialogue; published ones take milliseconds."""

PROBE_SYSTEM, PROBE_USER, PROBE_REPLY = "Ask and never tell.", "What is two and one?", "Which comes after two?"
"""Texts that a template leaves as they are."""


BLOCK = re.compile(r"\s*([<\[|/\w]*(think|thought|reason)\w*[|>\]]+\s*)+", re.IGNORECASE)
"""Marks of thought with nothing between them."""


THOUGHT = re.compile(r"(?:\{% set \w+ = [^%]* %\})*?\{% set \w*think\w* = true %\}")
"""The head of a template that ``with_arguments`` gave one which asks for thought."""


Render = Callable[[Sequence[Message], bool], str]
"""The text that a template makes of messages; the flag says whether the reply's beginning follows."""


class BadTemplateError(ValueError):
    """A chat template fails; the message is its reason, in a line."""


class NoPrefixError(ValueError):
    """A dialogue does not begin as the prompt of its last reply does."""


def with_arguments(template: str, arguments: Mapping[str, Any]) -> str:
    """A chat template with arguments set at its head, so that whoever applies it applies them.

    Raises:
        UserError: The template has no such argument, or it is what messages go in by.
    """
    words = set(re.findall(r"[A-Za-z_]\w*", template))
    for name in arguments:
        if name in ("messages", "add_generation_prompt"):
            raise UserError(f"model.template_kwargs.{name}: is set for each dialogue; leave it out")
        if name not in words:
            near = get_close_matches(name, words, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(f"model.template_kwargs.{name}: the model's chat template has no such argument{hint}")
    head = "".join(f"{{% set {name} = {_literal(value)} %}}" for name, value in arguments.items())
    # a line's end behind a block is left out
    return head + ("\n" if head and template.startswith("\n") else "") + template


def _literal(value: Any) -> str:
    """A value as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


class ChatTemplate:
    """A model's chat template, which is foreign code: whatever goes wrong in it is told, and its time is limited.

    Args:
        source: The template.
        render: Applies it.
    """

    def __init__(self, source: str, render: Render) -> None:
        self._source = source
        self._render = render

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text up to where a reply begins, for who writes one.

        What the template itself puts at the head of a reply, such as an empty block of thought, belongs to it, except
        where ``model.template_kwargs`` asks for thought.

        Raises:
            BadTemplateError: The template fails.
        """
        return self._text(self._placed(messages), True) + ("" if THOUGHT.match(self._source) else self.opening)

    def dialogue(self, messages: Sequence[Message]) -> str:
        """The text of messages that end in a reply.

        Raises:
            BadTemplateError: The template fails.
        """
        return self._text(self._placed(messages), False)

    def pair(self, prompt: Sequence[Message], *replies: Sequence[Message]) -> list[str]:
        """The text of a prompt, and of the dialogues that go on with one reply each.

        Raises:
            BadTemplateError: The template fails.
            NoPrefixError: A dialogue does not begin with the prompt.
        """
        begun = self._text(self._placed(prompt), True)
        dialogues = [self.dialogue([*prompt, *reply]) for reply in replies]
        if not all(text.startswith(begun) for text in dialogues):
            raise NoPrefixError("its chat template does not begin a dialogue as it begins the prompt of its last reply")
        opened = begun + self.opening
        return [opened if all(text.startswith(opened) for text in dialogues) else begun, *dialogues]

    @cached_property
    def opening(self) -> str:
        """The empty block of thought that the template puts before a reply and not at the end of its prompt."""
        prompt, dialogue = self._probe
        block = dialogue.rpartition(PROBE_REPLY)[0].removeprefix(prompt)
        # what else stands there, such as the speaker's name, a model writes itself
        return block if dialogue.startswith(prompt) and BLOCK.fullmatch(block) else ""

    @cached_property
    def closing(self) -> str:
        """What the template writes behind a reply."""
        return self._probe[1].rpartition(PROBE_REPLY)[2]

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message stays where it is; else its text goes to the head of the user's first message.

        A template may refuse it, leave it out, or move it to where a prompt is no longer how its dialogue begins.
        """
        system: Message = {"role": "system", "content": PROBE_SYSTEM}
        exchange: list[Message] = [{"role": "user", "content": PROBE_USER}, teacher_message(PROBE_REPLY)]
        dialogues = ([system, *exchange], [system, *exchange, *exchange])
        return all(self._holds(rows) or not self._holds(without_system(rows)) for rows in dialogues)

    def _holds(self, rows: Sequence[Message]) -> bool:
        """Whether the system's text is in a prompt with which its dialogue begins."""
        try:
            prompt, dialogue = self._text(rows[:-1], True), self._text(rows, False)
        except BadTemplateError:
            return False
        return PROBE_SYSTEM in prompt and dialogue.startswith(prompt)

    def _placed(self, messages: Sequence[Message]) -> Sequence[Message]:
        moved = bool(messages) and messages[0]["role"] == "system" and not self.takes_system
        return without_system(messages) if moved else messages

    @cached_property
    def _probe(self) -> tuple[str, str]:
        """A short prompt and its dialogue, as the template writes them."""
        rows: list[Message] = [{"role": "user", "content": PROBE_USER}]
        return self._text(rows, True), self._text([*rows, teacher_message(PROBE_REPLY)], False)

    def _text(self, messages: Sequence[Message], prompt: bool) -> str:
        try:
            with _CLOCK.limit(SECONDS):
                return self._render(messages, prompt)
        except Exception as error:
            # what a template raises it chooses itself: a TypeError at a None, a KeyError, a recursion that never ends
            kind = "" if "Template" in type(error).__name__ else f"{type(error).__name__}: "
            raise BadTemplateError(f"its chat template fails: {in_short(f'{kind}{error}')}") from error


class _TemplateTimeoutError(Exception):
    """A template takes too long."""

    def __str__(self) -> str:
        return f"it takes more than {SECONDS:.0f} seconds over one dialogue"


class _Clock:
    """Ends what a thread does when it takes too long, also where no signal reaches: a page answers in threads."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what runs: a fork has none of its parent's threads, and perhaps its lock as it was held."""
        self._lock = threading.Lock()
        self._ends: dict[int, float] = {}
        self._watcher: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Raise ``_TemplateTimeoutError`` in this thread where the block lasts longer."""
        thread = threading.get_ident()
        with self._lock:
            self._ends[thread] = time.monotonic() + seconds
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="templates")
                self._watcher.start()
        try:
            yield
        finally:
            with self._lock:
                self._ends.pop(thread, None)

    def _watch(self) -> None:
        while True:
            time.sleep(0.25)
            with self._lock:
                late = [thread for thread, end in self._ends.items() if end < time.monotonic()]
                for thread in late:
                    del self._ends[thread]
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(_TemplateTimeoutError)
                    )


_CLOCK = _Clock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CLOCK.begin)
