"""The student's gain: who says what when, what counts as solved, and what a teacher that tells gains."""

from collections.abc import Sequence
from typing import Any

import pytest

from socratic_rl.core.dialogue import Message, Problem
from socratic_rl.core.generator import Request
from socratic_rl.evaluation.student_gain import StudentGain, Try, compare
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
    rows = {(figure.name, figure.kind): figure for figure in compare(tries, seed=0, resamples=200)}
    sides = {key: (row.base, row.tutor, row.n, row.problems) for key, row in rows.items()}
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


TOLD = {
    "12 pens": (
        "12",
        "12 pens.",
        "twelve",
        "a dozen.",
        "**12**.",
        "\\(12\\).",
        "$12$.",
        "\\boxed{12}.",
        "$\\boxed{12}$ pens.",
        "12.0",
        "x = 12.",
        "3 * 4 = 12.",
        "**3 * 4 = 12**.",
        "3 x 4 = 12 pens.",
        "60 / 5 = 12.",
        "24 / 2, which is 12.",
        "60 - 48 = 12",
        "(3 + 3) * 2 = 12.",
        "2 * (3 + 3) = 12 pens.",
        "3 * 2 + 6 = 6 + 6 = 12.",
        "3 + 9 = 12 = 24 / 2.",
        "3 boxes of 4 pens = 12 pens.",
        "3 times 4 equals 12.",
        "3 plus 9, which makes 12.",
        "12, because 60 = 5 * 12.",
        "12 since 3 * 4 = 12 and not 7.",
        "12 (3 boxes of 4).",
        "12 pens in 3 boxes.",
        "12. I checked 24 / 2.",
        "12. I hope that the answer is right.",
        "12.\nI hope that the answer is right.",
        "12, I am not sure.",
        "12, not 7.",
        "not 7, it is 12.",
        "not 7 or 8 but 12.",
        "12 or a dozen.",
        "12 red or blue pens.",
        "12, as you can add or multiply 3 and 4.",
        "approx. 12 pens.",
        "that she has 12 pens and 7 pencils.",
    ),
    "3/4": ("3/4.", "0.75.", "three quarters.", "3/4 or 0.75.", "\\frac{3}{4}.", "6/8 = 3/4.", "75%."),
    "4/3": ("4/3.", "8/6 = 4/3."),
    "25%": ("25%.", "25 percent.", "1/4 or 25%.", "5 / 20 = 25%.", "0.25."),
    "-5": ("-5.", "minus 5.", "3 - 8 = -5."),
    "$1,200.50": ("$1,200.50.", "$1200.50, because …", "$1,000 + $200.50 = $1,200.50.", "1,200 dollars and 50 cents."),
    "1200": ("1,200.", "1 200.", "1.2 thousand.", "1,200, not 1,300.", "not 1,300, it is 1,200."),
    "90 minutes": ("1 hour and 30 minutes.", "1 hour, 30 minutes.", "1.5 hours or 90 minutes.", "90 min (1.5 hours)."),
    "3 and 4": ("3 and 4.", "x = 3, y = 4."),
    "3 or 4": ("3 or 4.",),
    "10 to 12": ("10 to 12.",),
    "2:3": ("2:3.", "2 : 3."),
    "5√2": ("5√2.",),
    "Monday": ("Monday.", "Monday, not Tuesday.", "Monday. I hope that the answer is right."),
    "Yes": ("yes.", "Yes, it is."),
}
NOT_TOLD = {
    "12 pens": (
        "not 12, it is 7.",
        "not 12.",
        "7 pens, not 12.",
        "7 out of 12 pens.",
        "between 10 and 12.",
        "between 12 and 14.",
        "12 or 13",
        "12, or 13.",
        "either 13 or 12.",
        "12 to 13.",
        "12-13.",
        "more than 12.",
        "12 * 2 = 24.",
        "12 + 2 = 14.",
        "7, because 12 - 5 = 7.",
        "7 (of 12).",
        "-12.",
        "12%.",
        "12.5.",
        "12,000 pens.",
        "12/5.",
        "1/12.",
        "12 km.",
        "not known.",
    ),
    "3/4": ("3 or 4.", "4/3.", "1/4, not 3/4."),
    "25%": ("75%, and 25% are left.",),
    "-5": ("5.", "5, not -5."),
    "$1,200.50": ("$1,200.", "$1."),
    "1200": ("not 1,200, it is 1,300.",),
    "90 minutes": ("1 hour, not 90 minutes.",),
    "3 and 4": ("3 or 4.", "3."),
    "Monday": ("not Monday.", "Monday or Tuesday."),
}


@pytest.mark.parametrize(
    ("answer", "told", "solved"),
    [(answer, one, True) for answer, all_ in TOLD.items() for one in all_]
    + [(answer, one, False) for answer, all_ in NOT_TOLD.items() for one in all_],
)
def test_the_first_number_told_is_the_answer_and_not_any(answer: str, told: str, solved: bool) -> None:
    problem = PENS.model_copy(update={"answer": answer})
    for begins in ("3 * 7 = 21.\nThe answer is ", "So the answer is: ", "**The answer is:** "):
        assert Try(problem, 0).solved(begins + told) == solved, begins
