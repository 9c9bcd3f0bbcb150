"""Whether a text states a gold answer: many notations that do and many that do not."""

import json
from fractions import Fraction

import pytest

from socratic_rl.notation.answers import concluded, ends_in, first_stated, states, values

STATED = [
    # digits and separators
    ("1250", "1,250"), ("1,250", "1250"), ("1 250 people", "1250"), ("1\u202f250", "1250"), ("10 000", "10000"),
    ("It is 1,250.", "1250"), ("1,00,000", "100000"), ("$2,520,000", "2520000"), ("12.", "12"), ("12!", "12"),
    ("**12**", "12"), ('"12"', "12"), ("(12)", "12"), ("12, right?", "12"), ("12. Well done!", "12"),
    ("27burgers", "27"),
    # decimals and signs
    (".5", "0.5"), ("0.50", ".5"), ("-5", "-5"), ("x = −5", "-5"), ("It's -5 degrees.", "-5"), ("negative five", "-5"),
    ("minus 5", "-5"), ("-$5", "-$5"), ("$-5", "-$5"), ("= - 5", "- 5"), ("10 - 5 = 5", "5"), ("10-5=5", "5"),
    # money
    ("$4.50", "$4.5"), ("4.50 dollars", "$4.50"), ("four dollars and fifty cents", "$4.50"), ("45 cents", "$0.45"),
    ("$0.45", "45 cents"), ("45¢", "$0.45"), ("45 cents", "0.45"), ("$0.45", "45"), ("100 cents", "$1"),
    ("rs. 500", "rs . 500"),
    ("500 rupees", "rs 500"), ("£5", "5 pounds"), ("US$20", "$20"), ("20", "$20"), ("$20", "20"), ("€7", "7 euros"),
    # percent
    ("25 percent", "25%"), ("25 per cent", "25 %"), ("1/4", "25%"), ("0.25", "25%"), ("a quarter", "25%"),
    ("25%", "1/4"),
    ("25%", "0.25"), ("25", "25%"), ("12.5%", "12.50 %"), ("twenty-five percent", "25%"),
    # fractions and mixed numbers
    ("3/4", "0.75"), ("3 / 4", "3/4"), ("¾", "3/4"), (r"\frac{3}{4}", "3/4"), (r"\(\dfrac{3}{4}\)", "0.75"),
    ("6/8", "3/4"),
    ("1½", "1.5"), ("1 1/2", "1.5"), ("1-1/2", "3/2"), ("5/2", "2 1/2"), (r"2\frac{1}{2}", "2.5"), ("2 and 1/2", "2.5"),
    ("3/4ths", "3/4"), ("1/3rd of it", "1/3"), ("one half", "1/2"), ("half of them", "0.5"), ("three quarters", "3/4"),
    ("two-thirds", "2/3"), ("a third", "1/3"), ("one and a half", "1.5"), ("two and three quarters", "2.75"),
    ("7/4", "7/4"),
    # ratios
    ("2:3", "2:3"), ("2 : 3", "2:3"), ("2 to 3", "2:3"), ("two to three", "2 : 3"), ("4:6", "2:3"), ("2/3", "2:3"),
    ("2:3", "2/3"), ("1:2:3", "1 : 2 : 3"), ("2:3", "2 to 3"), ("x/y = 6/4 = 3/2", "3 : 2"),
    # powers
    ("10^3", "1000"), ("10³", "1000"), ("5 × 10^3", "5000"), ("1.5 x 10^6", "1,500,000"), ("2^{10}", "2^10"),
    # words
    ("seven", "7"), ("Seven apples", "7"), ("twenty five", "25"), ("one hundred and five", "105"), ("a hundred", "100"),
    ("one thousand two hundred and fifty", "1250"), ("two million", "2000000"), ("1.5 million", "1500000"),
    ("60 million", "60,000,000"), ("seven point five", "7.5"), ("She has one apple.", "1"), ("The answer is one.", "1"),
    ("a dozen", "12"), ("3 dozen eggs", "36"), ("half a dozen", "6"), ("3 dozen", "3 dozen"), ("zero", "0"),
    ("12", "twelve"),
    # units
    ("2 hours 30 minutes", "2.5 hours"), ("2 hours and 30 minutes", "150 minutes"), ("150 minutes", "2.5 hours"),
    ("90 min", "1.5 hours"), ("an hour and a half", "90 minutes"), ("half an hour", "30 minutes"), ("20ml", "20 ml"),
    ("5 feet 6 inches", "66 inches"), ("1.5 km", "1500 m"), ("a 20-foot rope", "20 feet"), ("12", "12 apples"),
    ("12 apples", "12"), ("12 apples", "12 apples"), ("60 km/h", "60 kmph"), ("60 miles per hour", "60 mph"),
    ("384 cm²", "384 cm 2"), ("384 square centimeters", "384 cm^2"), ("8 a.m.", "8 am"), ("8:00 am", "8 am"),
    ("80gb", "80"),
    # results of equations and work
    ("3 × 4 = 12", "12"), ("3*4=12", "12"), ("12 = 3 * 4", "12"), ("<<3*4=12>>12", "12"), ("#### 12", "12"),
    ("$12$", "12"),
    (r"\boxed{12}", "12"), ("Step 2: 12 + 3 = 15", "15"), ("1. Add them.\n2. You get 12.", "12"), ("x = 3", "3"),
    # rounded gold answers
    ("1.714285", "1.71"), ("12/7 = 1.714", "1.71"), ("3 1/3", "3.33"), ("33 1/3%", "33.3%"), ("66.67", "66.667"),
    # gold answers that are more than one number, or none
    ("it is 3", "x = 3"), ("x is 3 and y is 4", "x = 3, y = 4"), ("40 and 0", "( 40,0 )"), ("It was Monday.", "monday"),
    ("yes, it is", "Yes"), ("The answer is no.", "no"), ("5√2", "5 √ 2"), ("so x > 5", "x > 5"), ("12", "3 × 4 = 12"),
]  # fmt: skip

