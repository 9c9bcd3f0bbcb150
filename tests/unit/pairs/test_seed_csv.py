import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request
from socratic_rl.core.records import read_records
from socratic_rl.pairs.dataset import UnusableError
from socratic_rl.pairs.pairing import evenly
from socratic_rl.pairs.rejections import Constant, DirectAnswer, Irrelevant, WeakModel
from socratic_rl.pairs.seed_csv import SeedCsv, SeedRow, parse_row, put_together, read_seed_rows

NO = Constant(text="No.")


def data_set(path: Path, **keys: Any) -> SeedCsv:
    given = {"encoding": "utf-8", "turns": "rows", "must_ask": False, "limit": None, "validation": 0.1, "test": 0.2}
    return SeedCsv(path=str(path), **given | keys)


def transcript(*said: str) -> str:
    return "\n".join(f"{('Student', 'Teacher')[n % 2]}: {text}" for n, text in enumerate(said)) + "\n"


def cut(*said: str, at: tuple[int, ...] = (1, 3, 5), bad: str = "") -> list[tuple[str, str, str]]:
    """The rows of a dialogue, one for each teacher turn at these places."""
    return [(transcript(*said[:n]), bad, f"Teacher: {said[n]}\n") for n in at if n < len(said)]


def write(path: Path, rows: list[tuple[str, ...]], **how: Any) -> Path:
    with path.open("w", newline="", **{"encoding": "utf-8"} | how) as file:
        csv.writer(file).writerows([("Prompt", "Bad answer", "Good answer"), *rows])
    return path


def made(folder: Path) -> list[PreferencePair]:
    return list(read_records(PreferencePair, folder / "pairs.jsonl"))


THINGS = ("pencils", "notebooks", "apples", "lemons", "candles", "bottles", "ribbons")


COLOURS = ("red", "blue", "green", "white", "black", "old")


def dialogue(number: int) -> list[str]:
    things = f"{COLOURS[number // 7 % 6]} {THINGS[number % 7]}"
    said = f"If {number} {things} cost {3 * number} dollars in the shop, how many dollars does one of them cost?"
    asked = f"What do {number} {things} cost?"
    return [said, asked, f"{3 * number} dollars", "So what is one?", "3 dollars", "Well done!"]


# ---- one row ----


def test_a_row_is_the_dialogue_with_the_good_answer_last():
    row, mended = parse_row("Student: a\nTeacher: b?\nmore\nStudent: c\n", "Teacher: no\n", "Teacher: d?\n")
    assert [(turn.speaker[0], turn.text) for turn in row.turns] == [
        ("s", "a"),
        ("t", "b?\nmore"),
        ("s", "c"),
        ("t", "d?"),
    ]
    assert (row.bad, mended) == ("no", [])


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (("", "", "Teacher: a\nStudent: b\nTeacher: c"), "the prompt is empty"),
        ((" \n", "", "Teacher: a"), "the prompt is empty"),
        (("Student:\n", "", "Teacher: a"), "the prompt is a label without text"),
        (("Once upon a time\nStudent: a", "", "Teacher: b"), "the prompt has text before its first label"),
        (("Teacher: hello\nStudent: a", "", "Teacher: b"), "the prompt begins with the teacher"),
        (("Student: a\nTeacher: b", "", "Teacher: c"), "the prompt ends with the teacher"),
        (("Student: a", "", "  "), "the good answer is empty"),
        (("Student: a", "", "Teacher:"), "the good answer is a label without text"),
        (("Student: a", "", "Student: b"), "the good answer is the student's"),
        (("Student: a", "", "Teacher: Right. Student: I see! Thanks."), "the good answer speaks for the student"),
        (("Student: a", "", "Teacher: Note: this is an example."), "the good answer is a note"),
        (("Student: a", "Student: b", "Teacher: c"), "the bad answer is the student's"),
        (("Student: a", "b ", "Teacher: B"), "the bad answer is the good one"),
    ],
)
def test_a_row_that_cannot_be_told_is_left_out(cells: tuple[str, str, str], why: str):
    with pytest.raises(UnusableError, match=why):
        parse_row(*cells)


