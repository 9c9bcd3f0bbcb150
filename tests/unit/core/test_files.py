import csv
import json
import resource
from operator import attrgetter
from pathlib import Path

import pytest

from socratic_rl.commands.generate import write_csv
from socratic_rl.core.dialogue import PreferencePair, Problem, Turn
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import whole_file, write_jsonl
from socratic_rl.core.records import RecordWriter, read_records
from socratic_rl.core.rows import read_rows


def problem(number: int) -> Problem:
    return Problem(id=f"p{number}", question=f"What is {number}?", solution="", answer=str(number), source="test")


def test_records_come_back_as_they_were_written(tmp_path: Path):
    records = [problem(n) for n in range(3)]
    write_jsonl(tmp_path / "x.jsonl", (record.to_record() for record in records))
    assert list(read_records(Problem, tmp_path / "x.jsonl")) == records


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("missing.jsonl", None, "missing.jsonl: no such file"),
        ("empty.jsonl", b"", "empty.jsonl: the file is empty"),
        ("blank.jsonl", b"\n\n", "blank.jsonl: the file is empty"),
        ("torn.jsonl", b'{"a": 1}\n{"a": ', "torn.jsonl:2: not JSON"),
        ("list.jsonl", b"[1]\n", "list.jsonl:1: a JSON object is needed, not list"),
        ("column.jsonl", b'{"a": 1}\n{"b": 1}\n', "column.jsonl:2: no column 'a'; the columns are 'b'"),
        ("column.csv", b"b\n1\n", "column.csv:2: no column 'a'"),
        ("latin.csv", "a\nx\ncafé\n".encode("latin-1"), "latin.csv:3: not utf-8 (byte 0xe9)"),
        ("wide.csv", b"a\n1,2\n", "wide.csv:2: more fields than the 1 columns"),
        ("what.xlsx", b"x", "do not know how to read '.xlsx'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, content: bytes | None, told: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(read_rows(str(path), columns=["a"]))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_an_encoding_can_be_given(tmp_path: Path):
    (tmp_path / "latin.csv").write_bytes("a\ncafé\n".encode("latin-1"))
    assert [row for _, row in read_rows(str(tmp_path / "latin.csv"), encoding="latin-1")] == [{"a": "café"}]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path):
    (tmp_path / "bom.csv").write_text("a\n1\n", encoding="utf-8-sig")
    assert [row for _, row in read_rows(str(tmp_path / "bom.csv"))] == [{"a": "1"}]


def test_a_record_that_is_not_one_names_line_and_key(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": "p", "question": "?", "solution": "", "source": "x"}) + "\n")
    with pytest.raises(UserError, match=r"x\.jsonl:1: not a Problem: answer: Field required"):
        list(read_records(Problem, tmp_path / "x.jsonl"))


def test_a_killed_stage_goes_on_and_ends_like_one_that_was_not(tmp_path: Path):
    order = [f"p{n}" for n in range(4)]
    whole = RecordWriter(Problem, tmp_path / "whole.jsonl", attrgetter("id"))
    for number in (2, 0, 3, 1):
        whole.append(problem(number))
    whole.finish(order)

    killed = RecordWriter(Problem, tmp_path / "killed.jsonl", attrgetter("id"))
    killed.append(problem(2))
    killed.append(problem(0))
    with killed.growing.open("a") as file:
        file.write('{"id": "p3", "quest')
    again = RecordWriter(Problem, tmp_path / "killed.jsonl", attrgetter("id"))
    assert [f"p{n}" in again for n in range(4)] == [True, False, True, False]
    assert not again.finished
    again.append(problem(3))
    again.append(problem(1))
    again.finish(order)

    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not again.growing.exists()
    assert RecordWriter(Problem, tmp_path / "killed.jsonl", attrgetter("id")).finished


def test_a_stage_that_was_killed_at_any_byte_ends_with_the_same_file(tmp_path: Path):
    def stage() -> RecordWriter[Problem]:
        return RecordWriter(Problem, tmp_path / "x.jsonl", attrgetter("id"))

    first = stage()
    for number in range(3):
        first.append(problem(number))
    written = first.growing.read_bytes()
    for cut in range(len(written)):
        first.growing.write_bytes(written[:cut])
        again = stage()
        for number in range(3):
            if f"p{number}" not in again:
                again.append(problem(number))
        assert again.growing.read_bytes() == written, cut
        assert [record.id for record in again.records()] == ["p0", "p1", "p2"]


def test_a_record_that_does_not_fit_on_the_disk_leaves_those_before_it(tmp_path: Path):
    stage = RecordWriter(Problem, tmp_path / "x.jsonl", attrgetter("id"))
    stage.append(problem(0))
    before = stage.growing.read_bytes()
    size, limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limit))
    try:
        with pytest.raises(OSError, match=r"x\.jsonl|large"):
            stage.append(problem(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit))
    assert stage.growing.read_bytes() == before
    assert "p1" not in stage
    stage.append(problem(1))
    assert [record.id for record in stage.records()] == ["p0", "p1"]


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_the_csv_has_the_three_columns_and_labelled_turns(tmp_path: Path):
    pair = PreferencePair.of(
        [Turn(speaker="student", text='He said "hi", twice\nthen left')],
        "Why?",
        "It is 4.",
        conversation_id="c",
        problem_id="p",
        turn=0,
        rejection="direct_answer",
        split="train",
    )
    write_csv(tmp_path / "x.csv", [pair])
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "Prompt": 'Student: He said "hi", twice\nthen left\n',
            "Bad answer": "Teacher: It is 4.\n",
            "Good answer": "Teacher: Why?\n",
        }
    ]
