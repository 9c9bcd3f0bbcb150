"""The judge-free measures, on written cases and against what people say of real replies."""

from collections.abc import Callable
from pathlib import Path

import pytest

from socratic_rl.evaluation import mrbench
from socratic_rl.measures.measured_reply import MeasuredReply
from socratic_rl.measures.registry import spans
from socratic_rl.measures.replies import (
    asks_question,
    questions,
    repeated_turn,
    repeats_turn,
    revealed,
    reveals_answer,
    speaks_for_student,
    students_part,
    word_count,
)
from socratic_rl.notation.spans import Span

# ---- asking ----


@pytest.mark.parametrize(
    "reply",
    [
        "How many apples are left?",
        "That's right! What is 24 / 4?",
        '"What did you use to find the value of x?"',
        "Good. Ask yourself: “What is asked for?”",
        "Let's see. 12 - 4 = ?",
        "So the whole is 100, and the part is?",
        "What is 12 times 3, okay?",
        "Could you explain how you got 5",
        "Can you see where the mistake is.",
        "Okay, tell me how many are left.",
        "Once you have that, tell me the total.",
        "Explain how you got 5.",
        "Hi Ayisha, please talk me through your solution",
        "Good how many teachers sang with them",
        "What is 24/4",
        "So 93 x 5 =",
        "The price of one is ____.",
        "Sure, what is it?",
        "Notice the 9. What place is third from the right?",
        "Do you see why we divide by 4?",
        "How many are left?\nStudent: I don't know.",
        "Teacher: How many are left?",
        "**What is 3 × 4?**",
        "She gave 3 away, so how many did she have before that",
        "If he has 4 days and 24 pages how many must he read each day",
        "Good, do you see where the 5 comes from",
        "The third costs $4, what is the total",
        "Start from the third box, what do you think.",
        "How are you calculating 120 ft?",
    ],
)
def test_asks(reply: str) -> None:
    assert asks_question(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Exactly, well done!",
        "The answer is 12.",
        "Think through each step.",
        "Let me tell you how it works.",
        "I will explain how we got 5.",
        "What you need is a fraction.",
        "When you add them, you get 12.",
        "Multiply 3 by 4, which is 12.",
        "That is how you do it.",
        "Any questions?",
        "Great! Do you have any other questions about this problem?",
        "You're welcome! Is there anything else you need help with?",
        "5 × 5 is 25. Does that make sense?",
        "The total is 40. Do you get it?",
        "Let's look at the numbers together, okay?",
        "The area is length times width, right?",
        "It costs 40 dollars, isn't it?",
        "Hi Riya, how are you?",
        "How are you doing today?",
        "You found what is asked, which is the sum of the two.",
        "Think about how many more she would need.",
        "Let's look again at why each box is counted twice.",
        'You asked "is it 12?", and it is.',
        "?",
        "It is 12.\nStudent: Is it 12?",
        "It is 12. Student: How did you get that?",
    ],
)
def test_does_not_ask(reply: str) -> None:
    assert not asks_question(reply)


# ---- revealing ----

QUESTION = "Tom has 7 boxes with 6 candles each and sells half of them at $1. How many dollars does he get?"


@pytest.mark.parametrize(
    ("reply", "answer", "turns", "reveals"),
    [
        ("He gets 21 dollars.", "21", [], True),
        ("He gets twenty-one dollars.", "$21", [], True),
        ("7 × 6 / 2 = 42 / 2 = 21", "21", [], True),
        ("Isn't it $21.00?", "21 dollars", [], True),
        ("How many candles are there?", "21", [], False),
        ("There are 42 candles.", "21", [], False),
        ("He gets 210 dollars or 2.1 or 121.", "21", [], False),
        ("Yes, 21 is right.", "21", ["Is it 21?"], False),
        ("Yes, $21 is right.", "21", ["I have twenty-one."], False),
        ("He has 7 boxes.", "7", [], False),
        ("He gets 21.", "21", ["There are 21 candles."], False),
        ("He gets $21.", "21", ["There are 21 candles."], True),
        ("What is 21 + 21?", "21", [], False),
        ("Step 1. Count the boxes.", "1", [], False),
    ],
)
def test_reveals(reply: str, answer: str, turns: list[str], reveals: bool) -> None:
    assert reveals_answer(reply, answer, [QUESTION, *turns]) is reveals