@pytest.mark.parametrize(
    ("cells", "said", "mended"),
    [
        (("What is 2 + 2?", "", "Teacher: b"), ["What is 2 + 2?", "b"], "the prompt begins without a label"),
        (("a\nTeacher: b\nStudent: c", "", "Teacher: d"), ["a", "b", "c", "d"], "the prompt begins without a label"),
        (("Student: a", "", "What?"), ["a", "What?"], "the good answer begins without a label"),
        (("Student: a", "", "Teacher: b\nStudent: c\nTeacher: d"), ["a", "b"], "goes on with the student's turn"),
        (("Student: a", "", "Teacher: b\n\n(Note: an example.)\nmore"), ["a", "b"], "ends in a note"),
    ],
)
def test_a_row_that_can_be_mended_is_used_and_told(cells: tuple[str, str, str], said: list[str], mended: str):
    row, told = parse_row(*cells)
    assert [turn.text for turn in row.turns] == said
    assert [turn.speaker for turn in row.turns] == ["student", "teacher"] * (len(said) // 2)
    assert len(told) == 1
    assert mended in told[0]


HUMAN = ("Human: a\nAI: b?\nHuman: c", "", "AI: d?")


@pytest.mark.parametrize(
    "cells",
    [
        HUMAN,
        ("Schüler: a\nLehrer: b?\nSchüler: c", "", "Lehrer: d?"),
        ("学生：a\n老师：b?\n学生：c", "", "老师：d?"),
        ("Student: a Teacher: b? Student: c", "", "Teacher: d?"),
        ("Student: a<br>Teacher: b?<br/>Student: c", "", "Teacher: d?<br>"),
        (r"Student: a\nTeacher: b?\nStudent: c", "", r"Teacher: d?\n"),
        ("Student: a\nTeacher: b?\nb?\nB ?\nStudent: c", "", "Teacher: d?\nd?\n d? "),
    ],
)
def test_other_labels_lines_and_breaks_are_read(cells: tuple[str, str, str]):
    row, mended = parse_row(*cells)
    assert [(turn.speaker[0], turn.text) for turn in row.turns] == [("s", "a"), ("t", "b?"), ("s", "c"), ("t", "d?")]
    assert not mended


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (("Anna: a\nMr Lee: b?\nAnna: c", "", "Mr Lee: d?"), r"the prompt holds the label 'Anna' of nobody known"),
        (("Student: a\nMr Lee: b?\nStudent: c", "", "d?"), "the prompt holds the label 'Mr Lee' of nobody"),
        (("Student: a", "", "Frau Kuhn: d?"), "the good answer holds the label 'Frau Kuhn' of nobody known"),
        (("Student: a", "Frau Kuhn: d?", "Teacher: e?"), "the bad answer holds the label 'Frau Kuhn'"),
        (("Student: a", "", "Teacher: So. Teacher: d?"), "the good answer holds the label 'Teacher' in the midst"),
        (("Student: a Student: b", "", "Teacher: d?"), "the prompt holds the label 'Student' in the midst of a turn"),
        (("Student: a\nTeachÐµÑ\x80: b?\nStudent: c", "", "Teacher: d?"), "the prompt holds the label 'TeachÐµÑ"),
    ],
)
def test_a_turn_that_still_holds_a_label_is_broken(cells: tuple[str, str, str], why: str):
    with pytest.raises(UnusableError, match=why):
        parse_row(*cells)


def test_labels_come_from_the_config(tmp_path: Path):
    rows = [("Anna: a\nMr Lee: b?\nAnna: c", "", "Mr Lee: d?")]
    file = write(tmp_path / "seed.csv", rows)
    with pytest.raises(
        UserError, match=r"^dataset.max_flawed: 1 of 1 rows .*seed.csv:2: .*dataset.labels.student=\[Anna"
    ):
        data_set(file).prepare(tmp_path, NO, None, 0)
    data_set(file, labels={"student": ["Anna"], "teacher": ["Mr Lee"]}).prepare(tmp_path, NO, None, 0)
    (pair,) = made(tmp_path)
    assert [message["content"] for message in (*pair.prompt, *pair.chosen)] == ["a", "b?", "c", "d?"]


