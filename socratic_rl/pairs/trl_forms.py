"""Any preference data set in TRL's standard or conversational form, from files or from the hub."""

import json
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from socratic_rl.core.dialogue import Message
from socratic_rl.pairs.dataset import UnusableError


def to_messages(prompt: Any, chosen: Any, rejected: Any) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected of a row in any of TRL's preference forms, as chat messages.

    Args:
        prompt: Text or messages; None where it stands at the beginning of the other two.
        chosen: Text or messages: the completion alone, or the whole dialogue.
        rejected: The same.

    Raises:
        UnusableError: Something is missing, or who says what cannot be told.
    """
    sides = [_read(value, name) for value, name in ((chosen, "chosen"), (rejected, "rejected"))]
    messages = [] if prompt is None else _prompt(_read(prompt, "the prompt"))
    if not messages and all(isinstance(side, str) for side in sides):
        sides = _split_texts(*map(str, sides))
    chosen, rejected = (_list(side, "assistant") for side in sides)
    begins_with_prompt = [side[0]["role"] != "assistant" for side in (chosen, rejected)]
    if begins_with_prompt[0] != begins_with_prompt[1]:
        raise UnusableError("chosen and rejected begin with different speakers")
    if begins_with_prompt[0]:
        shared = _shared(chosen, rejected)
        chosen, rejected = chosen[len(shared) :], rejected[len(shared) :]
        messages = _fuller(messages, shared)
    if not messages:
        raise UnusableError("no prompt, neither of its own nor at the beginning of chosen and rejected")
    _check(messages, chosen, rejected)
    return messages, chosen, rejected


def _read(value: Any, name: str) -> str | list[Message]:
    """Text, or messages with a role and a text; a CSV holds them as JSON."""
    if value is None:
        raise UnusableError(f"{name} is missing")
    if isinstance(value, str):
        if re.match(r"\s*\[\s*\{\s*[\"'](role|content)[\"']", value):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                raise UnusableError(f"{name} looks like a list of messages and is not JSON") from error
        elif value.strip():
            return value.strip()
        else:
            raise UnusableError(f"{name} is empty")
    if not isinstance(value, list):
        raise UnusableError(f"{name} is of type {type(value).__name__}, not text or messages")
    return _messages(value, name)


def _messages(value: Sequence[Any], name: str) -> list[Message]:
    messages: list[Message] = []
    for message in value:
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise UnusableError(f"{name} has a message without role and content")
        role, content = message["role"], message["content"]
        if role not in ("system", "user", "assistant"):
            raise UnusableError(f"{name} has the role {role!r}; system, user and assistant are known")
        if not isinstance(content, str) or not content.strip():
            raise UnusableError(f"{name} has a message without text")
        if messages and messages[-1]["role"] == role:
            # chat templates want strict alternation
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n{content}"}
        else:
            messages.append({"role": role, "content": content})
    if not messages:
        raise UnusableError(f"{name} has no messages")
    return messages


def _list(read: str | list[Message], role: str) -> list[Message]:
    return [{"role": role, "content": read}] if isinstance(read, str) else read


# Anthropic's hh-rlhf and its like
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]*")


def _split_texts(chosen: str, rejected: str) -> list[str | list[Message]]:
    """Two texts that begin with the same prompt, as whole dialogues."""
    if _SPEAKER.match(chosen) and _SPEAKER.match(rejected):
        return [_dialogue(chosen, "chosen"), _dialogue(rejected, "rejected")]
    same = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(chosen, rejected, strict=False)))
    # back to the edge of a word
    prompt = re.match(r"(?s).*(?<=\s)", chosen[:same])
    if prompt is None:
        raise UnusableError("chosen and rejected do not begin alike, and there is no prompt")
    return [
        [{"role": "user", "content": prompt[0].strip()}, {"role": "assistant", "content": side[prompt.end() :]}]
        for side in (chosen, rejected)
    ]


def _prompt(read: str | list[Message]) -> list[Message]:
    if isinstance(read, str) and _SPEAKER.match(read):
        return _dialogue(re.sub(r"\s*Assistant:\s*$", "", read), "the prompt")
    return _list(read, "user")


def _dialogue(text: str, name: str) -> list[Message]:
    _, *pieces = _SPEAKER.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(pieces[::2], pieces[1::2], strict=True)
    return _messages([{"role": roles[who], "content": words.strip()} for who, words in turns], name)


def _shared(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The messages that two whole dialogues begin with, up to where the assistant speaks differently."""
    length = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(chosen[:-1], rejected[:-1], strict=False)))
    while length and not chosen[length]["role"] == rejected[length]["role"] == "assistant":
        length -= 1
    if not length:
        raise UnusableError("chosen and rejected do not begin with the same prompt")
    return chosen[:length]


def _fuller(column: list[Message], shared: list[Message]) -> list[Message]:
    """The prompt of a row that has it twice: in its own column, and at the beginning of chosen and rejected."""
    texts = [message["content"].strip() for message in shared]
    if not column or [message["content"].strip() for message in column] == texts[-len(column) :]:
        return shared
    if [message["content"].strip() for message in column[-len(shared) :]] == texts:
        return column
    if len(column) == 1 and column[0]["content"].strip() in texts:
        return shared
    raise UnusableError("the prompt is not how chosen and rejected begin (prompt: null takes theirs)")


def _check(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> None:
    roles = [message["role"] for message in prompt]
    if "system" in roles[1:]:
        raise UnusableError("the prompt has a system message that is not its first message")
    if roles[-1] != "user":
        raise UnusableError(f"the prompt ends with the {roles[-1]}, not with the user")
    if roles[int(roles[0] == "system")] != "user":
        raise UnusableError("the prompt begins with the assistant")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not side or side[0]["role"] != "assistant" or side[-1]["role"] != "assistant":
            raise UnusableError(f"{name} does not end with the assistant")
        if not side[0]["content"].strip():
            raise UnusableError(f"{name} is empty")
    if _squeezed(chosen) == _squeezed(rejected):
        raise UnusableError("chosen and rejected are the same")


def _squeezed(side: list[Message]) -> list[tuple[str, str]]:
    """A side's messages without regard to white space."""
    return [(message["role"], " ".join(message["content"].split())) for message in side]
