"""Public data sets as they are published, by columns; what is bad in a row; what ends a worked solution."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.conversations.own_problems import JsonlProblems, final_answer
from socratic_rl.conversations.problems import GSM8K, Encoding, FlawedRow
from socratic_rl.core.component import Component
from socratic_rl.core.errors import UserError


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


LONG = "We add the numbers one after the other. " * 12

PUBLIC: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, str]]] = [
    (
        "SVAMP",
        {
            "ID": "chal-1",
            "Body": "There are 87 oranges in 2 bags.",
            "Question": "How many are in each?",
            "Answer": 43.5,
        },
        {"question": ["Body", "Question"], "answer": "Answer", "id": "ID"},
        {"question": "There are 87 oranges in 2 bags. How many are in each?", "answer": "43.5", "id": "chal-1"},
    ),
    (
        "SVAMP, whole numbers as pandas writes them",
        {
            "Body": "He has 8 pens.",
            "Question": "How many?",
            "Answer": 8.0,
            "Type": "Subtraction",
            "Equation": "( 8.0 - 0 )",
        },
        {"question": ["Body", "Question"], "answer": "Answer", "topic": "Type"},
        {"answer": "8", "topic": "Subtraction"},
    ),
    (
        "ASDiv",
        {
            "body": "Seven red apples and two green apples are in the basket.",
            "question": "How many apples?",
            "answer": "9 (apples)",
            "formula": "7+2=9",
            "solution_type": "Addition",
        },
        {"question": ["body", "question"]},
        {
            "question": "Seven red apples and two green apples are in the basket. How many apples?",
            "answer": "9 (apples)",
        },
    ),
    (
        "MATH",
        {
            "problem": "What is $1+1$?",
            "level": "Level 1",
            "type": "Algebra",
            "solution": r"We add: $1+1 = \boxed{\frac{4}{2}}$.",
        },
        {"question": "problem", "answer": "solution", "topic": "type"},
        {"answer": r"\frac{4}{2}", "topic": "Algebra", "solution": r"We add: $1+1 = \boxed{\frac{4}{2}}$."},
    ),
    (
        "MATH-500",
        {
            "problem": "What is $1+1$?",
            "solution": "So.",
            "answer": "2",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "t/1.json",
        },
        {"question": "problem", "topic": "subject", "id": "unique_id"},
        {"answer": "2", "id": "t/1.json", "solution": "So."},
    ),
    (
        "MetaMathQA",
        {
            "type": "GSM_Rephrased",
            "query": "How many?",
            "original_question": "Q",
            "response": f"{LONG}\n#### 110\nThe answer is: 110",
        },
        {"question": "query", "answer": "response"},
        {"answer": "110", "solution": LONG.strip()},
    ),
    (
        "MathInstruct",
        {"source": "data/CoT/aqua_rat.json", "output": f"{LONG}\nThe answer is 12 cm.", "instruction": "How long?"},
        {"question": "instruction", "answer": "output"},
        {"answer": "12 cm", "source": "data/CoT/aqua_rat.json"},
    ),
    (
        "OpenMathInstruct-2",
        {
            "problem": "How many?",
            "generated_solution": "So 5.",
            "expected_answer": "5",
            "problem_source": "augmented_math",
        },
        {"question": "problem", "answer": "expected_answer", "solution": "generated_solution"},
        {"answer": "5", "solution": "So 5.", "source": "own"},
    ),
    (
        "GSM8K as own problems",
        {"question": "How many?", "answer": "2+2 = <<2+2=4>>4\n#### 1,004"},
        {},
        {"answer": "1,004"},
    ),
    (
        "AQuA with its options in the question",
        {"question": "How fast?", "options": ["A)21 kmph", "B)8 kmph"], "rationale": "So B.", "correct": "B"},
        {"question": ["question", "options"], "answer": "correct", "solution": "rationale"},
        {"question": "How fast? A)21 kmph\nB)8 kmph", "answer": "B", "solution": "So B."},
    ),
    (
        "Alpaca",
        {"instruction": "Add the numbers.", "input": "2, 3", "output": "5"},
        {"question": ["instruction", "input"], "answer": "output"},
        {"question": "Add the numbers. 2, 3", "answer": "5"},
    ),
    (
        "BoolQ",
        {"question": "is ice cold", "answer": True, "passage": "Ice is cold."},
        {"solution": "passage"},
        {"answer": "true", "solution": "Ice is cold."},
    ),
    (
        "NQ-Open",
        {"question": "who wrote it", "answer": ["Ann"]},
        {},
        {"answer": "Ann"},
    ),
    (
        "AIME",
        {"ID": 2024, "Problem": "Find n.", "Solution": None, "Answer": 204},
        {"question": "problem", "answer": "answer"},
        {"answer": "204", "id": "2024", "solution": ""},
    ),
    (
        "numbers, nulls and steps of texts",
        {"question": "Q?", "answer": 5, "id": 17, "topic": None, "steps": ["2 + 3", " ", "= 5"], "extra": {"a": 1}},
        {},
        {"answer": "5", "id": "17", "topic": "", "solution": "2 + 3\n= 5"},
    ),
]


@pytest.mark.parametrize(("row", "columns", "expected"), [row[1:] for row in PUBLIC], ids=[row[0] for row in PUBLIC])
def test_public_sets_are_read_by_their_columns(
    row: dict[str, Any], columns: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    (problem,) = JsonlProblems(name="own", path=write(tmp_path / "r.jsonl", [row]), **columns).read()
    assert {key: getattr(problem, key) for key in expected} == expected


def test_a_csv_holds_numbers_and_lists_as_text(tmp_path: Path) -> None:
    with (tmp_path / "r.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerows(
            [["Question", " Answer ", "STEPS"], ["Q?", "5", '["2 + 3", "= 5"]'], ["R?", "6", "3 * 2\n= 6"]]
        )
    first, second = JsonlProblems(name="own", path=str(tmp_path / "r.csv")).read()
    assert [step.work for step in first.steps] == ["2 + 3", "= 5"]
    assert [step.work for step in second.steps] == ["3 * 2", "= 6"]


def test_columns_that_are_not_read_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": f"Q{n}?", "answer": n, "system": "x", "formula": "y"} for n in range(4)]
    list(JsonlProblems(name="own", path=write(tmp_path / "r.jsonl", rows)).read())
    assert [record.getMessage() for record in caplog.records] == ["own: columns that are not read: system, formula"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, r"no column 'question'; the columns are 'problem', 'final'; problems\.question=problem says"),
        ({"question": "problem"}, r"no column 'answer'; .*; problems\.answer=COLUMN says"),
        ({"question": ["problem", "body"], "answer": "final"}, r"no column 'body'"),
        (
            {"question": "problem", "answer": "final", "solution": "why"},
            r"no column 'why'; .*problems\.solution=COLUMN",
        ),
    ],
)
def test_a_column_that_is_not_there_is_told_with_its_key(columns: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [{"problem": "Q?", "final": "5"}])
    with pytest.raises(UserError, match=rf"^problems\.path: .*r\.jsonl:1: {told}") as caught:
        list(JsonlProblems(name="own", path=path, **columns).read())
    assert "\n" not in str(caught.value)


BAD_ROWS: list[tuple[str, str]] = [
    (json.dumps({"question": "Q?"}), "answer: is empty"),
    (json.dumps({"question": "Q?", "answer": None}), "answer: is empty"),
    (json.dumps({"question": "Q?", "answer": " "}), "answer: is empty"),
    (json.dumps({"question": "Q?", "answer": math.nan}), "answer: is empty"),
    (json.dumps({"question": "Q?", "answer": "None"}), "answer: is empty"),
    (json.dumps({"question": "Q?", "answer": math.inf}), "answer: is inf, not text or a number"),
    (json.dumps({"question": None, "answer": 5}), "question: is empty"),
    (json.dumps({"question": {"text": "Q?"}, "answer": 5}), "question: is of type dict, not text or a number"),
    (json.dumps({"question": "Q?", "answer": ["1", "2"]}), "answer: is of type list, not text or a number"),
    (json.dumps({"question": "Q?", "answer": LONG}), "answer: a text of more than 300 characters"),
    (json.dumps({"question": "Q?", "answer": "Well.\n####  "}), "answer: no final answer after ####"),
    (json.dumps({"question": "Q?", "answer": 5, "steps": 3}), "steps: is of type int, not a list"),
    (json.dumps({"question": "Q?", "answer": 5, "steps": [{"text": "a"}]}), "steps: one is an object without 'work'"),
    (json.dumps({"question": "Q?", "answer": 5, "dialogues": [[{"speaker": "cat", "text": "a"}]]}), "dialogues: "),
    (json.dumps({"question": "Q?", "answer": 5, "id": "good 0"}), "id: is that of another question before it"),
    ('{"question": "Q?", "answer": ', "not JSON"),
    ('["Q?", 5]', "a JSON object is needed, not list"),
    (r'{"question": "Q? \ud83d", "answer": "5"}', r"half a character (\ud83d"),
    ('{"question": "Q?", "answer": ' + "9" * 5000 + "}", "a number of too many digits"),
    ('{"question": "Q?", "answer": 5, "x": ' + "[" * 10_000 + "]" * 10_000 + "}", "JSON that is nested too deeply"),
]


@pytest.mark.parametrize(("line", "why"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_is_left_out_and_named_and_too_many_end_the_run(
    line: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [{"id": f"good {n}", "question": f"What is {n}?", "answer": n} for n in range(19)]
    path = write(tmp_path / "r.jsonl", good)
    with Path(path).open("a") as file:
        file.write(line + "\n")
    source = JsonlProblems(name="own", path=path)
    assert len(list(source.read())) == 19
    assert f"({path}:20)" in caplog.text
    assert why in caplog.text
    with pytest.raises(UserError) as caught:
        list(source.model_copy(update={"max_flawed": 0.04}).read())
    assert str(caught.value).startswith("problems.max_flawed: 1 of 20 rows cannot be used, more than the share of 0.04")
    assert f"{path}:20: {why}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Q?", "answer": "It is 4."},
        {"question": "Q?"},
        {"question": None, "answer": "#### 4"},
        {"question": ["Q?"], "answer": "#### 4"},
        {"question": {"text": "Q?"}, "answer": "#### 4"},
    ],
)
def test_gsm8k_goes_on_after_a_bad_row(row: dict[str, Any], tmp_path: Path) -> None:
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(30)]
    source = GSM8K(name="g", path=write(tmp_path / "g.jsonl", [*rows[:5], row, *rows[5:]]))
    assert len(list(source.read())) == 30
    assert sum(source.skipped.values()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", ("", "5")),
        ("x = 3\ny = 4", ("", "x = 3\ny = 4")),
        (r"\boxed{\text{(B)}}", ("", r"\text{(B)}")),
        (r"$\boxed{5}$.", ("", "5")),
        (r"First \boxed{3}, then \boxed{x^{2}}.", (r"First \boxed{3}, then \boxed{x^{2}}.", "x^{2}")),
        ("The answer is 5.", ("", "5")),
        ("So.\nTherefore, the final answer is: 5 cm", ("So.", "5 cm")),
        ("So. Answer: 3.5", ("So.", "3.5")),
        ("Add. #### 5\n", ("Add.", "5")),
    ],
)
def test_what_ends_a_worked_solution_is_its_answer(text: str, expected: tuple[str, str]) -> None:
    assert final_answer(text) == expected


def test_a_text_that_does_not_end_in_an_answer_is_none() -> None:
    with pytest.raises(FlawedRow, match="does not end in an answer"):
        final_answer(LONG)


class Encoded(Component):
    """Something with an encoding."""

    encoding: Encoding


@pytest.mark.parametrize("name", ["utf8", "UTF-16", "cp1252", "shift_jis"])
def test_encodings_of_text_are_known(name: str) -> None:
    assert Encoded(encoding=name).encoding == name


@pytest.mark.parametrize("name", ["latin-x", "rot13", "hex", "undefined"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no such encoding"):
        Encoded(encoding=name)