NOT_STATED = [
    # part of a larger number
    ("1,250", "250"), ("1250", "125"), ("112", "12"), ("12.5", "12"), ("12.5", "5"), ("$4.50", "4"), ("$4.50", "50"),
    ("1 250", "250"), ("10 000", "10"), ("1½", "1"), ("1 1/2", "1/2"), ("3/4", "3"), ("3/4", "4"), ("2:3", "2"),
    ("12:30", "12"),
    ("12:30", "0.4"), ("10^3", "10"), ("10^3", "3"), ("twenty-five", "20"), ("twenty-five", "5"), ("60 million", "60"),
    ("one hundred and five", "100"), ("2 hours 30 minutes", "30 minutes"), ("2 hours 30 minutes", "2 hours"),
    ("2.5", ".5"),
    # another value
    ("13", "12"), ("-5", "5"), ("5", "-5"), ("10-5", "-5"), ("0.45", "45"), ("500", "$5"), ("25%", "0.5"),
    ("0.25", "25"),
    ("2:3", "3:2"), ("from 2 to 3", "2/3"), ("3:4:5", "3:4"), ("1/3", "1/4"), ("", "12"), ("no number", "12"),
    # no value at all
    ("1. Add the numbers", "1"), ("1. Add.\n2. Multiply.", "2"), ("2. Add.\n3. Multiply.", "3"), ("step 2", "2"),
    ("Step two: multiply.", "2"), ("question 5", "5"), ("#5", "5"), ("May 5, 2024", "5"), ("12/25/2024", "25"),
    ("the 3rd of June", "3"), ("5th", "5"), ("the third box", "3"), ("the third box", "1/3"), ("5x", "5"),
    ("x^2", "2"), ("x2", "2"),
    ("version 1.2.3", "1.2"), ("this one is good", "1"), ("one of them", "1"), ("one more time", "1"),
    ("8 quarters", "2"),
    ("a two-step problem", "2"), ("a half-hearted try", "0.5"), ("30 seconds", "2"), ("no one", "1"),
    # not carried out
    ("72/8", "9"), ("What is 12 / 4?", "3"), ("What is 12/5?", "2.4"), ("2^3", "8"), ("What is 5 + 3?", "5"),
    ("3 × 4 =", "4"),
    ("5 times 8", "8"), ("(25 + 10) x 3 = 105", "10"),
    # another unit
    ("12 apples", "12 km"), ("12 km", "12 apples"), ("12 km", "$12"), ("12 hours", "12 minutes"), ("12%", "12 km"),
    ("25%", "25 apples"), ("$12", "12 cents"), ("5 miles", "5 km"),
    # rounding that the gold answer does not ask for
    ("12.4", "12"), ("1.7", "1.71"), ("1.72", "1.71"), ("3.3", "3.33"), ("4.52", "4.5"), ("2", "1.71"), ("7.99", "8"),
    # gold answers that are more than one number, or none
    ("x is 3", "x = 3, y = 4"), ("Tuesday", "Monday"), ("Mondays are fun", "Monday"), ("I knew it yesterday", "yes"),
    ("there is no way", "no"), ("a good thing", "B"), ("5", "5 √ 2"), ("12", ""), ("12", "  "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer"), STATED)
def test_states(text: str, answer: str) -> None:
    assert states(text, answer)
    assert (
        states(f"Well, I worked it out. {text}", answer) or answer.lower() in ("yes", "no") or text[:2] in ("1.", "12")
    )


@pytest.mark.parametrize(("text", "answer"), NOT_STATED)
def test_does_not_state(text: str, answer: str) -> None:
    assert not states(text, answer)


SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SMALL += ["thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def spell(number: int) -> str:
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{SMALL[number % 10]}" if number % 10 else "")
    size, name = next((s, n) for s, n in ((10**6, "million"), (1000, "thousand"), (100, "hundred")) if number >= s)
    rest = number % size
    return f"{spell(number // size)} {name}" + (f"{' and' if size == 100 else ''} {spell(rest)}" if rest else "")


@pytest.mark.parametrize("number", [*range(1, 130), *range(130, 10**4, 97), *range(10**4, 10**7, 123_457)])
def test_every_spelling_of_a_whole_number_is_the_same_value(number: int) -> None:
    for text in (
        spell(number),
        spell(number).capitalize(),
        f"{number:,}",
        f"{number}.00",
        f"= {number}",
        f"{number} of them",
    ):
        assert values(text)[0] == number, text
    assert not states(f"{number + 1:,} {number}0 0.{number}5", str(number))


@pytest.mark.parametrize("over", range(1, 12))
@pytest.mark.parametrize("under", [3, 4, 7, 12])
def test_every_notation_of_a_fraction_is_the_same_value(over: int, under: int) -> None:
    whole, rest = divmod(over, under)
    if rest == 0:
        return
    mixed = f"{whole} {rest}/{under}" if whole else f"{rest}/{under}"
    for text in (mixed, mixed.replace(f"{rest}/{under}", rf"\frac{{{rest}}}{{{under}}}"), mixed.replace("/", " / ")):
        assert states(text, f"{over}/{under}"), text
        assert values(text) == [Fraction(over, under)]
        assert not states(text, f"{over + 1}/{under}")


def test_values_stand_in_order_and_leave_out_what_is_not_carried_out() -> None:
    assert values("Half of 30 is 15, so 15 + 2 = 17, a ratio of 2:3; 72/8 is not done.") == [Fraction(1, 2), 30, 15, 17]


def test_numbers_of_any_length_are_no_error() -> None:
    assert values("9" * 30) == [int("9" * 30)]
    assert values("9" * 20_000) == []
    assert values("1 1/0 and 3/0, 0:0, 0^-2") == [1]


# ---- before others ----


@pytest.mark.parametrize(
    ("text", "answer", "known", "first"),
    [
        ("So it is 12.", "12", ["What is 3 × 4?"], True),
        ("So it is 12.", "12", ["What is 3 × 4?", "I think twelve"], False),
        ("So it is 12.", "12 apples", ["There are a dozen."], False),
        ("That makes $20.", "20", ["He sells 20 candles."], True),
        ("That makes 20.", "20", ["He sells 20 candles."], False),
        ("That makes $100.", "100", ["It costs 100 cents."], True),
        ("It is 90 minutes.", "1.5 hours", ["I got 1.5 hours"], False),
        ("x is 3 and y is 4.", "x = 3, y = 4", ["x is 3"], True),
        ("x is 3 and y is 4.", "x = 3, y = 4", ["is it 3 and 4?"], False),
        ("Monday!", "Monday", ["on which day?"], True),
        ("Think again.", "12", ["What is 3 × 4?"], False),
    ],
)
def test_first_stated(text: str, answer: str, known: list[str], first: bool) -> None:
    assert bool(first_stated(text, answer, known)) is first


def test_a_conclusion_has_a_word_for_it_and_ends_in_the_answer() -> None:
    assert concluded("So the total should be 30 + 15 + 45 = 90 minutes, not 135.", "90")
    assert concluded("Look: which means there are 75 seeds.", "75")
    assert not concluded("You have 90 minutes for the third step.", "90")
    assert not concluded("So how do you go on from the 90 minutes?", "90")
    assert not concluded("Go back to 2 × 45 = 90, making sure that it holds.", "90")
    assert not concluded("So take the 90 minutes and add 15.", "90")


def test_a_text_ends_in_its_last_number() -> None:
    assert ends_in("First 5, then 7, so twelve apples!", "12")
    assert not ends_in("It is 12, because 5 plus 7.", "12")
    assert not ends_in("It is 12 km, so 5 apples.", "5 km")
    assert not ends_in("No idea.", "12")


# ---- real rows ----


def test_the_last_step_of_every_solution_states_its_answer(shared_data) -> None:
    rows = [json.loads(line) for line in shared_data("gsm8k_socratic.jsonl").read_text(encoding="utf-8").splitlines()]
    solved = [row["answer"].rpartition("\n#### ") for row in rows]
    stated = [states(steps.rpartition("** ")[2], answer) for steps, _, answer in solved]
    shifted = [states(steps.rpartition("** ")[2], f"{answer}7") for steps, _, answer in solved]
    assert sum(stated) / len(stated) > 0.99
    assert sum(shifted) / len(shifted) < 0.01
