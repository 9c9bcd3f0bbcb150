"""The student's gain: who says what when, what counts as solved, and what a teacher that tells gains."""

from collections.abc import Sequence
from typing import Any

import pytest

from socratic_rl.dialogue import Message, Problem
from socratic_rl.generators import Request
from socratic_rl.student_gain import StudentGain, Try, compare
from tests.unit.scripted import Scripted

PENS = Problem(id="pens", question="Ann has 3 boxes of 4 pens.", solution="", answer="12 pens", source="test")
CARS = Problem(id="cars", question="5 rows of 6 cars.", solution="", answer="30", source="test")


class Student(Scripted):
    """Solves a problem as soon as its teacher has said "multiply" or the answer; in a dialogue it says "Hm."."""

    def __init__(self, in_dialogue: str = "Hm.") -> None:
        def say(request: Request) -> str:
            prompt = request.messages[-1]["content"]
            if "Work the problem out" not in prompt:
                return in_dialogue
            answer = "12" if "boxes" in prompt else "30"
            knows = "multiply" in prompt or f"It is {answer}" in prompt
            return f"3 and 4.\nThe answer is {answer if knows else 7}."

        super().__init__(say)


def gain(student: Student, **settings: Any) -> StudentGain:
    return StudentGain(
        **{"name": "student_gain", "generator": student, "attempts": 2, "turns": 2, "limit": None, **settings}
    )


def asks(dialogues: Sequence[list[Message]], seeds: Sequence[int]) -> list[str]:
    return ["Teacher: What could you multiply?"] * len(dialogues)


def tells(dialogues: Sequence[list[Message]], seeds: Sequence[int]) -> list[str]:
    return ["It is 12." if "boxes" in heard[0]["content"] else "Think!" for heard in dialogues]


def test_a_teacher_that_asks_and_one_that_tells() -> None:
    student = Student()
    tries = gain(student).tries([PENS, CARS], {"base": tells, "tutor": asks}, seed=0)
    assert len(tries) == 4
    rows = {(row["name"], row["kind"]): row for row in compare(tries, seed=0, resamples=200)}
    sides = {key: (row["base"], row["tutor"], row["n"], row["problems"]) for key, row in rows.items()}
    assert sides["solves_alone", "all"] == (0, 0, 4, 2)
    assert sides["solves_after", "all"] == (0.5, 1, 4, 2)
    assert sides["gain", "all"] == (0.5, 1, 4, 2)
    assert sides["dialogue_reveals", "all"] == (0.5, 0, 4, 2)
    # only the cars, whose answer nobody told
    assert sides["gain", "nothing revealed"] == (0, 1, 2, 1)


def test_a_dialogue_goes_on_in_turn_and_is_heard_before_the_second_attempt() -> None:
    student = Student()
    (one,) = gain(student, attempts=1).tries([PENS], {"tutor": asks}, seed=0)
    assert [(turn.speaker, turn.text) for turn in one.dialogues["tutor"]] == [
        ("student", PENS.question),
        ("teacher", "What could you multiply?"),
        ("student", "Hm."),
        ("teacher", "What could you multiply?"),
        ("student", "Hm."),
    ]
    alone, *replies, after = student.asked
    assert "talked about it with your teacher" not in alone.messages[0]["content"]
    assert "Teacher: What could you multiply?\nStudent: Hm.\nTeacher: What" in after.messages[0]["content"]
    # the same luck and the same persona alone and after
    assert alone.seed == after.seed
    assert one.persona in alone.messages[0]["content"]
    assert one.persona in after.messages[0]["content"]
    assert len({reply.seed for reply in replies}) == len(replies) == 2
    assert [message["role"] for message in replies[1].messages[-3:]] == ["user", "assistant", "user"]


def test_every_attempt_and_no_side_has_seeds_of_its_own() -> None:
    drawn: dict[str, list[int]] = {}

    def listens(name: str) -> Any:
        def teacher(dialogues: Sequence[list[Message]], seeds: Sequence[int]) -> list[str]:
            drawn.setdefault(name, []).extend(seeds)
            return ["Why?"] * len(dialogues)

        return teacher

    gain(Student(), attempts=3).tries([PENS, CARS], {"base": listens("base"), "tutor": listens("tutor")}, seed=0)
    assert drawn["base"] == drawn["tutor"]
    assert len(set(drawn["base"])) == 3 * 2 * 2


@pytest.mark.parametrize(("in_dialogue", "turns"), [("It is 12 pens.", 3), ("", 2)])
def test_a_dialogue_ends_with_the_answer_or_where_nothing_is_said(in_dialogue: str, turns: int) -> None:
    (one,) = gain(Student(in_dialogue), attempts=1).tries([PENS], {"tutor": asks}, seed=0)
    assert len(one.dialogues["tutor"]) == turns
    assert not one.reveals("tutor")


@pytest.mark.parametrize(
    ("said", "solved"),
    [
        ("3 * 4 = 12\nThe answer is 12.", True),
        ("The answer is: 12 pens in 3 boxes", True),
        ("So it is 12. The answer is 7.", False),
        ("The answer is 7. No, the answer is twelve.", True),
        ("3 * 4 = 12", True),
        ("12, so I take 12 - 3 = 9", False),
        ("The answer is\n", False),
        ("", False),
    ],
)
def test_what_is_told_as_the_answer_counts_or_else_the_last_number(said: str, solved: bool) -> None:
    assert Try(PENS, 0).solved(said) == solved
