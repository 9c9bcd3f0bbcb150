"""Files as people bring them: packed, in any encoding, wrapped, with any separator; and those made to do harm."""

import bz2
import gzip
import json
import logging
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from socratic_rl.core import rows as rows_module
from socratic_rl.core import text_files
from socratic_rl.core.errors import UserError
from socratic_rl.core.rows import looks_local, read_rows

ROWS: list[dict[str, Any]] = [{"question": "Où?", "answer": "5"}, {"question": "R", "answer": "6"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = 'question,answer\n"Où?",5\nR,6\n'


def zst(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return bytes(sink.getvalue())


READ: dict[str, bytes] = {
    "a.jsonl": LINES.encode(),
    "a.ndjson": LINES.encode(),
    "A.JSONL": LINES.encode(),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.jsonl.bz2": bz2.compress(LINES.encode()),
    "a.jsonl.xz": lzma.compress(LINES.encode()),
    "a.jsonl.zst": zst(LINES.encode()),
    "a.json.gz": gzip.compress(json.dumps(ROWS).encode()),
    "a.csv.gz": gzip.compress(TABLE.encode()),
    # JSON: a list, one object a line, wrapped, pretty
    "list.json": json.dumps(ROWS, indent=2).encode(),
    "lines.json": LINES.encode(),
    "data.json": json.dumps({"version": "1.1", "data": ROWS}, indent=1).encode(),
    "examples.json": json.dumps({"examples": ROWS}).encode(),
    "nested_and_meta.json": json.dumps({"rows": ROWS, "messages": [{"a": 1}], "license": {"name": "x"}}).encode(),
    # CSV: separators, quotes that hold them, ends of lines
    "comma.csv": TABLE.encode(),
    "semicolon.csv": b'question;answer\n"O\xc3\xb9?";5\nR;6\n',
    "tab.csv": "question\tanswer\nOù?\t5\nR\t6\n".encode(),
    "tab.tsv": "question\tanswer\nOù?\t5\nR\t6\n".encode(),
    "stroke.csv": "question|answer\nOù?|5\nR|6\n".encode(),
    "crlf.csv": TABLE.replace("\n", "\r\n").encode(),
    "mac.csv": TABLE.replace("\n", "\r").encode(),
    "spaces.csv": TABLE.replace("question,answer", " question , answer ").encode(),
    # encodings that the first bytes say
    "bom.jsonl": LINES.encode("utf-8-sig"),
    "bom.csv": TABLE.encode("utf-8-sig"),
    "utf16.csv": TABLE.encode("utf-16"),
    "utf16be.csv": b"\xfe\xff" + TABLE.encode("utf-16-be"),
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf32.jsonl": LINES.encode("utf-32"),
    "utf16.json.gz": gzip.compress(json.dumps(ROWS, ensure_ascii=False).encode("utf-16")),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_is_read_as_it_comes(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(READ[name])
    assert [row for _, row in read_rows(str(tmp_path / name), columns=["question", "answer"])] == ROWS


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("utf8", TABLE.encode("utf-8-sig")),
        ("UTF-8", TABLE.encode("utf-8-sig")),
        ("utf-8-sig", TABLE.encode("utf-8-sig")),
        ("utf-8-sig", TABLE.encode()),
        ("utf-16", TABLE.encode("utf-16")),
        ("utf16", TABLE.encode("utf-16-le")),
        ("utf-16-le", TABLE.encode("utf-16-le")),
        ("utf-16-le", TABLE.encode("utf-16")),
        ("utf-16-be", TABLE.encode("utf-16-be")),
        ("utf-32", TABLE.encode("utf-32")),
        ("latin-1", TABLE.encode("latin-1")),
        ("cp1252", TABLE.encode("cp1252")),
        ("cp037", TABLE.encode("cp037")),
        ("latin-1", TABLE.encode("utf-8-sig")),
    ],
)
def test_an_encoding_is_read_with_and_without_its_mark(encoding: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert [row for _, row in read_rows(str(tmp_path / "a.csv"), encoding=encoding)] == ROWS


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("data.json", json.dumps({"data": ROWS}), "the rows are those of its key 'data'"),
        ("a.csv", "question;answer\na;b\n", "its columns are separated by ';'"),
        ("b.csv", "question\tanswer\na\tb\n", r"its columns are separated by '\\t'"),
        ("c.csv", TABLE.encode("utf-16"), "is read as utf-16, which its first bytes say, not as utf-8"),
    ],
)
def test_what_was_found_out_about_a_file_is_told(
    name: str, content: str | bytes, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with caplog.at_level(logging.INFO):
        list(read_rows(str(tmp_path / name)))
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / name}: " + told.replace("\\\\", "\\")]


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ("Prompt,Good answer\nHi; you; there,a\n", ["Prompt", "Good answer"]),
        ('"a, b";c\n"1, 2";3\n', ["a, b", "c"]),
        ("a|b,c\n1,2\n3,4\n", ["a|b", "c"]),
    ],
)
def test_what_separates_columns_is_told_from_what_they_hold(lines: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines)
    assert [*next(row for _, row in read_rows(str(tmp_path / "a.csv")))] == names


