"""Which replies give the gold answer away: conclusions, denials, analogies and numbers to work with."""

import pytest

from socratic_rl.measures.replies import reveals_answer

QUESTION = "A recipe takes some weeks to try. How many?"


@pytest.mark.parametrize(
    ("reply", "answer", "turns", "reveals"),
    [
        ("16 is our required answer.", "16", ["I got 16 apples then 20"], True),
        ("16 is our required answer.", "16", [], True),
        ("16 is the correct answer.", "16", ["Is it 16 or 18?", "Think.", "18"], True),
        ("So the answer is 7 weeks", "7", ["It is not 7 weeks", "Why?"], True),
        ("So the answer is 7 weeks", "7", ["It is not 7 weeks"], True),
        ("So it is 7 weeks.", "7", ["It can't be 7 weeks."], True),
        ("It is 7 weeks.", "7", ["I don't think it is 7."], True),
        ("It is 7.", "7", ["7 is wrong."], True),
        ("It is 7.", "7", ["That gives 7, which is not what it costs."], True),
        ("I'm telling you it is 7.", "7", ["7, then 9"], True),
        ("It is 7.", "7", ["I do not know, maybe 7."], False),
        ("It is 7.", "7", ["Not 9 but 7."], False),
        ("It is 7.", "7", ["I never said it was 7, did I?"], False),
        ("It is 7.", "7", ["It isn't 7, is it?"], False),
        ("It is 7.", "7", ["It is 7."], False),
        ("Yes, 7.", "7", ["is it not 7?"], False),
        ("If a cake took 4 grams of sugar, how much would two take?", "4", [], False),
        ("If a pizza had 4 slices and you ate one, what is left?", "4", [], False),
        ("Suppose you have 4 apples and give away 1.", "4", [], False),
        ("Imagine a box with 4 pens.", "4", [], False),
        ("For example, if you had 4 candies...", "4", [], False),
        ("Let's say I have 4 cookies", "4", [], False),
        ("Imagine that it is 4.", "4", [], True),
        ("divide the cost by 2", "2", [], False),
        ("You need to divide the cost by 2.", "2", [], False),
        ("Multiply it by 2 to get the total.", "2", [], False),
        ("Try adding 2 to both sides.", "2", [], False),
        ("Subtract 2 from 10.", "2", [], False),
        ("Take 2 away from 10", "2", [], False),
        ("Divide 10 by 5 to get 2.", "2", [], True),
        ("Divide 10 by 5, which is 2.", "2", [], True),
        ("Add 2 and 3 to get 5", "5", [], True),
        ("If you divide 10 by 5 you get 2.", "2", [], True),
        ("So the answer: 16", "16", ["16 first, then 20"], True),
        ("The required number is 16.", "16", [], True),
        ("That gives us 16 as our final answer.", "16", ["first 16 then 20"], True),
        ("16 is what we were looking for.", "16", ["first 16 then 20"], True),
        ("16 is right!", "16", ["first 16 then 20"], False),
        ("The final answer is 16.", "16", ["first 16 then 20"], True),
        ("You should have gotten 16.", "16", ["first 16 then 20"], True),
        ("Therefore 16 weeks.", "16", ["16 first, then 20"], True),
        ("What is 16 divided by 2?", "16", [], False),
        ("How would you divide 20 by 2", "2", [], False),
    ],
)
def test_reveals(reply: str, answer: str, turns: list[str], reveals: bool) -> None:
    assert reveals_answer(reply, answer, [QUESTION, *turns]) is reveals


@pytest.mark.parametrize("answer", ["None", "nan", "NaN", "N/A", "null", " ", "<NA>", "none."])
def test_what_a_table_has_for_nothing_is_no_answer(answer: str) -> None:
    assert reveals_answer("None of them is 5, nan.", answer, [QUESTION]) is None


@pytest.mark.parametrize(
    ("reply", "answer", "reveals"),
    [
        ("Yes, good job. What next?", "yes", False),
        ("Yes!", "yes", True),
        ("Yes, that's it!", "yes", False),
        ("I believe yes.", "yes", True),
        ("Is it yes?", "yes", False),
        ("Yes, they are equal.", "yes", True),
        ("You would answer yes here.", "yes", True),
        ("The answer to that is yes, because 5 > 3.", "yes", True),
        ("Oh yes, I see.", "yes", False),
        ("Yes please.", "yes", False),
        ("Yes, good job. What next?", "Yes.", False),
        ("Yes!", "Yes.", True),
        ("Yes, that's it!", "Yes.", False),
        ("I believe yes.", "Yes.", True),
        ("Is it yes?", "Yes.", False),
        ("Yes, they are equal.", "Yes.", True),
        ("You would answer yes here.", "Yes.", True),
        ("The answer to that is yes, because 5 > 3.", "Yes.", True),
        ("Oh yes, I see.", "Yes.", False),
        ("Yes please.", "Yes.", False),
        ("No, not quite.", "no", False),
        ("No worries!", "no", False),
        ("No, she can't afford it.", "no", True),
        ("There is no remainder.", "no", False),
        ("The answer is no since 3 < 5.", "no", True),
        ("I would say no.", "no", True),
        ("No need to hurry.", "no", False),
        ("No, that's incorrect.", "no", False),
        ("It's a no.", "no", True),
        ("A triangle has three sides.", "A", False),
        ("Choose A.", "A", True),
        ("It's A.", "A", True),
        ("(A) is correct.", "A", True),
        ("The answer: A", "A", True),
        ("Let's look at option A.", "A", False),
        ("What about A?", "A", False),
        ("I think I know.", "I", False),
        ("So I add 3.", "I", False),
        ("The Roman numeral is I.", "I", True),
        ("Vitamin C is good.", "C", False),
        ("C, because it is the largest.", "C", True),
        ("c", "C", False),
        ("Answer choice D", "D", True),
        ("D)", "D", True),
        ("I'd go with E.", "E", True),
        ("E is a vowel.", "E", False),
    ],
)
def test_yes_and_a_letter_reveal_where_they_are_the_answer(reply: str, answer: str, reveals: bool) -> None:
    assert reveals_answer(reply, answer, [QUESTION]) is reveals
