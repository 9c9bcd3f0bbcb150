"""Files that appear only when they are whole."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from socratic_rl.core.errors import UserError, in_short, reason

M = TypeVar("M", bound=BaseModel)


LARGEST = 100
"""Millions of bytes of a JSON file that are read; none that a command writes comes near."""


DEEPEST = 100
"""How many objects and lists of a JSON file may lie in each other."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        OSError: It cannot be read.
        UserError: It is no JSON, holds something else than an object, or is larger or deeper than any that we write.
    """
    try:
        with path.open("rb") as file:
            # what has no end, such as a device, is not read into memory
            text = file.read(LARGEST * 1_000_000 + 1)
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no JSON file that a command wrote: {in_short(str(error))}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: is no JSON file that a command wrote: it holds {_KINDS[type(value)]}, not an object")
    return value


_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "a truth value", type(None): "null"}


def _parsed(text: bytes) -> Any:
    if len(text) > LARGEST * 1_000_000:
        raise ValueError(f"more than {LARGEST} MB")
    value = json.loads(text)
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return value
    raise ValueError(f"more than {DEEPEST} objects or lists in each other")


def read_model(kind: type[M], path: Path) -> M:
    """A JSON file as a typed record.

    Raises:
        OSError: It cannot be read.
        UserError: It is no such record; names the file and the key.
    """
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {reason(error)}") from error


def refuse_pointer(path: Path, key: str) -> None:
    """Refuse a file that only says where its content is, as git leaves it where git-lfs is not installed.

    Args:
        path: A file, or a folder whose files are looked at.
        key: Which brings it.

    Raises:
        UserError: It is such a file; names it.
    """
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file() and file.stat().st_size < SMALL and file.read_bytes().startswith(POINTER):
            raise UserError(f"{key}: {file}: {IS_POINTER}")


POINTER = b"version https://git-lfs"
"""How such a file begins."""

IS_POINTER = "git-lfs left a pointer in its place; `git lfs pull` in its folder fetches it"

SMALL = 1024
"""Bytes that such a file has at most."""


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """A JSON file that appears only when it is whole."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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


LOCK = ".lock"
"""The file in a folder by which a command holds it, as long as it writes there."""


HALF = ".half"
"""How the name of what is being written ends, so that what a kill left of it is told from a user's own files."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary neighbour of ``path`` that takes its name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{HALF}")
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        if temporary.is_dir() and path.is_dir() and [file.name for file in path.iterdir()] == [LOCK]:
            # the command's own folder, in whose place the whole one comes
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
