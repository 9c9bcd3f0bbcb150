"""Reading what users bring and writing what the stages leave: JSONL, CSV, JSON, Parquet and hub data sets."""

import contextlib
import csv
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from socratic_rl.dialogue import PreferencePair, Record
from socratic_rl.errors import UserError, reason

Row = tuple[str, dict[str, Any]]
"""Where a row stands (``file:line`` or ``hub id[split]:row``) and the row."""

R = TypeVar("R", bound=Record)


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
        raise UserError(f"{source}: the file is empty; at least one row is needed")


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
    for where, row in read_rows(str(path)):
        yield parse_record(kind, where, row)


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
        self.records: dict[Any, dict[str, Any]] = {}
        source = self.partial if self.partial.exists() else path
        if source.exists():
            if source == self.partial:
                _drop_torn_line(source)
            for _, row in _read_jsonl(source, "utf-8"):
                self.records[key(row)] = row

    def __contains__(self, key: Any) -> bool:
        return key in self.records

    @property
    def finished(self) -> bool:
        """Whether the stage ended before."""
        return self.path.exists()

    def append(self, record: Record) -> None:
        """Write one finished record; it survives a kill from here on."""
        row = record.to_record()
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        with self.partial.open("a", encoding="utf-8") as file:
            file.write(dump(row) + "\n")
        self.records[self.key(row)] = row

    def finish(self, order: Iterable[Any]) -> None:
        """Write all records in the order of their keys under the file's own name."""
        write_jsonl(self.path, (self.records[key] for key in order if key in self.records))
        self.partial.unlink(missing_ok=True)


def dump(row: Mapping[str, Any]) -> str:
    """One JSON line."""
    return json.dumps(row, ensure_ascii=False)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to a file that appears only when it is whole; returns how many there were."""
    count = 0
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(dump(row) + "\n")
            count += 1
    return count


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


def _drop_torn_line(path: Path) -> None:
    """Cut off what a killed process left of the record that it was writing."""
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


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
