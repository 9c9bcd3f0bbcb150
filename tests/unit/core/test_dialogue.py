import pytest
from pydantic import ValidationError

from socratic_rl.core.dialogue import (
    PreferencePair,
    Turn,
    from_messages,
    merge_turns,
    parse_transcript,
    render_transcript,
    text_id,
    to_messages,
)

STUDENT = Turn(speaker="student", text="What is 2 + 2?")
TEACHER = Turn(speaker="teacher", text="What do you get\nif you count on?")


def test_a_dialogue_becomes_chat_messages_and_back():
    messages = to_messages([STUDENT, TEACHER])
    assert messages == [
        {"role": "user", "content": "What is 2 + 2?"},
        {"role": "assistant", "content": "What do you get\nif you count on?"},
    ]
    assert from_messages([{"role": "system", "content": "Tutor."}, *messages]) == [STUDENT, TEACHER]


def test_neighbouring_turns_of_one_speaker_become_one_message():
    more = Turn(speaker="student", text="I am lost.")
    assert merge_turns([STUDENT, more, TEACHER])[0].text == "What is 2 + 2?\nI am lost."
    assert [m["role"] for m in to_messages([STUDENT, more, TEACHER])] == ["user", "assistant"]


def test_a_transcript_is_read_back_as_it_was_written():
    assert parse_transcript(render_transcript([STUDENT, TEACHER])) == [STUDENT, TEACHER]


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Student: a\nTeacher: b", [("student", "a"), ("teacher", "b")]),
        ("**Tutor:** b\n  **Student**: a\nmore", [("teacher", "b"), ("student", "a\nmore")]),
        ("before\nTEACHER: b", [("teacher", "b")]),
        ("Students: a\nTeachers : b\nProfessor: c", [("student", "a"), ("teacher", "b"), ("teacher", "c")]),
        ("Student:\nTeacher: b", [("teacher", "b")]),
        ("Student: she said: Teacher: no", [("student", "she said: Teacher: no")]),
        ("no labels", []),
    ],
)
def test_transcripts_in_the_forms_that_models_write(text: str, turns: list[tuple[str, str]]):
    assert [(turn.speaker, turn.text) for turn in parse_transcript(text)] == turns


def test_an_id_depends_on_the_words_alone():
    assert text_id("How  many?") == text_id("how many?\n") != text_id("how much?")
    assert text_id("a", "b") != text_id("ab")


def test_a_pair_holds_the_turns_before_as_its_prompt():
    pair = PreferencePair.of(
        [STUDENT],
        "Count on?",
        "4.",
        conversation_id="c",
        problem_id="p",
        turn=0,
        rejection="direct_answer",
        split="test",
    )
    assert pair.prompt == to_messages([STUDENT])
    assert (pair.chosen[0]["content"], pair.rejected[0]["content"]) == ("Count on?", "4.")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_turn_must_say_something(text: str):
    with pytest.raises(ValidationError):
        Turn(speaker="teacher", text=text)
