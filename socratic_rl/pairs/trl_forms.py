"""Any preference data set in TRL's standard or conversational form, from files or from the hub."""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from socratic_rl.core.dialogue import Message
from socratic_rl.core.text_files import JsonError, json_value
from socratic_rl.pairs.dataset import UnusableError


class NoPromptError(UnusableError):
    """Nothing says what chosen and rejected reply to."""


class Columns(NamedTuple):
    """Which column is which."""

    prompt: str | None
    """None where chosen and rejected begin with it, also where they are plain texts."""
    chosen: str
    rejected: str


SYSTEM = ("system", "system_prompt", "system_message")
"""Columns that hold a system message."""


IMAGES = ("images", "image")


_PICKS_SIDE = re.compile(
    r"(?:better|safer|preferred|chosen|winning|best)[_ ]?(?:response|answer|reply|completion)?[_ ]?(?:id|index|idx)"
    r"|winner|winner_model|preference|preferred|overall_preference|labels?",
    re.IGNORECASE,
)


def picks_side(row: Mapping[str, Any]) -> str | None:
    """The column that says for each row which of two replies is better, as SHP and PKU-SafeRLHF have one; or None."""
    for name, value in row.items():
        is_number = isinstance(value, int | float) or str(value).strip().lower() in ("0", "1", "2", "a", "b", "tie")
        if _PICKS_SIDE.fullmatch(name) and (is_number or not name.lower().startswith("label")):
            return name
    return None


