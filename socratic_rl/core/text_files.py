"""Text files of any origin: unpacked, decoded and read by lines of a limited length; JSON of a line."""

import bz2
import codecs
import gzip
import io
import json
import logging
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from socratic_rl.core.errors import UserError

logger = logging.getLogger(__name__)

AnyRow = tuple[str, dict[str, Any] | str]
"""Where a row stands, and the row, or why it is none."""


RECORD_LIMIT = 64 * 2**20
"""Bytes that a line, and so a row, may have: more is no row, and would fill the memory."""


FILE_LIMIT = 2**30
"""Bytes that a file may have that is read whole."""


# the longer mark first, since it begins with the shorter one
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


_PACKED = {".gz", ".bz2", ".xz", ".zst"}


def kind_of_file(path: str | Path) -> str:
    """The ending that says how a file is read, without that of its packing: ``.jsonl`` of ``rows.JSONL.gz``."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() in _PACKED else path).suffix.lower()


def text_lines(
    path: Path, encoding: str = "utf-8", key: str | None = None, limit: int | None = None
) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, unpacked and without a byte order mark.

    Args:
        path: The file; .gz, .bz2, .xz and .zst are unpacked.
        encoding: A byte order mark counts for more.
        key: The config key that says the encoding, for the advice; None where there is none.
        limit: Bytes that a line may have; None is ``RECORD_LIMIT``.

    Raises:
        UserError: The file cannot be read, is in another encoding, or a line is too long.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no regular file")
    try:
        with _opened(path) as file:
            encoding = _marked(path, file, encoding)
            yield from _lines(path, file, encoding, key, RECORD_LIMIT if limit is None else limit)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read ({why.splitlines()[0]})") from error


def _opened(path: Path) -> io.BufferedReader:
    match path.suffix.lower():
        case ".gz":
            return io.BufferedReader(gzip.GzipFile(path))
        case ".bz2":
            return io.BufferedReader(bz2.BZ2File(path))
        case ".xz":
            return io.BufferedReader(lzma.LZMAFile(path))
        case ".zst":
            import pyarrow

            return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def _marked(path: Path, file: io.BufferedReader, encoding: str) -> str:
    """The encoding that a file's byte order mark tells, else what the user says; UTF-8's mark is passed over."""
    head = file.peek(4)
    named = codecs.lookup(encoding).name
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), named)
    if not marked.startswith(named.removesuffix("-sig")) and not named.startswith(marked):
        logger.info("%s: is read as %s, which its first bytes say, not as %s", path, marked, encoding)
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    if marked in ("utf-16", "utf-32") and not any(map(head.startswith, _MARKS)):
        # its first character is one of ASCII's, with zeros before it or behind it
        return f"{marked}-be" if head.startswith(b"\0") else f"{marked}-le"
    return marked.removesuffix("-sig")


def _advice(key: str | None, likely: str) -> str:
    return "save the file as UTF-8" + (f" or say what it is, {key}={likely}" if key else "")


def _lines(
    path: Path, file: io.BufferedReader, encoding: str, key: str | None, limit: int
) -> Iterator[tuple[int, str]]:
    # a byte that ends a line does so in every encoding but those of two or four bytes and EBCDIC
    if "\n".encode(encoding) != b"\n":
        yield from _wide_lines(path, file, encoding, limit)
        return
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        _check_length(f"{path}:{number}", len(line), limit)
        if b"\0" in line:
            raise UserError(f"{path}:{number}: has bytes of zero, as UTF-16 has; {_advice(key, 'utf-16-le')}")
        try:
            yield number, line.decode(encoding)
        except UnicodeDecodeError as error:
            byte = line[error.start]
            # where latin-1 has control characters, Windows has quotation marks
            likely = "cp1252" if byte in range(0x80, 0xA0) else "latin-1"
            raise UserError(f"{path}:{number}: not {encoding} (byte 0x{byte:02x}); {_advice(key, likely)}") from error


def _wide_lines(path: Path, file: io.BufferedReader, encoding: str, limit: int) -> Iterator[tuple[int, str]]:
    text, number = io.TextIOWrapper(file, encoding, newline=""), 0
    try:
        while line := text.readline(limit + 1):
            number += 1
            _check_length(f"{path}:{number}", len(line), limit)
            yield number, line
    except UnicodeError as error:
        raise UserError(f"{path}: not {encoding}, after line {number} ({error})") from error


def _check_length(where: str, length: int, limit: int) -> None:
    if length > limit:
        raise UserError(f"{where}: longer than {limit >> 20} MB, which no row is; .jsonl with a row a line is needed")


def whole_text(path: Path, encoding: str = "utf-8", key: str | None = None) -> str:
    """The text of a file, which is read whole; ``UserError`` where it is larger than ``FILE_LIMIT``."""
    lines, length = [], 0
    for _, line in text_lines(path, encoding, key, FILE_LIMIT):
        length += len(line)
        if length > FILE_LIMIT:
            raise UserError(f"{path}: larger than {FILE_LIMIT >> 30} GB; save it as .jsonl, which is read by rows")
        lines.append(line)
    return "".join(lines)


class JsonError(Exception):
    """Why a text is no JSON that can be used."""

    def __init__(self, why: str, line: int = 1) -> None:
        super().__init__(why)
        self.line = line


def json_value(text: str) -> Any:
    """The JSON value that a text holds.

    Raises:
        JsonError: It holds none, one nested too deeply, or a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON ({error.msg} at character {error.colno})", error.lineno) from error
    except RecursionError as error:
        raise JsonError("JSON that is nested too deeply") from error
    except ValueError as error:
        # Python refuses to read a number of more than 4,300 digits
        raise JsonError(f"a number of too many digits ({str(error).partition(':')[0]})") from error


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def has_halves(text: str) -> bool:
    """Whether the JSON text may hold half a character: one of two escapes that belong together."""
    return _HALF.search(text) is not None


