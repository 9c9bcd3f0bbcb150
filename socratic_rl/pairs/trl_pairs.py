"""Any preference data set in TRL's standard or conversational form, from files or from the hub."""

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from socratic_rl.conversations.problems import Encoding
from socratic_rl.core.component import Count, Real
from socratic_rl.core.dialogue import Message, PreferencePair, teacher_turns, text_id
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.generator import Generator
from socratic_rl.core.rows import check_share, likely, looks_local, read_any_rows, with_names
from socratic_rl.core.text_files import AnyRow
from socratic_rl.pairs.audit import audit_rows, no_remedy
from socratic_rl.pairs.cases import Rejection
from socratic_rl.pairs.dataset import (
    DataSet,
    Flawed,
    Prepared,
    SocraticPairs,
    UnusableError,
    counts,
    name_flawed,
    own_file,
)
from socratic_rl.pairs.pairing import Share, Split, split_of
from socratic_rl.pairs.trl_forms import Columns, NoPromptError, has_prompt, picks_side, read_columns, row_messages

Limit = Count | None


logger = logging.getLogger(__name__)


PROMPTS = ("question", "instruction", "query", "problem", "post", "input", "context", "text")
"""What the column of a prompt is mostly called in public data sets, for advice."""


LEAKED = "its prompt is in the test split too"


REPEATED = "an earlier row again, but for white space"


class TrlPairs(DataSet):
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
    max_flawed: Annotated[Real, Field(ge=0, le=1)]
    """The share of rows that may be unusable."""

    def mistakes(self) -> list[str]:
        """A path that does not exist, splits of a file, shares that leave nothing to train on."""
        path = Path(self.path).expanduser()
        mistakes = []
        if looks_local(self.path) and not path.exists():
            mistakes.append(f"path: {self.path}: no such file or folder")
        if path.is_file() and self.test_split:
            mistakes.append(
                f"test_split: {self.path} is one file, which has no splits; null takes the test rows from its rows, "
                "and a folder with train.jsonl and test.jsonl has both"
            )
        if self.validation + (0 if self.test_split else self.test) >= 1:
            mistakes.append("validation: leaves nothing to train on; validation and test must be less than 1 together")
        return mistakes

    def prepare(
        self,
        folder: Path,
        rejection: Rejection | None,  # noqa: ARG002
        generator: Generator | None,  # noqa: ARG002
        seed: int,
    ) -> Prepared:
        """Write ``pairs.jsonl`` into a folder, and ``flawed_rows.jsonl`` where rows cannot be used.

        Raises:
            UserError: The data set cannot be had or has not these columns, or too many rows cannot be used.
        """
        path = own_file(folder)
        pairs, flawed = self.read()
        write_jsonl(path, (pair.to_record() for pair in pairs))
        facts = {
            "pairs read": f"{len(pairs)} with {len({pair.conversation_id for pair in pairs})} different prompts",
            **name_flawed(flawed, folder / "flawed_rows.jsonl"),
            "split": counts(pair.split for pair in pairs),
            **audit_rows(pairs, seed, no_remedy)[0],
        }
        return Prepared(SocraticPairs(path=str(path)), facts)

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
        unusable = [(row.where, row.why) for row in flawed if row.why not in (LEAKED, REPEATED)]
        check_share(f"{self.key}.max_flawed", self.max_flawed, len(unusable), next(counter), unusable)
        sides["test"] = sides["test"][: self.test_limit]
        return [pair for side in sides.values() for pair in side], flawed

    def _pair(self, form: "_Form", split: Split) -> PreferencePair:
        return PreferencePair(
            prompt=form.prompt,
            chosen=form.chosen,
            rejected=form.rejected,
            conversation_id=text_id(*(message["content"] for message in form.prompt)),
            problem_id=form.problem_id,
            turn=teacher_turns(form.prompt),
            rejection="given",
            split=split,
            labels=form.labels or None,
        )

    def _usable(self, split: str, flawed: list[Flawed], counter: Iterator[int]) -> Iterator["_Form"]:
        """The rows of a split as messages; those that cannot be used go into ``flawed``, all are counted."""
        earlier: set[int] = set()
        columns = Columns(self.prompt, self.chosen, self.rejected)
        unread = dict.fromkeys(columns)
        shapes: set[tuple[str, ...]] = set()
        for where, row in self._rows(split):
            next(counter)
            try:
                row = _readable(where, row, columns)
                if (shape := tuple(row)) not in shapes:
                    self._check_columns(where, row, columns, is_first=not shapes)
                    self._name_unread(row, columns, unread)
                    shapes.add(shape)
                form = _Form(where, *row_messages(row, columns), _labels(row))
            except NoPromptError as error:
                flawed.append(Flawed(where, f"{error}; the columns are {', '.join(row)}; {self._which(row, columns)}"))
                continue
            except UnusableError as error:
                flawed.append(Flawed(where, str(error)))
                continue
            if form.key in earlier:
                flawed.append(Flawed(where, REPEATED))
                continue
            earlier.add(form.key)
            yield form

    def _check_columns(self, where: str, row: Mapping[str, Any], columns: Columns, is_first: bool) -> None:
        """``UserError`` where the first row lacks a column that is needed."""
        key = next((key for key in ("chosen", "rejected") if getattr(columns, key) not in row), None)
        which = f"{self.key}.prompt, {self.key}.chosen and {self.key}.rejected say which is which"
        if key is None and columns.prompt not in row and not has_prompt(row, columns):
            key, which = "prompt", self._which(row, columns)
        if key and is_first:
            raise UserError(
                f"{self.key}.{key}: {where}: no column {getattr(columns, key)!r}; the columns are {', '.join(row)}; "
                f"{which}"
            )

        if (columns.chosen, columns.rejected) != ("chosen", "rejected") and (tell := picks_side(row)):
            raise UserError(
                f"{self.key}.chosen: {where}: the column {tell!r} says for each row which of its replies is better, so "
                f"{columns.chosen!r} is not always the chosen one; write the better reply of each row into one column"
            )

    def _which(self, row: Iterable[str], columns: Columns) -> str:
        usual = likely((name for name in row if name not in columns), PROMPTS)
        return f"{self.key}.prompt={usual} says which it is, null that chosen and rejected begin with it"

    def _name_unread(self, row: Mapping[str, Any], columns: Columns, unread: dict[str | None, None]) -> None:
        """Log which columns are not read, each once."""
        if not has_prompt(row, columns):
            return
        read = read_columns(row, columns)
        labels = {name for name in row if _SIDE_COLUMN.fullmatch(name.replace("rejected", "chosen"))}
        new = [name for name in row if name and name not in unread and name not in read and name not in labels]
        if new:
            logger.warning("%s: columns that are not read: %s", self.path, ", ".join(new))
        unread |= dict.fromkeys(new)

    def _rows(self, split: str) -> Iterator[AnyRow]:
        path = Path(self.path).expanduser()
        if path.exists() and not path.is_dir():
            try:
                yield from read_any_rows(self.path, encoding=self.encoding, encoding_key=f"{self.key}.encoding")
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
            if path.is_dir() and (fault := _first_fault(path)):
                raise UserError(f"{self.key}.path: {fault}") from error
            reason = " ".join(str(error.__cause__ or error).split())
            what = "cannot be read" if path.is_dir() else "neither a local file nor a hub data set that can be reached"
            hint = "" if path.is_dir() else "; a file, a folder or what save_to_disk left will do as well"
            raise UserError(f"{self.key}.path: {self.path}[{split}]: {what} ({reason[:300]}){hint}") from error
        if not isinstance(saved, datasets.DatasetDict):
            saved = {"train": saved}
        if split not in saved:
            raise UserError(f"{self.key}.path: {self.path} has no split {split!r}; its splits are {', '.join(saved)}")
        return saved[split]