@pytest.mark.parametrize("broken", [("x: a", "", "Teacher: b"), ("Student: a", "", "b")], ids=["broken", "mended"])
def test_more_flawed_rows_than_may_be_stop_the_run(broken: tuple[str, str, str], tmp_path: Path):
    rows = [row for number in range(2, 34) for row in cut(*dialogue(number))]
    data_set(write(tmp_path / "seed.csv", rows + 5 * [broken])).prepare(tmp_path, NO, None, 0)
    file = write(tmp_path / "seed.csv", 6 * [broken] + rows)
    with pytest.raises(UserError) as caught:
        data_set(file).prepare(tmp_path, NO, None, 0)
    begins = (
        "dataset.max_flawed: 6 of 102 rows are broken or had to be mended, more than the share of 0.05 that may be: "
    )
    assert str(caught.value).startswith(begins)
    assert [f"{file}:{line}" in str(caught.value) for line in (2, 3, 4, 5)] == [True, True, True, False]
    data_set(file, max_flawed=0.06).prepare(tmp_path, NO, None, 0)


def test_labels_in_other_forms_and_ends_of_line():
    row, mended = parse_row("STUDENT : a\r\nTeachers: b\r\n**Student:** c\r\nd\r\n", "", "Professor: e\r\n")
    assert [turn.text for turn in row.turns] == ["a", "b", "c\nd", "e"]
    assert not mended


# ---- conversations ----


def parsed(rows: list[tuple[str, str, str]]) -> list[SeedRow]:
    return [parse_row(*row)[0] for row in rows]


def test_growing_prompts_become_one_conversation():
    said = dialogue(4)
    rows = [*cut(*said), *cut(*dialogue(7), at=(3, 1)), cut(*said, at=(3,))[0]]
    conversations, places = put_together(parsed(rows))
    assert [[turn.text for turn in one.turns] for one in conversations] == [said, dialogue(7)[:4]]
    assert places == [[1, 3, 5], [1, 3]]


def test_rows_cut_at_other_places_are_of_the_same_conversation():
    rows = [*cut(*dialogue(4), at=(5,)), *cut(*dialogue(4), at=(1,))]
    conversations, places = put_together(parsed(rows))
    assert len(conversations) == 1
    assert places == [[1, 5]]


def test_ids_depend_on_the_words_alone():
    rows = [*cut(*dialogue(4)), *cut(*dialogue(7))]
    forwards, backwards = (put_together(parsed(order))[0] for order in (rows, rows[::-1]))
    assert {(one.id, one.problem_id) for one in forwards} == {(one.id, one.problem_id) for one in backwards}


def test_one_problem_told_twice_and_one_opening_are_each_one_problem():
    statement = dialogue(4)[0]
    rows = [
        *cut(statement, "What now?"),
        *cut("Professor, please help me.", "With what?", f"It says: so. {statement}", "What now?"),
        *cut("Professor, please help me.", "Gladly!", "It is a long story of 5 ducks on two ponds with no end.", "So?"),
        *cut(*dialogue(7)),
    ]
    conversations, _ = put_together(parsed(rows))
    ids = [one.problem_id for one in conversations]
    assert ids[0] == ids[1] == ids[2] != ids[3]


def test_two_bad_answers_to_one_turn_are_two_pairs(tmp_path: Path):
    rows = [*cut(*dialogue(4), bad="One."), *cut(*dialogue(4), at=(1,), bad="Two."), *cut(*dialogue(4), at=(1,))]
    data_set(write(tmp_path / "seed.csv", rows)).prepare(tmp_path, NO, None, 0)
    assert Counter(pair.rejected[0]["content"] for pair in made(tmp_path)) == {"One.": 3, "Two.": 1}