def prompt_columns(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    """The columns that make a row's prompt together; none where it is what chosen and rejected begin with.

    Beside a prompt column these are known: ShareGPT's ``conversations``, or ``messages``, and Alpaca's ``instruction``
    with ``input`` and ``history``.

    Raises:
        NoPromptError: There is none of these, and chosen and rejected are neither messages nor labelled transcripts.
    """
    name = columns.prompt
    if name is None:
        return ()
    alpaca = tuple(column for column in ("input", "history") if column in row)
    if row.get(name) is not None:
        return (name, *alpaca) if name == "instruction" else (name,)
    sides = (row.get(columns.chosen), row.get(columns.rejected))
    if name == "prompt":
        if all(map(_is_whole, sides)):
            return ()
        for column in ("conversations", "messages"):
            if row.get(column):
                return (column,)
        if row.get("instruction"):
            return ("instruction", *alpaca)
    raise NoPromptError(f"there is no prompt, neither in column {name!r} nor at the beginning of chosen and rejected")


def has_prompt(row: Mapping[str, Any], columns: Columns) -> bool:
    """Whether a row says what chosen and rejected reply to."""
    try:
        prompt_columns(row, columns)
    except NoPromptError:
        return False
    return True


def read_columns(row: Mapping[str, Any], columns: Columns) -> Collection[str]:
    """All columns of a row that become part of its pair."""
    return {columns.chosen, columns.rejected, *prompt_columns(row, columns), *SYSTEM, *IMAGES}


def row_messages(row: Mapping[str, Any], columns: Columns) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected of a row as chat messages, with the system message of a column of its own.

    Raises:
        UnusableError: Something is missing, who says what cannot be told, or there is an image.
    """
    if any(row.get(column) for column in IMAGES):
        raise UnusableError("has an image; only text is read")
    names = prompt_columns(row, columns)
    prompt = _alpaca(row) if names[:1] == ("instruction",) else row[names[0]] if names else None
    messages, chosen, rejected = to_messages(prompt, row.get(columns.chosen), row.get(columns.rejected))
    texts = {text for name in SYSTEM if name not in names and (text := str(row.get(name) or "").strip())}
    if texts and messages[0]["role"] == "system":
        texts.discard(messages[0]["content"].strip())
        if texts:
            raise UnusableError("has one system message in its column and another in the prompt")
    if len(texts) > 1:
        raise UnusableError("has several system messages")
    return [*({"role": "system", "content": text} for text in texts), *messages], chosen, rejected


def _alpaca(row: Mapping[str, Any]) -> str | list[Message]:
    """Alpaca's prompt: the instruction with its input below, after the exchanges of the history."""
    if not isinstance(row["instruction"], str):
        return row["instruction"]  # type: ignore[no-any-return]
    text = "\n".join(str(row[name]).strip() for name in ("instruction", "input") if row.get(name))
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise UnusableError("history is no list of pairs of a question and an answer")
    before = [
        {"role": role, "content": str(said)}
        for pair in history
        for role, said in zip(("user", "assistant"), pair, strict=True)
    ]
    return [*before, {"role": "user", "content": text}] if before else text


def _is_whole(side: Any) -> bool:
    """Whether a side begins with its prompt: messages of which the first is not the assistant's, or a transcript."""
    try:
        read = _read(side, "")
    except UnusableError:
        # what is wrong with it is told when it is read
        return isinstance(side, list)
    if isinstance(read, str):
        return (match := _SPEAKER.match(read)) is not None and match[1] == "Human"
    return read[0]["role"] != "assistant"


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
    chosen, rejected = (_side(side, name) for side, name in zip(sides, ("chosen", "rejected"), strict=True))
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
        if re.match(r"\s*(\[\s*)?\{\s*[\"'](role|content|from|value)[\"']\s*:", value):
            try:
                value = json_value(value)
            except JsonError as error:
                raise UnusableError(f"{name} looks like a list of messages and is not JSON") from error
        elif value.strip():
            return value.strip()
        else:
            raise UnusableError(f"{name} is empty")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise UnusableError(f"{name} is of type {type(value).__name__}, not text or messages")
    return _messages(value, name)


# who speaks in ShareGPT's exports, by TRL's names
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


def _messages(value: Sequence[Any], name: str) -> list[Message]:
    messages: list[Message] = []
    for message in _chatml(value):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise UnusableError(f"{name} has a message without role and content")
        role, content = message["role"], _content(message["content"], name)
        role = _ROLES.get(str(role).lower(), role)
        if role not in ("system", "user", "assistant"):
            raise UnusableError(f"{name} has the role {role!r}; system, user and assistant are known")
        if not content.strip():
            if role == "system":
                # exports have it where there was none
                continue
            raise UnusableError(f"{name} has a message without text")
        if messages and messages[-1]["role"] == role:
            # chat templates want strict alternation
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n{content}"}
        else:
            messages.append({"role": role, "content": content})
    if not messages:
        raise UnusableError(f"{name} has no messages")
    return messages


def _chatml(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages with ``role`` and ``content``, of which ShareGPT's ``from`` and ``value`` are other names."""
    # tables fill up what a message does not have
    messages = [
        {key: value for key, value in message.items() if value is not None} if isinstance(message, dict) else message
        for message in messages
    ]
    if not any(isinstance(message, dict) and "from" in message for message in messages):
        return messages
    # seconds to import, and few sets need it
    from trl.data_utils import maybe_convert_to_chatml

    converted: Sequence[Any] = maybe_convert_to_chatml({"messages": messages})["messages"]
    return converted


def _content(content: Any, name: str) -> str:
    """What a message says: text, or the text of its typed parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnusableError(f"{name} has a message without text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text"):
            raise UnusableError(f"{name} has a part of type {kind!r} in a message; only text is read")
        texts.append(str(part.get("text") or ""))
    return "\n".join(texts)


def _list(read: str | list[Message], role: str) -> list[Message]:
    return [{"role": role, "content": read}] if isinstance(read, str) else read


def _side(read: str | list[Message], name: str) -> list[Message]:
    """Chosen or rejected as messages; a text may be a transcript, or go on as one."""
    if isinstance(read, str) and _SPEAKER.search(read):
        return _dialogue(read if _SPEAKER.match(read) else f"Assistant: {read}", name)
    return _list(read, "assistant")


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
