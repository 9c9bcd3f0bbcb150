"""Our own JSONL files: read by number or by id, and written so that a run that was killed goes on."""

import errno
import json
import os
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from pydantic import ValidationError

from socratic_rl.core.dialogue import Problem, Record
from socratic_rl.core.errors import UserError, reason
from socratic_rl.core.files import dump, write_lines
from socratic_rl.core.rows import empty_file, read_rows
from socratic_rl.core.text_files import json_object, text_lines

R = TypeVar("R", bound=Record)


LOCKED = 10.0
"""Seconds for which a record waits while another process writes."""

SYNCED = 5.0
"""Seconds after which a stage's file is synced to the disk with the next record."""


def parse_record(kind: type[R], where: str, row: Mapping[str, Any]) -> R:
    """The row as a record of that kind; ``UserError`` names ``where`` and the key."""
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        raise UserError(f"{where}: not a {kind.__name__}: {reason(error)}") from error


def read_records(kind: type[R], path: str | Path) -> Iterator[R]:
    """The records of a JSONL file that a stage left."""
    path = Path(path)
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        for where, row in read_rows(str(path)):
            yield parse_record(kind, where, row)
        return
    is_empty = True
    for number, line in text_lines(path, "utf-8"):
        if not line.isspace():
            is_empty = False
            yield _parse_line(kind, f"{path}:{number}", line)
    if is_empty:
        raise empty_file(path)


def _parse_line(kind: type[R], where: str, line: str) -> R:
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        # slower, and tells what is wrong
        return parse_record(kind, where, json_object(where, line))


class RecordFile(Sequence[R]):
    """The records of a JSONL file as a sequence: read when they are asked for, 8 bytes of memory each.

    Args:
        kind: The kind of the records.
        path: The file; it must not change while it is in use.

    Raises:
        UserError: The file is missing or empty; later, a record cannot be read (names the file and where).
    """

    def __init__(self, kind: type[R], path: Path) -> None:
        self.kind = kind
        self.path = path
        self._offsets = array("Q")
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        offset = 0
        with path.open("rb") as file:
            for line in file:
                if not line.isspace():
                    self._offsets.append(offset)
                offset += len(line)
        if not self._offsets:
            raise empty_file(path)

    @cached_property
    def _file(self) -> BinaryIO:
        return self.path.open("rb")

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[R]:
        return read_records(self.kind, self.path)

    def __getitem__(self, number: int) -> R:  # type: ignore[override]
        return _parse_line(self.kind, f"{self.path}:row {number + 1}", self.line(number).decode())

    def line(self, number: int) -> bytes:
        """The record as it stands in the file."""
        return _line_at(self._file, self._offsets[number])