# ---- pairs ----


@pytest.fixture
def rows() -> list[tuple[str, str, str]]:
    return [row for number in range(2, 40) for row in cut(*dialogue(number))]


def test_problems_that_are_equal_but_for_numbers_are_on_one_side(tmp_path: Path):
    asked = "How many buns are in {} boxes of {} buns that a shop sells?"
    opening = [f"I like {colour} {thing}, and I am stuck." for colour in COLOURS for thing in THINGS]
    rows = [row for n in range(20) for row in cut(opening[n], "On what?", asked.format(n, n + 1), "What do you try?")]
    rows += [row for n in range(20, 40) for row in cut(opening[n], "On what?", dialogue(n)[0], "So?")]
    facts = data_set(write(tmp_path / "seed.csv", rows)).prepare(tmp_path, NO, None, 0).facts
    sides: dict[bool, set[str]] = {}
    for pair in made(tmp_path):
        if pair.turn:
            sides.setdefault("buns" in pair.prompt[2]["content"], set()).add(pair.split)
    assert len(sides[True]) == 1
    assert sides[False] >= {"train", "test"}
    assert facts["variants"] == "20 problems are variants of 1, equal but for numbers, kept on one side of the split"


def test_turns_that_are_passed_over_are_told(tmp_path: Path):
    said = ["What is 3 times 4?", "What is 3 + 3?", "6", "Six.", "9", "And one more?", "12", "Yes."]
    file = write(tmp_path / "seed.csv", cut(*said, at=(1, 7)))
    keys = {"turns": 1, "must_ask": True}
    facts = data_set(file, **keys).prepare(tmp_path, NO, None, 0).facts
    assert facts["turns passed over"] == "3 of 4 (does not ask 2, more than 1 of a conversation 1)"
    facts = data_set(file, turns="all", limit=1).prepare(tmp_path, NO, None, 0).facts
    assert facts["turns passed over"] == "3 of 4 (beyond dataset.limit 3)"
    assert "turns passed over" not in data_set(file, turns="all").prepare(tmp_path, NO, None, 0).facts


def test_empty_bad_answers_are_filled_and_given_ones_kept(rows: list[tuple[str, str, str]], tmp_path: Path):
    rows[4] = (rows[4][0], "Teacher: It is 3, of course.", rows[4][2])
    data_set(write(tmp_path / "seed.csv", rows)).prepare(tmp_path, NO, None, 0)
    pairs = made(tmp_path)
    assert len(pairs) == len(rows)
    kinds = {pair.rejected[0]["content"]: pair.rejection for pair in pairs}
    assert kinds == {"No.": "constant", "It is 3, of course.": "annotated"}
    (kept,) = [pair for pair in pairs if pair.rejection == "annotated"]
    assert kept.chosen[0]["content"] == "So what is one?"
    assert kept.turn == 1
    assert [message["role"] for message in kept.prompt] == ["user", "assistant", "user"]


def test_a_conversation_is_on_one_side(rows: list[tuple[str, str, str]], tmp_path: Path):
    data_set(write(tmp_path / "seed.csv", rows)).prepare(tmp_path, Irrelevant(), None, 0)
    pairs = made(tmp_path)
    sides = {}
    for pair in pairs:
        for key in (pair.conversation_id, pair.problem_id, pair.prompt[0]["content"]):
            sides.setdefault(key, set()).add(pair.split)
    assert all(len(found) == 1 for found in sides.values())
    assert {pair.split for pair in pairs} == {"train", "validation", "test"}
    # nor does a rejected turn come from the other side
    said = {pair.chosen[0]["content"]: pair.split for pair in pairs if pair.turn == 0}
    assert all(said.get(pair.rejected[0]["content"], pair.split) == pair.split for pair in pairs)


