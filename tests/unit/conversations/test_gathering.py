"""Rows about one question: all their dialogues are kept, and answers that contradict each other give no problem."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.conversations import GSM8K, Annotated, JsonlProblems, MathDial
from socratic_rl.conversations.gathering import contradict
from socratic_rl.conversations.problems import Source
from socratic_rl.core.errors import UserError

QUESTION = "How many is 2 + 2?"


def source(path: Path, rows: list[dict[str, Any]], kind: type[Source] = JsonlProblems, **keys: Any) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return kind(name="own", path=str(path), **keys)


def row(question: str = QUESTION, answer: str = "4", *said: str, **keys: Any) -> dict[str, Any]:
    problem = {"question": question, "solution": "2 + 2 = 4", "answer": answer, **keys}
    turns = [{"speaker": ("teacher", "student")[n % 2], "text": text} for n, text in enumerate(said)]
    return problem | ({"dialogues": [turns]} if said else {})


def test_dialogues_are_gathered_by_question(tmp_path: Path) -> None:
    rows = [
        row(QUESTION, "4", "What is 1 + 1?", "2", id="one"),
        row("How many is 3 + 3?", "6", "What is 3 + 2?", "5"),
        row("how many is  2 + 2?", "4.0", "And 3 + 1?", "4", id="two"),
        row(QUESTION, "", "Why?", "So."),
    ]
    own = source(tmp_path / "own.jsonl", rows)
    first, second = own.read()
    assert (first.id, first.answer, own.skipped) == ("one", "4", {})
    assert [[turn.text for turn in dialogue] for dialogue in first.dialogues or ()] == [
        ["What is 1 + 1?", "2"],
        ["And 3 + 1?", "4"],
        ["Why?", "So."],
    ]
    assert len(second.dialogues or ()) == 1
    conversations = list(Annotated().write([first, second], None, 0, ()))
    assert [conversation.id for conversation in conversations] == ["one/0", "one/1", "one/2", f"{second.id}/0"]


def test_a_row_without_an_answer_takes_that_of_another(tmp_path: Path) -> None:
    rows = [row(QUESTION, "", "Why?", "So.", id="one"), row(steps=[{"work": "2 + 2 = 4"}], id="two")]
    (problem,) = source(tmp_path / "own.jsonl", rows).read()
    assert (problem.id, problem.answer, len(problem.steps)) == ("one", "4", 1)
    assert len(problem.dialogues or ()) == 1


@pytest.mark.parametrize("said", [(), ("Why?", "So.")])
def test_answers_that_contradict_each_other_are_skipped_named_and_counted(
    said: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        row(QUESTION, "4", *said),
        row("Else?", "1", *said),
        row(QUESTION, "5", *said),
        row("how many is 2 + 2?", "4", *said),
    ]
    own = source(tmp_path / "own.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        assert [problem.question for problem in own.read()] == ["Else?"]
    assert own.skipped == {"the question of another row, whose answer differs": 3}
    assert ", ".join(f"{own.path}:{line}" for line in (1, 3, 4)) in caplog.text


def test_nor_does_any_other_source_keep_one_of_two_answers(tmp_path: Path) -> None:
    rows = [{"question": QUESTION, "answer": f"It is {n}.\n#### {n}"} for n in (4, 5)]
    with pytest.raises(UserError, match="no row gives a problem: the question of another row, whose answer differs"):
        list(source(tmp_path / "g.jsonl", rows, GSM8K).read())
    dials = [{"question": QUESTION, "ground_truth": f"{n}", "conversation": "Teacher: Well?"} for n in (4, 4, 5)]
    mathdial = source(tmp_path / "d.jsonl", [*dials, dials[0] | {"question": "Else?"}], MathDial)
    assert [problem.question for problem in mathdial.read()] == ["Else?"]


def test_a_limit_counts_problems_without_contradiction(tmp_path: Path) -> None:
    rows = [row(), row(QUESTION, "5"), row("One?", "1"), row("Two?", "2"), row("Three?", "3")]
    (tmp_path / "own.jsonl").touch()
    limited = source(tmp_path / "own.jsonl", rows, limit=2)
    assert [problem.question for problem in limited.read()] == ["One?", "Two?"]
    told = source(tmp_path / "d.jsonl", [row("One?", "1", "A?"), row("Two?", "2"), row("One?", "1", "B?")], limit=1)
    assert [len(problem.dialogues or ()) for problem in told.read()] == [2]


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("4", "4.0", False),
        ("4 cm", "4", False),
        ("1/2", "0.5", False),
        ("", "4", False),
        ("yes", "Yes", False),
        ("4", "5", True),
        ("yes", "no", True),
        ("4 cm", "4 kg", True),
    ],
)
def test_which_answers_contradict(one: str, other: str, differ: bool) -> None:
    assert contradict(one, other) == differ
