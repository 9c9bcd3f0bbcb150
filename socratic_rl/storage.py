"""Reading what users bring and writing what the stages leave: JSONL, CSV, JSON, Parquet and hub data sets."""

import contextlib
import csv
import json
import logging
import os
import shutil
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from pydantic import ValidationError

from socratic_rl.dialogue import PreferencePair, Problem, Record
from socratic_rl.errors import UserError, reason

Row = tuple[str, dict[str, Any]]
"""Where a row stands (``file:line`` or ``hub id[split]:row``) and the row."""

R = TypeVar("R", bound=Record)

LOCKED = 10.0
"""Seconds for which a record waits while another process writes."""


def looks_local(source: str) -> bool:
    """Whether the source can only be a file: written as a path, or with the ending of one."""
    written_as_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    return written_as_path or Path(source).suffix.lower() in {".jsonl", ".json", ".csv", ".parquet"}


def read_rows(
    source: str,
    split: str = "train",
    encoding: str = "utf-8",
    columns: Iterable[str] = (),
    subset: str | None = None,
) -> Iterator[Row]:
    """Rows of a local file (.jsonl, .json, .csv, .parquet) or of a hub data set.

    Args:
        source: A path or a hub id (``owner/name``).
        split: The split of a hub data set; a local file has none.
        encoding: Of text files.
        columns: Columns that every row must have.
        subset: The subset of a hub data set; a local file has none.

    Raises:
        UserError: The file is missing, empty or unreadable, or a column is missing; names the file and the line.
    """
    path = Path(source).expanduser()
    found = False
    for where, row in _read_file(path, encoding) if path.exists() else _read_hub(source, split, subset):
        if missing := [column for column in columns if column not in row]:
            raise UserError(
                f"{where}: no column {', '.join(map(repr, missing))}; the columns are {', '.join(map(repr, row))}"
            )
        if empty := [column for column in columns if row[column] is None]:
            raise UserError(f"{where}: nothing in column {', '.join(map(repr, empty))}")
        found = True
        yield where, row
    if not found:
        raise _is_empty(source)


def _read_file(path: Path, encoding: str) -> Iterator[Row]:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give one of the files in it")
    match path.suffix.lower():
        case ".jsonl":
            yield from _read_jsonl(path, encoding)
        case ".csv":
            yield from _read_csv(path, encoding)
        case ".json":
            yield from _read_json(path, encoding)
        case ".parquet":
            yield from _read_parquet(path)
        case suffix:
            raise UserError(f"{path}: do not know how to read {suffix!r}; use .jsonl, .json, .csv or .parquet")


def _read_hub(source: str, split: str, subset: str | None) -> Iterator[Row]:
    if looks_local(source):
        raise UserError(f"{source}: no such file")
    import datasets
    import huggingface_hub

    # its warnings on every retry would bury the one line below
    huggingface_hub.utils.logging.set_verbosity(logging.ERROR)
    try:
        rows = datasets.load_dataset(source, subset, split=split, streaming=True)
        yield from ((f"{source}[{split}]:row {number}", dict(row)) for number, row in enumerate(rows, 1))
    except (ValueError, OSError, RuntimeError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise UserError(
            f"{source}: neither a local file nor a hub data set that can be reached ({str(error).splitlines()[0]})"
        ) from error


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 and encoding == "utf-8" else encoding)
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: not {encoding} (byte 0x{line[error.start]:02x}); "
                    "save the file as UTF-8 or give its encoding, e.g. encoding=latin-1"
                ) from error


def _read_jsonl(path: Path, encoding: str) -> Iterator[Row]:
    for number, line in _lines(path, encoding):
        if line.strip():
            yield f"{path}:{number}", _parse(f"{path}:{number}", line)


def _read_json(path: Path, encoding: str) -> Iterator[Row]:
    """A list of objects; a file that does not begin like one is read by lines."""
    text = "".join(line for _, line in _lines(path, encoding))
    if not text.lstrip().startswith("["):
        yield from _read_jsonl(path, encoding)
        return
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg} at character {error.colno})") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}:row {number}: a JSON object is needed, not {type(row).__name__}")
        yield f"{path}:row {number}", row


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            yield from ((f"{path}:row {number}", row) for number, row in enumerate(rows, 1))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error