def json_row(value: Any, check: bool) -> dict[str, Any]:
    """The value, if it is a JSON object.

    Raises:
        JsonError: It is none, or half a character is in it, which is looked for with ``check``.
    """
    if not isinstance(value, dict):
        raise JsonError(f"a JSON object is needed, not {type(value).__name__}")
    try:
        if check:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise JsonError(f"half a character ({half}), as where a text was cut off") from error
    return value


def json_object(where: str, line: str) -> dict[str, Any]:
    """The JSON object that a line holds; ``UserError`` names ``where``."""
    try:
        return json_row(json_value(line), has_halves(line))
    except JsonError as error:
        raise UserError(f"{where}: {error}") from error


def read_jsonl(path: Path, encoding: str, key: str | None) -> Iterator[AnyRow]:
    """The rows of a file with an object a line; see ``text_lines``."""
    is_first = True
    for number, line in text_lines(path, encoding, key):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json_row(json_value(line), has_halves(line))
        except JsonError as error:
            if is_first and line.strip() in ("[", "{", "[{"):
                raise UserError(
                    f"{path}:{number}: not JSON by lines; if it is one JSON value over many lines, name the file .json"
                ) from error
            yield f"{path}:{number}", str(error)
        is_first = False


def read_json(path: Path, encoding: str, key: str | None) -> Iterator[AnyRow]:
    """The rows of a list of objects, or of an object that holds one; anything else is read by lines."""
    text = whole_text(path, encoding, key)
    if not text.strip():
        return
    try:
        value = json_value(text)
    except JsonError as error:
        first = next((line for line in text.splitlines() if line.strip()), "")
        if text.lstrip().startswith("[") or _not_json_alone(first):
            raise UserError(f"{path}:{error.line}: {error}") from error
        yield from read_jsonl(path, encoding, key)
        return
    check = has_halves(text)
    for number, row in enumerate(_rows_of(path, value), 1):
        where = f"{path}:row {number}"
        try:
            yield where, json_row(row, check)
        except JsonError as error:
            yield where, str(error)


def _not_json_alone(line: str) -> bool:
    try:
        json_value(line)
    except JsonError:
        return True
    return False


# what a row itself may hold as a list of objects
_LISTS_IN_ROWS = {
    *("messages", "conversations", "conversation", "turns", "history"),
    *("prompt", "completion", "chosen", "rejected", "steps", "tools"),
}


def _rows_of(path: Path, value: Any) -> Sequence[Any]:
    """The rows in a JSON value: a list, the only list of objects in an object, or the object itself."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise UserError(f"{path}: is JSON, but a list of objects is needed, not {type(value).__name__}")
    lists = [
        name
        for name, rows in value.items()
        if isinstance(rows, list) and rows and isinstance(rows[0], dict) and name not in _LISTS_IN_ROWS
    ]
    if len(lists) == 1:
        logger.info("%s: the rows are those of its key %r", path, lists[0])
        rows: Sequence[Any] = value[lists[0]]
        return rows
    if lists:
        raise UserError(
            f"{path}: is JSON with lists of objects under {', '.join(map(repr, lists))}; save the one that is meant as "
            "a file of its own"
        )
    if (
        value
        and all(isinstance(column, list | dict) for column in value.values())
        and not _LISTS_IN_ROWS & value.keys()
    ):
        raise UserError(
            f"{path}: is JSON, but no key of it holds a list of objects (its keys are {', '.join(map(repr, value))}); "
            "a list with an object for each row is needed"
        )
    return [value]
