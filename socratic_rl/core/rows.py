"""Rows of what users bring: JSONL, CSV, JSON, Parquet and hub data sets."""

import csv
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from socratic_rl.core.errors import UserError
from socratic_rl.core.text_files import RECORD_LIMIT, AnyRow, kind_of_file, read_json, read_jsonl, text_lines

logger = logging.getLogger(__name__)

Row = tuple[str, dict[str, Any]]
"""Where a row stands (``file:line`` or ``hub id[split]:row``) and the row."""


_JSONL = {".jsonl", ".ndjson"}
_CSV = {".csv", ".tsv"}
_READ = _JSONL | _CSV | {".json", ".parquet"}


# what people have beside these, and what to do with it
_ADVICE = dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods", ".numbers"), "save the sheet as CSV (UTF-8)")
_ADVICE |= dict.fromkeys((".zip", ".tar", ".tgz", ".rar", ".7z"), "unpack it and give one of its files")
_ADVICE |= dict.fromkeys((".arrow", ".feather"), "give the folder that save_to_disk left, or save it as Parquet")
_ADVICE |= dict.fromkeys(
    (".pkl", ".pickle", ".pt", ".npy", ".npz"), "it may run code, and is never read; save the rows as JSONL"
)


def looks_local(source: str) -> bool:
    """Whether the source can only be a file: written as a path, or with the ending of one."""
    written_as_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    return written_as_path or kind_of_file(source) in _READ | _ADVICE.keys()


def read_rows(
    source: str,
    split: str = "train",
    encoding: str = "utf-8",
    columns: Iterable[str] = (),
    subset: str | None = None,
    encoding_key: str | None = None,
) -> Iterator[Row]:
    """Rows of a local file (.jsonl, .json, .csv, .parquet) or of a hub data set.

    Args:
        source: A path or a hub id (``owner/name``).
        split: The split of a hub data set; a local file has none.
        encoding: Of text files.
        columns: Columns that every row must have; the case of their names does not matter.
        subset: The subset of a hub data set; a local file has none.
        encoding_key: The config key of the encoding, for advice.

    Raises:
        UserError: The file is missing, empty or unreadable, or a column is missing; names the file and the line.
    """
    columns = tuple(columns)
    for where, row in read_any_rows(source, split, encoding, subset, encoding_key):
        if isinstance(row, str):
            raise UserError(f"{where}: {row}")
        row = with_names(where, row, columns)
        if missing := [column for column in columns if column not in row]:
            raise no_column(where, missing, row)
        if empty := [column for column in columns if row[column] is None]:
            raise UserError(f"{where}: nothing in column {', '.join(map(repr, empty))}")
        yield where, row


def read_any_rows(
    source: str,
    split: str = "train",
    encoding: str = "utf-8",
    subset: str | None = None,
    encoding_key: str | None = None,
) -> Iterator[AnyRow]:
    """The same, for whoever can do without a row: in place of one that cannot be read stands why.

    Raises:
        UserError: The file is missing, empty or unreadable as a whole.
    """
    path = Path(source).expanduser()
    rows = _read_file(path, encoding, encoding_key) if path.exists() else _read_hub(source, split, subset)
    is_empty = True
    for where, row in rows:
        is_empty = False
        yield where, row
    if is_empty:
        raise empty_file(source)