def _parse(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at character {error.pos + 1})") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object is needed, not {type(row).__name__}")
    return row


def _read_csv(path: Path, encoding: str) -> Iterator[Row]:
    rows = csv_fields(path, encoding)
    _, names = next(rows, (0, []))
    for line, fields in rows:
        if len(fields) > len(names):
            raise UserError(f"{path}:{line}: more fields than the {len(names)} columns")
        yield f"{path}:{line}", dict(zip_longest(names, fields))


def csv_fields(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row of a CSV file, the column names first, with the number of the row's first line."""
    reader = csv.reader(line for _, line in _lines(path, encoding))
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}:{line}: not CSV ({error}); is a quotation mark open or a double one not doubled?"
        ) from error


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
    found = False
    for number, line in _lines(path, "utf-8"):
        if not line.isspace():
            found = True
            yield _parse_line(kind, f"{path}:{number}", line)
    if not found:
        raise _is_empty(path)


def _is_empty(source: object) -> UserError:
    return UserError(f"{source}: the file is empty; at least one row is needed")


def _parse_line(kind: type[R], where: str, line: str) -> R:
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        # slower, and tells what is wrong
        return parse_record(kind, where, _parse(where, line))


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
        self._places = array("Q")
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        place = 0
        with path.open("rb") as file:
            for line in file:
                if not line.isspace():
                    self._places.append(place)
                place += len(line)
        if not self._places:
            raise _is_empty(path)

    @cached_property
    def _file(self) -> BinaryIO:
        return self.path.open("rb")

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[R]:
        return read_records(self.kind, self.path)

    def __getitem__(self, number: int) -> R:  # type: ignore[override]
        return _parse_line(self.kind, f"{self.path}:row {number + 1}", self.line(number).decode())

    def line(self, number: int) -> bytes:
        """The record as it stands in the file."""
        return _line_at(self._file, self._places[number])