class Index:
    """Whole numbers by key, in a temporary file of SQLite's own: memory does not grow with it."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", check_same_thread=False)
        # kilobytes; what is more is on disk
        self._rows.execute("PRAGMA cache_size = -32000")
        self._rows.execute("CREATE TABLE numbers (key TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")

    def __setitem__(self, key: object, number: int) -> None:
        self._rows.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (str(key), number))

    def get(self, key: object) -> int | None:
        """The number of a key; None where there is none."""
        row = self._rows.execute("SELECT number FROM numbers WHERE key = ?", (str(key),)).fetchone()
        return row[0] if row else None

    def of(self, keys: Iterable[object]) -> Iterator[int]:
        """The numbers of those keys that have one."""
        return (number for number in map(self.get, keys) if number is not None)

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        return self._rows.execute("SELECT count(*) FROM numbers").fetchone()[0]  # type: ignore[no-any-return]


class ById(Mapping[str, Problem]):
    """The problems of a file by their ids, found through an index."""

    def __init__(self, records: RecordFile[Problem]) -> None:
        self._records = records
        self._numbers = Index()
        for number, record in enumerate(records):
            self._numbers[record.id] = number
        self._last: Problem | None = None

    def __getitem__(self, key: str) -> Problem:
        # the turns of a conversation ask for the same one after the other
        if self._last is None or self._last.id != key:
            number = self._numbers.get(key)
            if number is None:
                raise KeyError(key)
            self._last = self._records[number]
        return self._last

    def __iter__(self) -> Iterator[str]:
        return (record.id for record in self._records)

    def __len__(self) -> int:
        return len(self._records)


class RecordWriter(Generic[R]):
    """A JSONL file that grows by one finished record at a time, whatever ends the process.

    What a killed process left of the record that it was writing is not read, and gives way to the next record.

    A file that a stage fills is ``<path>.partial`` until ``finish`` gives it its name, so a file under its own name is
    always whole. A shared one grows under its own name for good, and several processes may add to it.

    Args:
        kind: The kind of the records.
        path: The file to make.
        key: What tells a record apart from the others.
        shared: Whether other processes write to it too.

    Raises:
        UserError: A record cannot be read; names the file and the line.
    """

    def __init__(self, kind: type[R], path: Path, key: Callable[[R], Any], *, shared: bool = False) -> None:
        self.kind = kind
        self.path = path
        self.key = key
        self.shared = shared
        self.growing = path if shared else path.with_name(path.name + ".partial")
        """Where the records stand until the file is finished."""
        self._forget()
        self.refresh()

    def _forget(self) -> None:
        self._offsets = Index()
        """Where each record begins, by its key."""
        self._inode: int | None = None
        self._end = 0
        """How far the file was read, in bytes."""
        self._lines = 0
        self._open = False
        """Whether the last record stands without the end of its line, as an editor may leave it."""
        self._synced = 0.0
        """When the file was last synced to the disk, on the monotonic clock."""

    def __contains__(self, key: Any) -> bool:
        """Whether a record with that key was read or appended."""
        return key in self._offsets

    def __len__(self) -> int:
        """How many records were read or appended."""
        return len(self._offsets)

    @property
    def finished(self) -> bool:
        """Whether an earlier run finished the file."""
        return self.path.exists() and not self.shared

    def records(self) -> Iterator[R]:
        """The records that were read or appended, in the order of the file."""
        if not self._end:
            return
        with self.growing.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield self._parse(number, line)
                if file.tell() >= self._end:
                    return

    def refresh(self) -> None:
        """Read what was added since, by whichever process; all of it where the file is another one."""
        if not self.growing.exists():
            self._forget()
            return
        with self.growing.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._end:
                self._forget()
                self._inode = status.st_ino
            file.seek(self._end)
            for line in file:
                # an editor may have left a shared file without its last line's end; a stage always writes it
                if _is_half(line) or not (self.shared or line.endswith(b"\n")):
                    return
                if not line.isspace():
                    self._offsets[self.key(self._parse(self._lines + 1, line))] = self._end
                self._end += len(line)
                self._open = not line.endswith(b"\n")
                self._lines += not self._open

    def _parse(self, number: int, line: bytes) -> R:
        return _parse_line(self.kind, f"{self.growing}:{number}", line.decode())

    def append(self, record: R) -> None:
        """Write a record, unless a shared file has one with its key.

        When this returns the record survives a kill; in a shared file a loss of power too, in another one after at
        most ``SYNCED`` seconds.

        Raises:
            OSError: It could not be written; the records before it stand.
        """
        if not self.shared:
            self._write(self._file, record)
            return
        # it takes a while to import, and only a vote needs it
        import filelock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # the system lets go of it when the process ends, however it ends
        with filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=LOCKED):
            self.refresh()
            if self.key(record) not in self:
                with self._to_append() as file:
                    self._write(file, record)

    def _to_append(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.growing.open("ab", buffering=0)

    @cached_property
    def _file(self) -> BinaryIO:
        return self._to_append()

    def _write(self, file: BinaryIO, record: R) -> None:
        line = ("\n" * self._open + f"{dump(record.to_record())}\n").encode()
        try:
            # nobody else writes now, so what stands there is half a record
            file.truncate(self._end)
            _write_all(file, line)
            if self.shared or time.monotonic() > self._synced + SYNCED:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        except OSError:
            os.truncate(self.growing, self._end)
            raise
        self._inode = os.fstat(file.fileno()).st_ino
        self._offsets[self.key(record)] = self._end + self._open
        self._end += len(line)
        self._lines += 1 + self._open
        self._open = False

    def finish(self, order: Iterable[Any] | None = None) -> None:
        """Give the file its own name, with the records in the order of their keys, or as they were appended."""
        with self._file as file:
            os.fsync(file.fileno())
        if order is None:
            self.growing.replace(self.path)
            return
        with self.growing.open("rb") as file:
            write_lines(self.path, (_line_at(file, offset) for offset in self._offsets.of(order)))
        self.growing.unlink()


def _write_all(file: BinaryIO, line: bytes) -> None:
    # an unbuffered file may take a part of a line, as the last block of a full disk
    if file.write(line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _is_half(line: bytes) -> bool:
    """Whether a file's last line is what a kill left of a record: no part of a JSON object is itself JSON."""
    if line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _line_at(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.readline()