DEEP = "[" * 10_000 + "]" * 10_000


REFUSED: dict[str, tuple[bytes, str]] = {
    "a.xlsx": (b"PK", "do not know how to read '.xlsx'; save the sheet as CSV (UTF-8)"),
    "a.ods": (b"PK", "save the sheet as CSV"),
    "a.zip": (b"PK", "unpack it"),
    "a.tar.gz": (gzip.compress(b"x"), "unpack it"),
    "a.pkl": (b"x", "may run code"),
    "a.arrow": (b"x", "save_to_disk"),
    "a.txt": (b"x", "use .jsonl, .json, .csv or .parquet"),
    "a.parquet.gz": (gzip.compress(b"x"), "do not know how to read"),
    "cut.jsonl.gz": (gzip.compress(LINES.encode())[:-9], "cannot be read (Compressed file ended"),
    "plain.jsonl.gz": (LINES.encode(), "cannot be read (Not a gzipped file"),
    "flipped.jsonl.gz": (gzip.compress(LINES.encode() * 9)[:20] + b"\0" * 30, "cannot be read ("),
    "plain.jsonl.zst": (LINES.encode(), "cannot be read (ZSTD"),
    "cut.jsonl.zst": (zst(LINES.encode())[:-9], "cannot be read ("),
    "cut.jsonl.xz": (lzma.compress(LINES.encode())[:-9], "cannot be read ("),
    "cut.jsonl.bz2": (bz2.compress(LINES.encode())[:-9], "cannot be read ("),
    "keys.json": (
        json.dumps({"train": ROWS, "test": ROWS}).encode(),
        "is JSON with lists of objects under 'train', 't",
    ),
    "columns.json": (json.dumps({"question": ["a"], "answer": ["b"]}).encode(), "is JSON, but no key of it holds a li"),
    "pandas.json": (json.dumps({"question": {"0": "a"}}).encode(), "is JSON, but no key of it holds a list"),
    "number.json": (b"5", "is JSON, but a list of objects is needed, not int"),
    "cut.json": (b'[\n{"a": 1},\n{"a"', "cut.json:3: not JSON"),
    "cut_object.json": (b'{\n"data": [\n', "not JSON"),
    "pretty.jsonl": (json.dumps(ROWS, indent=1).encode(), "pretty.jsonl:1: not JSON by lines; if it is one JSON value"),
    "deep.json": (DEEP.encode(), "JSON that is nested too deeply"),
    "deep.jsonl": (f'{{"a": {DEEP}}}'.encode(), "deep.jsonl:1: JSON that is nested too deeply"),
    "digits.jsonl": (b'{"a": ' + b"9" * 5000 + b"}", "digits.jsonl:1: a number of too many digits"),
    "digits.json": (b'[{"a": ' + b"9" * 5000 + b"}]", "a number of too many digits"),
    "half.jsonl": (LINES.encode() + rb'{"a": "x\ud83d"}', r"half.jsonl:3: half a character (\ud83d"),
    "half_key.jsonl": (rb'{"\uDE00": 1}', r"half_key.jsonl:1: half a character (\ude00"),
    "half.json": (rb'[{"a": 1}, {"b": ["x", "\udc00"]}]', r"half.json:row 2: half a character (\udc00"),
    "surrogate.jsonl": (b'{"a": "\xed\xa0\xbd"}', "surrogate.jsonl:1: not utf-8"),
    "latin.csv": (
        TABLE.encode("latin-1"),
        "latin.csv:2: not utf-8 (byte 0xf9); save the file as UTF-8 or say what it",
    ),
    "windows.csv": (b"a\n\x93b\x94\n", "windows.csv:2: not utf-8 (byte 0x93)"),
    "utf16.csv": (TABLE.encode("utf-16-le"), "utf16.csv:1: has bytes of zero, as UTF-16 has"),
    "odd.csv": (TABLE.encode("utf-16") + b"x", "odd.csv: not utf-16, after line"),
    "twice.csv": (b"a,a\n1,2\n", "twice.csv:1: several columns named 'a'"),
    "open.csv": (b'a,b\n1,"2\n3,4\n', "open.csv:2: not CSV"),
    "loose.csv": (b'a,b\n"1" x,2\n', "loose.csv:2: not CSV"),
    "cut.parquet": (b"PAR1xxxxPAR1", "cannot be read as Parquet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content, told = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(read_rows(str(tmp_path / name), encoding_key="dataset.encoding"))
    assert told in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_character_that_is_written_as_two_halves_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(rb'{"a": "\ud83d\ude00", "b": "C:\\ud83d"}')
    assert [row for _, row in read_rows(str(tmp_path / "a.jsonl"))] == [{"a": "😀", "b": "C:\\ud83d"}]


@pytest.mark.parametrize(
    ("byte", "likely"), [(b"\xe9", "latin-1"), (b"\x93", "cp1252")], ids=["latin-1", "a quotation mark of Windows"]
)
def test_advice_names_the_key_that_there_is(byte: bytes, likely: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n" + byte + b"\n")
    with pytest.raises(UserError, match=rf"save the file as UTF-8 or say what it is, suite\.encoding={likely}$"):
        list(read_rows(str(tmp_path / "a.csv"), encoding_key="suite.encoding"))
    with pytest.raises(UserError, match=r"save the file as UTF-8$"):
        list(read_rows(str(tmp_path / "a.csv")))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.jsonl.gz"])
def test_a_line_without_end_is_given_up(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "RECORD_LIMIT", 2**20)
    content = b'{"a": "' + b"x" * 2**21 + b'"}'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(UserError, match=rf"{name}:1: longer than 1 MB, which no row is"):
        list(read_rows(str(tmp_path / name)))


def test_a_file_that_is_read_whole_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "FILE_LIMIT", 1000)
    monkeypatch.setattr(text_files, "RECORD_LIMIT", 100)
    for indent, told in ((1, r"save it as \.jsonl, which is read by rows"), (None, r"a\.json:1: longer than")):
        (tmp_path / "a.json").write_text(json.dumps(ROWS * 50, indent=indent))
        with pytest.raises(UserError, match=told):
            list(read_rows(str(tmp_path / "a.json")))
    # a list is often one line, which is no row
    (tmp_path / "a.json").write_text(json.dumps(ROWS * 3))
    assert len(list(read_rows(str(tmp_path / "a.json")))) == 6


def test_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "b.csv")
    for name in ("a.jsonl", "b.csv"):
        with pytest.raises(UserError, match=f"{name}: is no regular file"):
            list(read_rows(str(tmp_path / name)))


@pytest.mark.parametrize("text", [lambda n: "x" * 20_000, lambda n: f"{n}" + "x" * 20_000])
def test_a_parquet_file_that_unpacks_to_a_thousand_times_its_size_is_given_up(
    text: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "UNPACKED_LIMIT", 2**22)
    table = pyarrow.table({"question": [text(n) for n in range(1000)]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(UserError, match=r"a\.parquet:row \d+: 4 MB unpacked and not at its end, which no such file is"):
        list(read_rows(str(tmp_path / "a.parquet")))


def test_an_ordinary_parquet_file_that_repeats_itself_is_read(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"question": ["x" * 1000] * 5000}), tmp_path / "a.parquet")
    assert len(list(read_rows(str(tmp_path / "a.parquet")))) == 5000


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.ndjson", "a.csv.zst", "a.xlsx", "o/a.tsv", "./a", "~/a", "a/b/c"])
def test_what_can_only_be_a_file_is_told_from_a_hub_id(name: str) -> None:
    assert looks_local(name)
    assert not looks_local("owner/name")


def test_a_single_row_may_hold_lists(tmp_path: Path) -> None:
    row = {"conversations": [{"from": "human", "value": "Hi?"}], "chosen": [{"a": 1}]}
    (tmp_path / "a.json").write_text(json.dumps(row))
    assert [found for _, found in read_rows(str(tmp_path / "a.json"))] == [row]