@pytest.mark.parametrize(
    ("keys", "places"),
    [
        ({}, [0, 3]),
        ({"turns": "all"}, [0, 1, 2, 3]),
        ({"turns": 3}, [0, 2, 3]),
        ({"turns": "all", "must_ask": True}, [0, 1, 2]),
        ({"turns": "all", "limit": 2}, [0, 1]),
    ],
)
def test_which_turns_become_pairs(keys: dict[str, Any], places: list[int], tmp_path: Path):
    said = ["What is 3 times 4?", "What is 3 + 3?", "6", "And 6 + 3?", "9", "And one more?", "12", "Yes."]
    file = write(tmp_path / "seed.csv", cut(*said, at=(1, 7)))
    data_set(file, **keys).prepare(tmp_path, NO, None, 0)
    assert [pair.turn for pair in made(tmp_path)] == places


def test_every_flawed_row_is_named_and_counted(tmp_path: Path):
    rows = [*cut(*dialogue(4)), ("", "", "Teacher: a"), ("Student: b", "", "What?"), ("Student: c", "", "")]
    told = data_set(write(tmp_path / "seed.csv", rows), max_flawed=0.5).prepare(tmp_path, NO, None, 0).facts
    assert told["rows"] == "6, 4 usable, at 4 different turns"
    assert told["rows left out"] == "2 (the prompt is empty: 1, the good answer is empty: 1)"
    assert str(told["rows mended"]).startswith("1 (the good answer begins without a label")
    named = [json.loads(line) for line in (tmp_path / "flawed_rows.jsonl").read_text().splitlines()]
    # the lines on which the rows begin: a dialogue's rows take 2, 4 and 6 lines, and the good answers one more each
    lines = (tmp_path / "seed.csv").read_text().splitlines()
    assert [(row["why"].split(",")[0], row["used"]) for row in named] == [
        ("the prompt is empty", False),
        ("the good answer begins without a label", True),
        ("the good answer is empty", False),
    ]
    assert [lines[int(row["where"].rpartition(":")[2]) - 1] for row in named] == [
        ",,Teacher: a",
        "Student: b,,What?",
        "Student: c,,",
    ]