def test_nothing_can_be_revealed_without_a_gold_answer() -> None:
    assert reveals_answer("It is 12.", "", ["What is it?"]) is None
    assert reveals_answer("It is 12.", " ", ["What is it?"]) is None


@pytest.mark.parametrize(
    ("reply", "turns", "reveals"),
    [
        ("It takes 90 minutes.", [], True),
        (
            "So the total should be 30 + 15 + 45 = 90 minutes.",
            ["First 30, then 90 for the third, so 135 minutes."],
            True,
        ),
        ("You have 90 for the third step.", ["First 30, then 90 for the third, so 135 minutes."], False),
        ("So what comes after the 90?", ["First 30, then 90 for the third, so 135 minutes."], False),
        ("So the total is 90 minutes.", ["I get 90."], False),
        ("So the total is 90 minutes.", ["I get 90.", "How?", "No, I have 135."], True),
        ("Think again.", ["I get 135."], False),
    ],
)
def test_a_conclusion_reveals_what_was_an_intermediate_result(reply: str, turns: list[str], reveals: bool) -> None:
    assert reveals_answer(reply, "90", ["How long does it take?", *turns]) is reveals


# ---- other faults ----


@pytest.mark.parametrize(
    "reply",
    [
        "What is 3 × 4?\nStudent: It is 12.",
        "What is 3 × 4? Student: It is 12.",
        "What is 3 × 4?\n**Student:** It is 12.",
        "Good.\n\n### User:\nWhat next?",
        "Good. <|user|> What next?",
        "Well done! User: thanks",
        "What is 3 × 4?\n\nOh, I see! It is 12.\n\nGreat!",
        "What is 3 × 4?\n12\nGreat!",
        "How many are left?\nI think there are 5.",
    ],
)
def test_speaks_for_student(reply: str) -> None:
    assert speaks_for_student(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "What is 3 × 4?",
        "Teacher: What is 3 × 4?",
        "I see where you went wrong. What is 3 × 4?",
        "What is 3 × 4?\nI think you can do it.",
        "What is 3 × 4?\nHint: think of 3 groups.",
        "A student: that is who buys 12 books.",
        "Incorrect answer [STUDENT], but good try.",
        "Every student pays 12 dollars: how much is that?",
        "It is 12.\nI forgot to say: well done.",
    ],
)
def test_does_not_speak_for_student(reply: str) -> None:
    assert not speaks_for_student(reply)


@pytest.mark.parametrize(
    ("reply", "repeats"),
    [
        ("How many apples are left?", True),
        ("how many  apples are left", True),
        ("**How many apples are left?**", True),
        ("How many pears are left?", False),
        ("What is 3 × 4?", True),
        ("What is 3 × 5?", False),
        ("What is 3 + 4?", False),
        ("What is three × four?", False),
        ("First find the price of one ticket, then multiply it with how many people want to go in today.", True),
        ("First find the price of two tickets, then multiply them with 5 people that want to go.", False),
        ("", False),
    ],
)
def test_repeats_turn(reply: str, repeats: bool) -> None:
    earlier = [
        "How many apples are left?",
        "What is 3 × 4?",
        "First find the price of one ticket, then multiply it with how many people want to go there today.",
    ]
    assert repeats_turn(reply, earlier) is repeats
    assert not repeats_turn(reply, [])


def test_word_count() -> None:
    assert word_count("What is\n3 × 4?") == 5
    assert word_count("  ") == 0


# ---- where it stands ----


def marked(text: str, found: list[Span] | None) -> list[str]:
    return [text[start:end] for start, end in found or []]


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        ("Good start! What is 24 / 4? Think.", ["What is 24 / 4?"]),
        ("- How many?\n- How much?\n", ["How many?", "How much?"]),
        ('You said "is it 12?", so how many are left? Good.', ["so how many are left?"]),
        ("It’s 4.  So 93 x 5 =", ["So 93 x 5 ="]),
        ("How many?\nStudent: Is it 12?", ["How many?"]),
        ("How many are left  \nThink.", ["How many are left"]),
    ],
)
def test_the_sentences_that_ask(reply: str, asked: list[str]) -> None:
    assert marked(reply, questions(reply)) == asked