class Index:
    """Whole numbers by key, in a temporary file of SQLite's own: memory does not grow with it."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        # kilobytes; what is more is on disk
        self._rows.execute("PRAGMA cache_size = -32000")
        self._rows.execute("CREATE TABLE numbers (key TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")

    def __setitem__(self, key: object, number: int) -> None:
        self._rows.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (str(key), number))

    def get(self, key: object) -> int | None:
        """The number of a key; None where there is none."""
        found = self._rows.execute("SELECT number FROM numbers WHERE key = ?", (str(key),)).fetchone()
        return found[0] if found else None

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


class StageFile:
    """A JSONL file that a stage fills one finished record at a time, and goes on with after a kill.

    Records are appended to ``<path>.partial`` as they are finished, in any order. ``finish`` puts them in order and
    gives the file its name, so a file under its own name is always whole.

    Args:
        path: The file to make.
        key: What tells a record apart from the others.
    """

    def __init__(self, path: Path, key: Callable[[dict[str, Any]], Any]) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.key = key
        self._done = self._places()

    def _places(self) -> Index:
        """Where each record begins; what a killed process left of the record that it was writing is cut off."""
        places = Index()
        if not self.partial.exists():
            return places
        with self.partial.open("rb+") as file:
            end = 0
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    file.truncate(end)
                    break
                places[self.key(_parse(f"{self.partial}:{number}", line.decode()))] = end
                end += len(line)
        return places

    def __contains__(self, key: Any) -> bool:
        """Whether the record was finished by an earlier run."""
        return key in self._done

    def __len__(self) -> int:
        """How many records an earlier run finished."""
        return len(self._done)

    def kept(self, kind: type[R]) -> Iterator[R]:
        """The records that an earlier run finished."""
        if self.partial.exists():
            with self.partial.open("rb") as file:
                for number, line in enumerate(file, 1):
                    yield _parse_line(kind, f"{self.partial}:{number}", line.decode())

    @property
    def finished(self) -> bool:
        """Whether the stage ended before."""
        return self.path.exists()

    @cached_property
    def _file(self) -> BinaryIO:
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        return self.partial.open("ab", buffering=0)

    def append(self, record: Record) -> None:
        """Write one finished record; it survives a kill from here on."""
        self._file.write(f"{dump(record.to_record())}\n".encode())

    def finish(self, order: Iterable[Any] | None = None) -> None:
        """Give the file its own name, with the records in the order of their keys, or as they were appended."""
        self._file.close()
        if order is None:
            self.partial.replace(self.path)
            return
        places = self._places()
        with self.partial.open("rb") as file:
            write_lines(self.path, (_line_at(file, place) for place in places.of(order)))
        self.partial.unlink()


class Journal(Generic[R]):
    """A JSONL file that grows one record at a time and is kept for good, whatever ends the process.

    Several processes may add to one file. What a killed one left of the record that it was writing is not read, and
    gives way to the next record.

    Args:
        kind: The kind of the records.
        path: The file; it is made with the first record.
        key: What tells a record apart from the others; None keeps them all.

    Raises:
        UserError: A record cannot be read; names the file and the line.
    """

    def __init__(self, kind: type[R], path: Path, key: Callable[[R], Any] | None = None) -> None:
        self.kind = kind
        self.path = path
        self.key = key
        self._forget()
        self.refresh()

    def _forget(self) -> None:
        self.records: list[R] = []
        self._keys: set[Any] = set()
        self._inode: int | None = None
        self._end = 0
        """How far the file was read, in bytes."""
        self._lines = 0
        self._open = False
        """Whether the last record stands without the end of its line, as an editor may leave it."""

    def __contains__(self, key: Any) -> bool:
        """Whether a record with that key was read."""
        return key in self._keys

    def refresh(self) -> None:
        """Read what was added since, by whichever process; all of it where the file is another one."""
        if not self.path.exists():
            self._forget()
            return
        with self.path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._end:
                self._forget()
                self._inode = found.st_ino
            file.seek(self._end)
            for line in file:
                if _is_half(line):
                    return
                if not line.isspace():
                    record = _parse_line(self.kind, f"{self.path}:{self._lines + 1}", line.decode())
                    self.records.append(record)
                    if self.key:
                        self._keys.add(self.key(record))
                self._end += len(line)
                self._open = not line.endswith(b"\n")
                self._lines += not self._open

    def append(self, record: R) -> None:
        """Write a record, unless one with its key is there; when this returns it survives a kill and a loss of power.

        Raises:
            OSError: It could not be written; the records before it stand.
        """
        # it takes a while to import, and only a vote needs it
        import filelock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # the system lets go of it when the process ends, however it ends
        with filelock.FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=LOCKED):
            self.refresh()
            if self.key and self.key(record) in self:
                return
            with self.path.open("ab") as file:
                # nobody else writes now, so what stands there is half a record
                file.truncate(self._end)
                try:
                    file.write(("\n" * self._open + f"{dump(record.to_record())}\n").encode())
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, self._end)
                    raise
            self.refresh()


def _is_half(line: bytes) -> bool:
    """Whether a file's last line is what a kill left of a record: no part of a JSON object is itself JSON."""
    if line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _line_at(file: BinaryIO, place: int) -> bytes:
    file.seek(place)
    return file.readline()


dump = json.JSONEncoder(ensure_ascii=False).encode
"""One JSON line of a row."""


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to a file that appears only when it is whole; returns how many there were."""
    count = 0
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(dump(row) + "\n")
            count += 1
    return count


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Write lines as they are to a file that appears only when it is whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.writelines(lines)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` that takes its name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def write_csv(path: Path, pairs: Iterable[PreferencePair]) -> None:
    """The pairs as the three-column CSV ``Prompt``, ``Bad answer``, ``Good answer``, transcripts with labels."""
    from socratic_rl.dialogue import from_messages, render_transcript

    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Prompt", "Bad answer", "Good answer"])
        for pair in pairs:
            rows.writerow(
                render_transcript(from_messages(part)) + "\n" for part in (pair.prompt, pair.rejected, pair.chosen)
            )
