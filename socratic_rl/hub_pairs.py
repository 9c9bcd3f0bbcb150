"""Any preference data set in TRL's standard or conversational form, from files or from the hub."""

import itertools
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from socratic_rl.config import Component
from socratic_rl.dialogue import Message, PreferencePair, text_id
from socratic_rl.errors import UserError
from socratic_rl.generators import Generator
from socratic_rl.preference_data import Flawed, Prepared, SocraticPairs, UnusableError, name_flawed, own_file
from socratic_rl.preferences import Share, Split, split_of
from socratic_rl.problems import Encoding
from socratic_rl.rejections import Rejection
from socratic_rl.stages import counts
from socratic_rl.storage import Row, looks_local, read_rows, write_jsonl

Limit = Annotated[int, Field(ge=1)] | None

LEAKED = "its prompt is in the test split too"


class HubPairs(Component):
    """Preference pairs of a file, a folder, a ``save_to_disk`` folder or a hub id, in one of TRL's forms.

    Text and lists of messages may be mixed; the prompt may be a column of its own or stand at the beginning of chosen
    and rejected. Text becomes the message of a user or an assistant, since it is the chat template that tells a model
    where a turn ends: trained without it, a tutor would not know when to stop. System messages are kept.
    """

    key: ClassVar[str] = "dataset"
    """The config key that it stands under, for what is told of its mistakes."""

    path: str
    subset: str | None
    revision: str | None
    encoding: Encoding
    train_split: str
    test_split: str | None
    prompt: str | None
    """The column of the prompt; None where it stands at the beginning of chosen and rejected."""
    chosen: str
    rejected: str
    limit: Limit
    validation_limit: Limit
    test_limit: Limit
    validation: Share
    test: Share
    """The share of rows held back where there is no test split."""
    max_flawed: Annotated[float, Field(ge=0, le=1)]
    """The share of rows that may be unusable."""

    def mistakes(self) -> list[str]:
        """A path that does not exist, splits of a file, shares that leave nothing to train on."""
        path = Path(self.path).expanduser()
        found = []
        if looks_local(self.path) and not path.exists():
            found.append(f"path: {self.path}: no such file or folder")
        if path.is_file() and self.test_split:
            found.append(
                f"test_split: {self.path} is one file, which has no splits; null takes the test rows from its rows, "
                "and a folder with train.jsonl and test.jsonl has both"
            )
        if self.validation + (0 if self.test_split else self.test) >= 1:
            found.append("validation: leaves nothing to train on; validation and test must be less than 1 together")
        return found

    def prepare(
        self,
        folder: Path,
        rejection: Rejection | None,  # noqa: ARG002
        generator: Generator | None,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Prepared:
        """Write ``pairs.jsonl`` into a folder, and ``flawed_rows.jsonl`` where rows cannot be used.

        Raises:
            UserError: The data set cannot be had or has not these columns, or too many rows cannot be used.
        """
        path = own_file(folder)
        pairs, flawed = self.read()
        write_jsonl(path, (pair.to_record() for pair in pairs))
        told = {
            "pairs read": f"{len(pairs)} with {len({pair.conversation_id for pair in pairs})} different prompts",
            **name_flawed(flawed, folder / "flawed_rows.jsonl"),
            "split": counts(pair.split for pair in pairs),
        }
        return Prepared(SocraticPairs(path=str(path)), told)

    def read(self) -> tuple[list[PreferencePair], list[Flawed]]:
        """The pairs, those of the training split first, and the rows that cannot be used.

        A row's side is its split's; a share of the training rows, by a hash of their prompts, is held back for
        validation, and where there is no test split another for testing. What opens with the same user message is on
        the same side.

        Raises:
            UserError: The data set cannot be had or has not these columns, or too many rows cannot be used.
        """
        flawed: list[Flawed] = []
        counter = itertools.count()
        sides: dict[Split, list[PreferencePair]] = {"train": [], "validation": [], "test": []}
        if self.test_split:
            sides["test"] = [self._pair(form, "test") for form in self._usable(self.test_split, flawed, counter)]
        tested = {pair.problem_id for pair in sides["test"]}
        test = 0 if self.test_split else self.test
        limits = {"train": self.limit, "validation": self.validation_limit, "test": self.test_limit}
        # the sides that the training split gives rows to
        shares: dict[Split, float] = {"train": 1, "validation": self.validation, "test": test}
        wanted = {side for side, share in shares.items() if share}
        for form in self._usable(self.train_split, flawed, counter):
            if form.problem_id in tested:
                flawed.append(Flawed(form.where, LEAKED))
                continue
            side = split_of(form.problem_id, self.validation, test)
            if side not in wanted:
                continue
            sides[side].append(self._pair(form, side))
            if len(sides[side]) == limits[side]:
                wanted.remove(side)
                if not wanted:
                    break
        self._check_share([row for row in flawed if row.why != LEAKED], next(counter))
        sides["test"] = sides["test"][: self.test_limit]
        return [pair for side in sides.values() for pair in side], flawed

    def _check_share(self, unusable: Sequence[Flawed], read: int) -> None:
        if len(unusable) > self.max_flawed * read:
            named = "; ".join(f"{row.where}: {row.why}" for row in unusable[:3])
            raise UserError(
                f"{self.key}.max_flawed: {len(unusable)} of {read} rows cannot be used, more than the share of "
                f"{self.max_flawed:g} that may be: {named}"
            )

    def _pair(self, form: "_Form", split: Split) -> PreferencePair:
        return PreferencePair(
            prompt=form.prompt,
            chosen=form.chosen,
            rejected=form.rejected,
            conversation_id=text_id(*(message["content"] for message in form.prompt)),
            problem_id=form.problem_id,
            turn=sum(message["role"] == "assistant" for message in form.prompt),
            rejection="given",
            split=split,
        )

    def _usable(self, split: str, flawed: list[Flawed], counter: Iterator[int]) -> Iterator["_Form"]:
        """The rows of a split as messages; those that cannot be used go into ``flawed``, all are counted."""
        for number, (where, row) in enumerate(self._rows(split)):
            if not number:
                self._check_columns(where, row)
            next(counter)
            columns = (self.prompt, self.chosen, self.rejected)
            try:
                prompt, chosen, rejected = to_messages(*(row.get(name) if name else None for name in columns))
            except UnusableError as error:
                flawed.append(Flawed(where, str(error)))
                continue
            yield _Form(where, prompt, chosen, rejected)

    def _check_columns(self, where: str, row: Mapping[str, Any]) -> None:
        keys = {"chosen": self.chosen, "rejected": self.rejected}
        if self.prompt and self.prompt != "prompt":
            # a set without the usual column has its prompts at the beginning of the other two
            keys["prompt"] = self.prompt
        for key, name in keys.items():
            if name not in row:
                raise UserError(
                    f"{self.key}.{key}: {where}: no column {name!r}; the columns are {', '.join(row)}; say which is "
                    f"which by {self.key}.prompt (null where chosen and rejected begin with it), {self.key}.chosen, "
                    f"{self.key}.rejected"
                )

    def _rows(self, split: str) -> Iterator[Row]:
        if Path(self.path).expanduser().is_file():
            try:
                yield from read_rows(self.path, encoding=self.encoding)
            except UserError as error:
                raise UserError(f"{self.key}.path: {error}") from error
            return
        rows = self._load(split)
        if not len(rows):
            raise UserError(f"{self.key}.path: {self.path}[{split}]: has no rows")
        yield from ((f"{self.path}[{split}]:row {number}", dict(row)) for number, row in enumerate(rows, 1))

    def _load(self, split: str) -> Any:
        """A split of a folder or of a hub data set."""
        import datasets
        import huggingface_hub

        # their warnings on every retry would bury the one line below
        huggingface_hub.utils.logging.set_verbosity(logging.ERROR)
        datasets.logging.set_verbosity_error()
        path = Path(self.path).expanduser()
        try:
            if not any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
                source = str(path) if path.is_dir() else self.path
                return datasets.load_dataset(source, self.subset, split=split, revision=self.revision)
            saved = datasets.load_from_disk(str(path))
        except (
            ValueError,
            OSError,
            RuntimeError,
            datasets.exceptions.DatasetsError,
            huggingface_hub.errors.HfHubHTTPError,
        ) as error:
            told = " ".join(str(error).split())
            what = "cannot be read" if path.is_dir() else "neither a local file nor a hub data set that can be reached"
            hint = "" if path.is_dir() else "; a file, a folder or what save_to_disk left will do as well"
            raise UserError(f"{self.key}.path: {self.path}[{split}]: {what} ({told[:300]}){hint}") from error
        if not isinstance(saved, datasets.DatasetDict):
            saved = {"train": saved}
        if split not in saved:
            raise UserError(f"{self.key}.path: {self.path} has no split {split!r}; its splits are {', '.join(saved)}")
        return saved[split]


class _Form(NamedTuple):
    """A row as messages."""

    where: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]

    @property
    def problem_id(self) -> str:
        """The same for all rows that open with the same user message, so that a growing dialogue is on one side."""
        return text_id(next(message["content"] for message in self.prompt if message["role"] == "user"))


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
    given = [] if prompt is None else _prompt(_read(prompt, "the prompt"))
    if not given and all(isinstance(side, str) for side in sides):
        sides = _split_texts(*map(str, sides))
    chosen, rejected = (_list(side, "assistant") for side in sides)
    whole = [side[0]["role"] != "assistant" for side in (chosen, rejected)]
    if whole[0] != whole[1]:
        raise UnusableError("chosen and rejected begin with different speakers")
    if whole[0]:
        own = _shared(chosen, rejected)
        chosen, rejected = chosen[len(own) :], rejected[len(own) :]
        given = _fuller(given, own)
    if not given:
        raise UnusableError("no prompt, neither of its own nor at the beginning of chosen and rejected")
    _check(given, chosen, rejected)
    return given, chosen, rejected


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
    said = zip(pieces[::2], pieces[1::2], strict=True)
    return _messages([{"role": roles[who], "content": words.strip()} for who, words in said], name)


def _shared(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The messages that two whole dialogues begin with, up to where the assistant speaks differently."""
    length = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(chosen[:-1], rejected[:-1], strict=False)))
    while length and not chosen[length]["role"] == rejected[length]["role"] == "assistant":
        length -= 1
    if not length:
        raise UnusableError("chosen and rejected do not begin with the same prompt")
    return chosen[:length]


def _fuller(given: list[Message], own: list[Message]) -> list[Message]:
    """The prompt of a row that has it twice: in its own column, and at the beginning of chosen and rejected."""
    texts = [message["content"].strip() for message in own]
    if not given or [message["content"].strip() for message in given] == texts[-len(given) :]:
        return own
    if [message["content"].strip() for message in given[-len(own) :]] == texts:
        return given
    if len(given) == 1 and given[0]["content"].strip() in texts:
        return own
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
    if chosen == rejected:
        raise UnusableError("chosen and rejected are the same")