@pytest.mark.parametrize(
    ("reply", "answer", "given"),
    [
        ("He gets twenty-one dollars, so 21.", "$21", ["twenty-one dollars", "21"]),
        ("It is **42** apples.", "42", ["42"]),
        ("**In all it is 42 then**", "42", ["42"]),
        ("so \\frac{3}{4} is left", "3/4", ["\\frac{3}{4}"]),
        ("$\\boxed{1,200}$ it is", "1200", ["1,200"]),
        ("It takes 2 hours 30 minutes.", "2.5 hours", ["2 hours 30 minutes"]),
        ("That is an hour and a half.", "1.5 hours", ["an hour and a half"]),
        ("Some 1.5 million people", "1,500,000", ["1.5 million"]),
        ("It’s ½ of it, step 2.", "0.5", ["½"]),
        ("1. Add.\n2. He has 12 was it?", "12", ["12"]),
        ("The answer is: yes!", "yes", ["yes"]),
        ("Mix 2 to 3, then 5:4.", "5:4", ["5:4"]),
        ("There are 20 14/7 apples.", "20", ["20"]),
        ("You have 42 now.\nSo the total should be 42, not 40.", "42", ["42", "42"]),
    ],
)
def test_the_characters_that_give_the_answer(reply: str, answer: str, given: list[str]) -> None:
    assert marked(reply, revealed(reply, answer, ["How many?"])) == given


def test_only_the_conclusion_gives_away_what_was_known() -> None:
    reply = "You have 90 there. So the total should be 30 + 60 = 90 minutes, not 135."
    assert revealed(reply, "90", ["How long?", "First 90, so 135."]) == [(52, 62)]
    assert marked(reply, [(52, 62)]) == ["90 minutes"]


def test_the_part_of_the_student() -> None:
    reply = "What is 3 × 4?\n\n Oh, I see! It is 12. \nGreat! Why?\nI think so."
    assert marked(reply, students_part(reply)) == ["Oh, I see! It is 12.", "I think so."]
    reply = "Good. Student: It is 12.\nTeacher: Yes."
    assert marked(reply, students_part(reply)) == ["Student: It is 12.\nTeacher: Yes."]


def test_which_turn_is_repeated() -> None:
    assert repeated_turn("what is 3 × 4", ["Why?", "What is 3 × 4?", "What is 3 × 4?"]) == 1
    assert repeated_turn("How?", ["Why?"]) is None


def test_all_spans_of_a_reply() -> None:
    prompt = [{"role": "user", "content": "I get 7."}, {"role": "assistant", "content": "Is it 12?"}]
    found = spans(MeasuredReply.of("Is it 12?", "12", "What is 3 × 4?", prompt[:1]))
    assert found == {
        "asks_question": [(0, 9)],
        "reveals_answer": [(6, 8)],
        # there is no worked solution
        **dict.fromkeys(("tells_step", "hands_over", "asks_known", "invents")),
        "speaks_for_student": [],
        "repeats_turn": [],
    }
    found = spans(MeasuredReply.of("Is it 12?", "", "What is 3 × 4?", prompt))
    assert (found["reveals_answer"], found["repeats_turn"]) == (None, [(0, 9)])


def test_spans_lie_in_real_replies_and_hold_something(shared_data: Callable[[str], Path]) -> None:
    seen = 0
    for _, dialogue in mrbench.read(str(shared_data("mrbench.jsonl"))):
        for reply in dialogue.replies.values():
            turns = [{"role": "user", "content": turn.text} for turn in dialogue.turns]
            found = spans(MeasuredReply.of(reply.text, dialogue.answer, "", turns))
            for start, end in (span for places in found.values() for span in places or ()):
                assert 0 <= start < end <= len(reply.text)
                assert not reply.text[start].isspace()
                seen += 1
    assert seen > 100