def test_a_rejection_that_has_nothing_to_say_is_told(rows: list[tuple[str, str, str]], tmp_path: Path):
    with pytest.raises(UserError, match=r"rejection: DirectAnswer has nothing to say at any of 114 turns; .* fit"):
        data_set(write(tmp_path / "seed.csv", rows)).prepare(tmp_path, DirectAnswer(), None, 0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "seed.csv:1: no column 'Prompt', 'Good answer'"),
        (b"Prompt;Worse;Good answer\n", "none of its rows can be used"),
        (b"Dialogue;Bad answer;Good answer\n", "the columns here are Dialogue, Bad answer, Good answer"),
        (b"Prompt,Bad answer,Good answer\n", "none of its rows can be used"),
        (
            b"Prompt,Good answer\nStudent: caf\xe9,Teacher: b\n",
            r"seed.csv:2: not utf-8 \(byte 0xe9\).*encoding=latin-1",
        ),
        (b'Prompt,Good answer\nStudent: a,"Teacher: b' + b"x" * 140_000, "seed.csv:2: not CSV .* quotation mark"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(content: bytes, told: str, tmp_path: Path):
    (tmp_path / "seed.csv").write_bytes(content)
    with pytest.raises(UserError, match=f"^dataset.path: .*{told}"):
        data_set(tmp_path / "seed.csv").prepare(tmp_path, NO, None, 0)


def test_bom_crlf_latin_and_rows_of_other_lengths(tmp_path: Path):
    file = write(tmp_path / "seed.csv", [("Student: café", "", "Teacher: b"), ("only",)], encoding="latin-1")
    rows, flawed = read_seed_rows(file, "latin-1")
    assert rows[0].turns[0].text == "café"
    assert [(row.where.rpartition(":")[2], row.why) for row in flawed] == [("3", "1 fields, but 3 columns")]
    file.write_bytes(b"\xef\xbb\xbfPrompt,Good answer\r\n\r\nStudent: a,Teacher: b\r\n")
    rows, flawed = read_seed_rows(file)
    assert ([turn.text for turn in rows[0].turns], rows[0].bad, flawed) == (["a", "b"], "", [])


class Writer:
    """A generator that ends like a killed process after so many replies."""

    width = 1

    def __init__(self, stop: int = 1000) -> None:
        self.stop = stop
        self.asked: list[int] = []

    def __repr__(self) -> str:
        return "Writer()"

    def identity(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            if len(self.asked) == self.stop:
                raise KeyboardInterrupt
            self.asked.append(request.seed)
            yield index, Reply(f"It is {request.seed}.", "stop")


def test_a_killed_run_goes_on_and_another_recipe_begins_anew(rows: list[tuple[str, str, str]], tmp_path: Path):
    seeds, weak = data_set(write(tmp_path / "seed.csv", rows)), WeakModel(max_tokens=9)
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    seeds.prepare(tmp_path / "whole", weak, Writer(), 0)
    with pytest.raises(KeyboardInterrupt):
        seeds.prepare(tmp_path / "killed", weak, Writer(stop=50), 0)
    again = Writer()
    seeds.prepare(tmp_path / "killed", weak, again, 0)
    assert made(tmp_path / "killed") == made(tmp_path / "whole")
    # what was written is not asked for again, but for the group in which it was killed
    assert len(again.asked) <= len(rows) - 50 + 4
    # nothing is left to do, and another seed is another recipe
    seeds.prepare(tmp_path / "killed", weak, Writer(stop=0), 0)
    seeds.prepare(tmp_path / "killed", weak, Writer(), 1)
    assert len(made(tmp_path / "killed")) == len(rows)
    assert made(tmp_path / "killed") != made(tmp_path / "whole")


def test_pairs_of_generate_are_not_written_over(rows: list[tuple[str, str, str]], tmp_path: Path):
    (tmp_path / "generate_config.json").touch()
    with pytest.raises(UserError, match=r"^output_dir: .* holds the pairs of generate\.py"):
        data_set(write(tmp_path / "seed.csv", rows)).prepare(tmp_path, NO, None, 0)


# ---- the real rows ----


def test_the_shared_rows(shared_data: Callable[[str], Path], tmp_path: Path):
    file = shared_data("seed_dataset.csv")
    rows, flawed = read_seed_rows(file)
    empty = sum(not row["Prompt"].strip() for row in csv.DictReader(file.open(newline="", encoding="utf-8")))
    assert sum(row.why == "the prompt is empty" for row in flawed) == empty
    assert len([row for row in flawed if not row.used]) < 0.02 * len(rows)
    conversations, places = put_together(rows)
    # three rows a conversation, which evenly spaced turns give again
    assert Counter(map(len, places))[3] > 0.85 * len(places)
    again = [evenly(range(1, len(one.turns), 2), 3) for one in conversations]
    assert sum(one == other for one, other in zip(again, places, strict=True)) > 0.9 * len(places)
    data_set(file).prepare(tmp_path, NO, None, 0)
    pairs = made(tmp_path)
    for key in ("conversation_id", "problem_id"):
        assert len({(getattr(pair, key), pair.split) for pair in pairs}) == len({getattr(pair, key) for pair in pairs})
    assert len({(p.prompt[0]["content"], p.split) for p in pairs}) == len({p.prompt[0]["content"] for p in pairs})


def test_column_names_are_found_whatever_their_case(tmp_path: Path):
    (tmp_path / "seed.csv").write_text(
        "PROMPT; good Answer ;Bad Answer\nStudent: Hi?;Teacher: Well?;Teacher: 5\n", encoding="utf-16"
    )
    rows, flawed = read_seed_rows(tmp_path / "seed.csv")
    assert flawed == []
    assert [([turn.text for turn in row.turns], row.bad) for row in rows] == [(["Hi?", "Well?"], "5")]
