"""Who speaks: labels of any language, on lines of their own or not; strangers are named; a line is said once."""

import json
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.conversations import Bridge, MathDial
from socratic_rl.conversations.annotated import annotated
from socratic_rl.conversations.transcripts import Labels, read_transcript, said_once, with_line_breaks
from socratic_rl.core.dialogue import Problem, Turn


def turns(text: str, *, labels: Labels | None = None, in_lines: bool = True) -> list[tuple[str, str]]:
    found = read_transcript(with_line_breaks(text), labels or Labels(), in_lines=in_lines)
    assert (found.before, found.left) == ("", None)
    return [(turn.speaker[0], turn.text) for turn in found.turns]


ABC = [("s", "a"), ("t", "b?"), ("s", "c")]


@pytest.mark.parametrize(
    "text",
    [
        "Student: a\nTeacher: b?\nStudent: c",
        "Human: a\nAI: b?\nHuman: c",
        "USER: a\n\nASSISTANT: b?\n\nUSER: c",
        "Schüler: a\nLehrerin: b?\nSchüler: c",
        "élève : a\nprofesseur : b?\nélève : c",
        "学生：a\n老师：b?\n学生：c",
        "Ученик: a\nУчитель: b?\nУченик: c",
        "الطالب: a\nالمعلم: b?\nالطالب: c",
        "Student 1: a\nTeacher 12: b?\nStudent 2: c",
        "Student (Ann): a\nMr. Lee (tutor): b?\nStudent (Bob): c",
        "**Student:** a\n__Teacher__: b?\n### Student: c",
        "[Student]: a\n<Teacher>: b?\n- Student: c",
        "[12:03] Student: a\n[12:04] Teacher: b?\n1. Student: c",
        "Student: a Teacher: b? Student: c",
        "学生：a 老师：b? 学生：c",
        "student: a\nteacher: b? student: c",
        "Student:a Teacher:b? Student:c",
        "Student: a<br>Teacher: b?<BR/>Student: c",
        "<p>Student: a</p><p>Teacher: b?</p><p>Student: c</p>",
        r"Student: a\nTeacher: b?\nStudent: c",
        r"Student: a\\nTeacher: b?\r\nStudent: c",
        "Student: a\rTeacher: b?\u2028Student: c",
        "Student: a_x000D_\nTeacher: b?_x000D_\nStudent: c",
        "Student: a|EOM|Teacher: b?|EOM|Student: c",
    ],
)
def test_usual_labels_and_breaks_are_known(text: str) -> None:
    assert turns(text) == ABC


def test_names_are_known_by_config() -> None:
    labels = Labels(student=["Anna", "Ben"], teacher="Mr. Lee")
    for text in ("Anna: a\nMr. Lee: b?\nBen: c", "anna: a\nMR. LEE : b?\n**ben**: c", "Anna: a Mr. Lee: b? Ben: c"):
        assert turns(text, labels=labels) == ABC
    # one's own name goes before the usual one
    assert turns("Tutor: a\nStudent: b", labels=Labels(student="Tutor", teacher="Student")) == [("s", "a"), ("t", "b")]


@pytest.mark.parametrize(
    "text",
    [
        r"Student: is \neq or \nu or \nabla a sign?",
        "Student: It opens at 8:00\nTime 8:15\nhttps://example.org",
        "Student: My notes:\nArea: 3 x 4\nStep 2: 12\nThe ratio is: 3\nSo what I think: 12",
        "Student: I asked what the tutors said about it",
        "Student: 3 boys: 4 girls\nx: 5",
    ],
)
def test_other_colons_are_no_labels(text: str) -> None:
    assert turns(text) == [("s", text.removeprefix("Student: "))]


def test_what_is_no_speaker_is_known_by_config() -> None:
    text = "Student: I need\nFlour: 3 cups"
    assert read_transcript(text, Labels(), in_lines=True).left == "Flour"
    assert turns(text, labels=Labels(neither=["flour"])) == [("s", "I need\nFlour: 3 cups")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Anna: a\nMr Lee: b", "Anna"),
        ("anna: a", "anna"),
        ("Student: a\nMr Lee: b\nStudent: c", "Mr Lee"),
        ("student: a\nlee: b\nstudent: c", "lee"),
        ("Student: a\nПетя: b", "Петя"),
        ("学生：a\n小明：b", "小明"),
        ("S: a\nT: b", "S"),
        ("Student: a. Student: b", "Student"),
        ("Student: i asked my teacher: what?", "teacher"),
    ],
)
def test_a_label_that_is_left_is_named(text: str, left: str) -> None:
    assert read_transcript(text, Labels(), in_lines=True).left == left


def test_where_one_side_speaks_nobody_else_begins_in_a_line() -> None:
    found = read_transcript("Teacher: Right. Student: I see!", Labels(), in_lines=False)
    assert (len(found.turns), found.left) == (1, "Student")


# ---- MathDial and Bridge ----


def mathdial(tmp_path: Path, *said: str, **keys: Any) -> MathDial:
    row = {"question": "Q?", "ground_truth": "4\n 4", "conversation": "|EOM|".join(said)} | keys
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return MathDial(name="d", path=str(tmp_path / "d.jsonl"))


