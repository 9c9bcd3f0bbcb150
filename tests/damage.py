"""Damaged copies of a file, as a bad disk, a half download or somebody else's hand leaves them; made by code."""

import json
import random
from collections.abc import Iterator
from typing import Any

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def damaged_bytes(content: bytes) -> dict[str, bytes]:
    """Damaged copies of any file, by what happened to it; content is at least 64 bytes."""
    draw = random.Random(0)
    copies = {
        "empty": b"",
        "one byte": content[:1],
        "pointer": POINTER,
        "page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "zeros": bytes(len(content)),
        "noise": draw.randbytes(len(content)),
        "pickle": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.",
        "archive": b"PK\x03\x04" + content[4:],
        "twice": content + content,
        "UTF-16": content.decode("latin-1").encode("utf-16"),
        "turned": content[::-1],
    }
    for place in (4, 8, 9, 16, 24, 40, len(content) // 4, len(content) // 2, len(content) - 1):
        copies[f"cut at {place}"] = content[:place]
        copies[f"zeros from {place}"] = content[:place] + bytes(len(content) - place)
        copies[f"ones at {place}"] = content[:place] + b"\xff" * 8 + content[place + 8 :]
        copies[f"hole at {place}"] = content[:place] + content[place + 8 :]
    return copies


def damaged_json(value: dict[str, Any], *needed: str) -> dict[str, bytes]:
    """Damaged copies of a JSON record that cannot be read, by what happened to it.

    Args:
        value: The record.
        needed: Its keys without which it is no such record.
    """
    text = json.dumps(value).encode()
    copies = {
        "empty": b"",
        "spaces": b" \n\t",
        "cut": text[: len(text) // 2],
        "without its end": text[:-1],
        "more behind it": text + b"}",
        "twice": text + text,
        "list": b"[" + text + b"]",
        "number": b"3",
        "null": b"null",
        "text": b'"x"',
        "true": b"true",
        "single quotes": text.replace(b'"', b"'"),
        "a comma too many": text[:-1] + b",}",
        "zeros": bytes(100),
        "not UTF-8": text.replace(b"{", b'{"\xff\xfe": 1, ', 1),
        "pickle": b"\x80\x04\x95.",
        "pointer": POINTER,
        "deep list": b"[" * 100_000,
        "deep object": b'{"a":' * 100_000,
        "just too deep": text[:-1] + b', "x": ' + b"[" * 500 + b"]" * 500 + b"}",
        "long number": text[:-1] + b', "x": ' + b"9" * 5_000 + b"}",
        "page": b"<html></html>",
        "object without keys": b"{}",
    }
    for key in needed:
        copies[f"without {key}"] = json.dumps({k: v for k, v in value.items() if k != key}).encode()
        for wrong in (None, 3, [], {"x": 1}, "x", [[1]]):
            if type(wrong) is not type(value[key]) and not (wrong == [] and value[key] == ()):
                copies[f"{key} is {wrong}"] = json.dumps(value | {key: wrong}).encode()
    return copies


def in_one_line(error: BaseException) -> Iterator[str]:
    """What is wrong with how an error is told; nothing where it is one line of a length that one reads."""
    text = str(error)
    if len(text.splitlines()) != 1:
        yield f"{len(text.splitlines())} lines"
    if len(text) > 600:
        yield f"{len(text)} characters"
    if not text.isprintable():
        yield "control characters"