def _first_fault(folder: Path) -> str | None:
    """The place of the first row in a folder's files that cannot be read, and why; None where each can be read."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and looks_local(path.name)):
        try:
            for where, row in read_any_rows(str(file)):
                if isinstance(row, str):
                    return f"{where}: {row}"
        except UserError as error:
            return str(error)
    return None


def _readable(where: str, row: dict[str, Any] | str, columns: Columns) -> dict[str, Any]:
    if isinstance(row, str):
        raise UnusableError(row)
    return with_names(where, row, filter(None, columns))


class _Form(NamedTuple):
    """A row as messages."""

    where: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    labels: dict[str, tuple[str, str]]

    @property
    def key(self) -> int:
        """The same for rows that differ in white space alone."""
        texts = ([m["role"], " ".join(m["content"].split())] for m in (*self.prompt, *self.chosen, *self.rejected))
        return int(hashlib.sha256(json.dumps([*texts]).encode()).hexdigest()[:16], 16)

    @property
    def problem_id(self) -> str:
        """The same for all rows that open with the same user message, so that a growing dialogue is on one side."""
        return text_id(next(message["content"] for message in self.prompt if message["role"] == "user"))


_SIDE_COLUMN = re.compile(r"chosen[_\W]+(?P<label>\w.*)|(?P<other>.*\w)[_\W]+chosen")


def _labels(row: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What columns such as ``chosen_author`` and ``rejected_author`` say of both sides."""
    labels = {}
    for name in row:
        match = _SIDE_COLUMN.fullmatch(name)
        other = name.replace("chosen", "rejected")
        if match and isinstance(row[name], str) and isinstance(row.get(other), str):
            labels[match["label"] or match["other"]] = (row[name], row[other])
    return labels
