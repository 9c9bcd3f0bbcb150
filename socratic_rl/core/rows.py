"""Rows of what users bring: JSONL, CSV, JSON, Parquet and hub data sets."""

import csv
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from socratic_rl.core.errors import UserError

Row = tuple[str, dict[str, Any]]
"""Where a row stands (``file:line`` or ``hub id[split]:row``) and the row."""


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
    is_empty = True
    for where, row in _read_file(path, encoding) if path.exists() else _read_hub(source, split, subset):
        if missing := [column for column in columns if column not in row]:
            raise UserError(
                f"{where}: no column {', '.join(map(repr, missing))}; the columns are {', '.join(map(repr, row))}"
            )
        if empty := [column for column in columns if row[column] is None]:
            raise UserError(f"{where}: nothing in column {', '.join(map(repr, empty))}")
        is_empty = False
        yield where, row
    if is_empty:
        raise empty_file(source)


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


def text_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, without a byte order mark."""
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
    for number, line in text_lines(path, encoding):
        if line.strip():
            yield f"{path}:{number}", json_object(f"{path}:{number}", line)


def _read_json(path: Path, encoding: str) -> Iterator[Row]:
    """A list of objects; a file that does not begin like one is read by lines."""
    text = "".join(line for _, line in text_lines(path, encoding))
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


def json_object(where: str, line: str) -> dict[str, Any]:
    """The JSON object that a line holds; ``UserError`` names ``where``."""
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
    reader = csv.reader(line for _, line in text_lines(path, encoding))
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


def empty_file(source: object) -> UserError:
    """The mistake of a file without rows."""
    return UserError(f"{source}: the file is empty; at least one row is needed")