@pytest.mark.parametrize(
    ("label", "profile"),
    [
        ("Jean-Luc", "Jean-Luc is a 7th grade student."),
        ("student", "Ann is a 7th grade student."),
        ("STUDENT ", "Ann is a 7th grade student."),
        ("Mary Ann", "Mary Ann is a 7th grade student."),
        ("D'Andre", ""),
        ("Élodie", None),
        ("O'Neil Jr.", "O'Neil Jr. is in grade 7."),
    ],
)
def test_a_label_of_any_form_is_a_speaker(label: str, profile: str | None, tmp_path: Path) -> None:
    said = ["Teacher: (focus)One?", f"{label}: Two: 2.", "teacher: (probing)Three?", f"{label}：Four."]
    (problem,) = mathdial(tmp_path, *said, student_profile=profile).read()
    (dialogue,) = problem.dialogues or ()
    assert [(turn.speaker[0], turn.text, turn.act) for turn in dialogue] == [
        ("t", "One?", "focus"),
        ("s", "Two: 2.", None),
        ("t", "Three?", "probing"),
        ("s", "Four.", None),
    ]


def test_turns_on_lines_of_their_own_are_turns(tmp_path: Path) -> None:
    said = "Teacher: (focus)One?\nAnd why: so?\nStudent: 1\n\nTeacher: (telling)Two.|EOM|Student: Oh."
    (problem,) = mathdial(tmp_path, said).read()
    (dialogue,) = problem.dialogues or ()
    assert [(turn.speaker[0], turn.text, turn.act) for turn in dialogue] == [
        ("t", "One?\nAnd why: so?", "focus"),
        ("s", "1", None),
        ("t", "Two.", "telling"),
        ("s", "Oh.", None),
    ]


@pytest.mark.parametrize(
    ("said", "profile", "stranger"),
    [
        (["Teacher: One?", "Ann: 1", "Narrator: He sighs.", "Teacher: Two?"], "Ann is in grade 7.", "'Narrator'"),
        (["Teacher: One?", "Ann: 1", "Ben: 2"], "", "'Ben'"),
        (["Teacher: One?", "Well, I do not know"], "Ann is in grade 7.", "'Well, I do not know'"),
    ],
)
def test_a_stranger_is_named(said: list[str], profile: str, stranger: str, tmp_path: Path) -> None:
    source = mathdial(tmp_path, *said, student_profile=profile)
    with pytest.raises(Exception, match=f"{stranger} speaks, neither teacher nor student by the record"):
        list(source.read())


def test_a_stranger_in_bridges_chats_is_named(tmp_path: Path) -> None:
    def said(*users: str) -> list[dict[str, str]]:
        return [{"user": user, "text": "What?"} for user in users]

    row = {"lesson_topic": "3.1.Money", "c_r": said("tutor"), "c_r_": said("tutor"), "c_revision": said("tutor")}
    rows = [row | {"c_id": f"{n}_1", "c_h": said(*users)} for n, users in enumerate((("student",), ("observer",)))]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = Bridge(name="b", path=str(tmp_path / "b.jsonl"))
    assert [problem.id for problem in source.read()] == ["0"]
    assert source.skipped == {"'observer' speaks, neither teacher nor student by the record": 1}


def test_mathdials_wrong_solution_is_in_the_opening_message(tmp_path: Path) -> None:
    wrong = "It is 2 + 3 = 5.\n 5"
    source = mathdial(
        tmp_path, "Teacher: (probing)How did you get 5?", "Ann: I added.", student_incorrect_solution=wrong
    )
    ((_, dialogue),) = annotated(next(source.read()))
    assert [turn.text for turn in dialogue] == ["Q?\nIt is 2 + 3 = 5.\n5", "How did you get 5?", "I added."]
    assert dialogue[0].speaker == "student"
    # a set without the column, and a row without the solution
    for keys in ({}, {"student_incorrect_solution": None}):
        source = mathdial(tmp_path, "Teacher: (probing)How?", "Ann: I added.", **keys)
        ((_, dialogue),) = annotated(next(source.read()))
        assert dialogue[0].text == "Q?"


# ---- said once ----


@pytest.mark.parametrize(
    ("text", "once"),
    [
        ("What is 2 + 3?\nwhat is 2+3?\n What  is 2 + 3?", "What is 2 + 3?"),
        ("Look.\nWhat is it?\n\nLook.\nWhat is it?", "Look.\nWhat is it?\n"),
        ("What is it? What is it? WHAT IS IT?", "What is it?"),
        ("What is 2 + 3?\nWhat is 2 + 4?", "What is 2 + 3?\nWhat is 2 + 4?"),
        ("No. Look: 3 + 3. Why? No.", "No. Look: 3 + 3. Why? No."),
        ("One  line,\n\nanother", "One  line,\n\nanother"),
    ],
)
def test_a_line_is_said_once(text: str, once: str) -> None:
    assert said_once(text) == once


def test_a_teachers_line_is_said_once_in_every_human_dialogue() -> None:
    asked = "What is 2?\nwhat is 2?\nWhat is 2?"
    dialogue = (Turn(speaker="teacher", text=asked, worse="No!\nno!"), Turn(speaker="student", text="2\n2"))
    problem = Problem(id="p", question="Q?", solution="", answer="2", source="x", dialogues=(dialogue,))
    ((_, said),) = annotated(problem)
    assert [(turn.text, turn.worse) for turn in said] == [("Q?", None), ("What is 2?", "No!"), ("2\n2", None)]