def with_names(where: str, row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The row with its columns under the names that are asked for, where they differ by case or outer spaces alone.

    Raises:
        UserError: Two columns could be meant.
    """
    for name in names:
        if name in row:
            continue
        alike = [column for column in row if column.strip().casefold() == name.strip().casefold()]
        if len(alike) > 1:
            raise UserError(f"{where}: {' and '.join(map(repr, alike))} could both be column {name!r}; rename one")
        if alike:
            row = {name if column == alike[0] else column: value for column, value in row.items()}
    return row


def no_column(where: str, missing: Iterable[str], row: Iterable[str]) -> UserError:
    """The mistake of columns that are not there."""
    return UserError(f"{where}: no column {', '.join(map(repr, missing))}; the columns are {', '.join(map(repr, row))}")


def likely(columns: Iterable[str], usual: Iterable[str]) -> str:
    """The column that is probably meant: the first of the usual names that one has; ``COLUMN`` where none has."""
    lower = {column.strip().lower(): column for column in columns}
    return next((lower[name] for name in usual if name in lower), "COLUMN")


def check_share(
    key: str,
    allowed: float,
    flawed: int,
    read: int,
    first: Sequence[tuple[str, str]],
    what: str = "cannot be used",
    advice: str = "",
) -> None:
    """Stop where more rows are flawed than may be.

    Args:
        key: The config key of the share.
        allowed: The share.
        flawed: How many rows are.
        read: Of how many.
        first: Where the first of them are, and why each is.
        what: What is wrong with them, after their number.
        advice: What to do, after those that are named.

    Raises:
        UserError: There are more; names the first three.
    """
    if flawed > allowed * read:
        named = "; ".join(f"{where}: {why}" for where, why in first[:3])
        raise UserError(
            f"{key}: {flawed} of {read} rows {what}, more than the share of {allowed:g} that may be: {named}{advice}"
        )


def _read_file(path: Path, encoding: str, key: str | None) -> Iterator[AnyRow]:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give one of the files in it")
    kind = kind_of_file(path)
    if kind in _JSONL:
        yield from read_jsonl(path, encoding, key)
    elif kind in _CSV:
        yield from _read_csv(path, encoding, key)
    elif kind == ".json":
        yield from read_json(path, encoding, key)
    elif kind == ".parquet" and path.suffix.lower() == kind:
        yield from _read_parquet(path)
    else:
        advice = _ADVICE.get(kind) or _ADVICE.get(path.suffix.lower(), "use .jsonl, .json, .csv or .parquet")
        raise UserError(f"{path}: do not know how to read {path.suffix!r}; {advice}")


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


UNPACKED_LIMIT = 2**30
"""Bytes that the rows of a Parquet file may take, unless they are less than ``UNPACKED_SHARE`` times the file's."""


UNPACKED_SHARE = 200


def _read_parquet(path: Path) -> Iterator[AnyRow]:
    import pyarrow.parquet

    number, unpacked = 0, 0
    # a file that fills the memory on purpose
    most = max(UNPACKED_LIMIT, UNPACKED_SHARE * path.stat().st_size)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            largest = max((group.total_byte_size for group in groups), default=0)
            # a value that stands in the file once may be meant a million times
            for batch in file.iter_batches(batch_size=4 if largest > RECORD_LIMIT else 16) if largest <= most else ():
                unpacked += batch.nbytes
                if unpacked > most:
                    break
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:row {number}", row
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    if max(unpacked, largest) > most:
        raise UserError(f"{path}:row {number + 1}: {most >> 20} MB unpacked and not at its end, which no such file is")


def _read_csv(path: Path, encoding: str, key: str | None) -> Iterator[AnyRow]:
    rows = csv_fields(path, encoding, key)
    _, names = next(rows, (0, []))
    names = [name.strip() for name in names]
    if twice := {name for name in names if name and names.count(name) > 1}:
        raise UserError(f"{path}:1: several columns named {', '.join(map(repr, sorted(twice)))}; rename all but one")
    for line, fields in rows:
        where = f"{path}:{line}"
        if len(fields) > len(names):
            yield where, f"more fields than the {len(names)} columns"
        else:
            yield where, dict(zip_longest(names, fields))


def csv_fields(path: Path, encoding: str, key: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row of a CSV file, the column names first, with the number of the row's first line.

    Args:
        path: The file; it may separate its columns by commas, semicolons, tabs or upright strokes.
        encoding: Its encoding.
        key: The config key of the encoding, for advice.

    Raises:
        UserError: The file cannot be read, is in another encoding, or a quotation mark stays open.
    """
    lines = _csv_lines(path, encoding, key)
    first = list(islice(lines, SNIFFED))
    delimiter = _delimiter(path, first)
    csv.field_size_limit(RECORD_LIMIT)
    reader = csv.reader(chain(first, lines), delimiter=delimiter, strict=True)
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


SNIFFED = 50
"""So many lines tell what separates the columns."""


def _csv_lines(path: Path, encoding: str, key: str | None) -> Iterator[str]:
    """The lines, also of a file whose lines end in a carriage return alone, as they did on old Macs."""
    for _, line in text_lines(path, encoding, key):
        body = line.rstrip("\r\n")
        yield from re.findall(r"[^\r]*\r|[^\r]+$", line) if "\r" in body else [line]


def _delimiter(path: Path, lines: Sequence[str]) -> str:
    """What separates most columns, in as many rows as possible in as many as there are names."""
    if kind_of_file(path) == ".tsv":
        return "\t"
    best, fitting = ",", (0.0, 1)
    for delimiter in ",;\t|":
        rows = [fields for fields in csv.reader(lines, delimiter=delimiter) if fields]
        columns = len(rows[0]) if rows else 1
        share = sum(len(fields) == columns for fields in rows) / max(1, len(rows))
        if columns > 1 and (share, columns) > fitting:
            best, fitting = delimiter, (share, columns)
    if best != ",":
        logger.info("%s: its columns are separated by %r", path, best)
    return best


def empty_file(source: object) -> UserError:
    """The mistake of a file without rows."""
    return UserError(f"{source}: the file is empty; at least one row is needed")
