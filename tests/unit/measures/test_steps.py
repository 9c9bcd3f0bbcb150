"""Where a dialogue stands in the worked solution; what a reply tells, hands over, invents, or asks in vain."""

from collections.abc import Sequence
from fractions import Fraction

import pytest

from socratic_rl.conversations import Starter
from socratic_rl.core.dialogue import Message, Problem, Step
from socratic_rl.measures.measured_reply import MeasuredReply
from socratic_rl.measures.operations import operations
from socratic_rl.measures.registry import marks_of
from socratic_rl.measures.steps import due_step, result
from tests.unit.measures.worked_problem import PROBLEM, STEPS


@pytest.fixture(scope="module")
def starter() -> list[Problem]:
    """The problems that come with the project."""
    return list(Starter(name="starter").read())


def marks(text: str, *turns: str, cut_off: bool = False) -> dict[str, bool | int | None]:
    """Of a reply after turns of student and teacher in turn, the problem first."""
    roles = ("user", "assistant")
    prompt: Sequence[Message] = [
        {"role": roles[number % 2], "content": turn} for number, turn in enumerate((PROBLEM, *turns))
    ]
    return dict(marks_of(MeasuredReply.of(text, "$4.80", PROBLEM, prompt, cut_off, STEPS)))


@pytest.mark.parametrize(
    ("work", "value"),
    [
        ("4 × $2.75 = $11.00", 11),
        ("So he is 12 years old.", 12),
        ("3 + 4 = 7, which is odd", 7),
        ("Let x be his age.", None),
        ("1,200 / 3 = 400 km", 400),
    ],
)
def test_the_result_of_a_step(work: str, value: int | None) -> None:
    assert result(work) == value


@pytest.mark.parametrize(
    ("said", "due"),
    [
        ([], 0),
        (["I don't know."], 0),
        (["The notebooks are $11."], 1),
        (["The notebooks are eleven dollars."], 1),
        # a wrong number is no result, whatever comes after
        (["The notebooks are $12."], 0),
        (["The pens come to $4.20."], 0),
        (["The notebooks are $11.", "And the pens $4.20"], 2),
        (["11 and 4.20, so 15.20"], 3),
        # solved
        (["She gets $4.80."], None),
        # another way: what is left after the notebooks is right, and in no worked step
        (["$20 - $11 = $9 is left."], None),
        # wrong working is no other way
        (["$20 - $11 = $8 is left."], 1),
    ],
)
def test_the_step_that_is_due(said: list[str], due: int | None) -> None:
    assert due_step(STEPS, PROBLEM, [PROBLEM, *said]) == due


def test_a_step_without_a_number_is_nobodys_next() -> None:
    steps = (Step(work="Let x be the price."), Step(work="x = 3"))
    assert due_step(steps, "What is x?", ["What is x?"]) == 1
    assert due_step((), "What is x?", ["What is x?"]) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("take 84 and subtract 4", 80),
        ("double forty", 80),
        ("one more than 79", 80),
        ("half of 12", 6),
        ("What is four times 2.75?", 11),
        ("20% of 50", 10),
        ("3 + 4 × 5", 23),
        ("subtract 4 apples from 10 apples", 6),
        ("5 less than 20", 15),
        ("divide 72 by 8", 9),
        ("$20 − $15.20", Fraction("4.8")),
        ("multiply the 4 notebooks by $2.75", 11),
    ],
)
def test_an_operation_with_all_its_operands(text: str, value: object) -> None:
    assert [found for _, found in operations(text)] == [value]


@pytest.mark.parametrize("text", ["5 of 6 apples", "At 2:30 he left.", "He has 3 apples and 4 pears.", "8 / 0"])
def test_what_is_no_operation(text: str) -> None:
    assert operations(text) == []


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("They cost $11.", "tells_step"),
        ("They cost eleven dollars.", "tells_step"),
        ("You take 4 times $2.75.", "tells_step"),
        ("Multiply 4 by 2.75.", "tells_step"),
        ("What is 4 × 2.75?", "hands_over"),
        ("How much is four times $2.75?", "hands_over"),
        ("Now calculate 4 × 2.75.", "hands_over"),
        ("Do they cost $17?", "invents"),
        ("She has 35 pens.", "invents"),
    ],
)
def test_what_a_first_reply_does(text: str, measure: str) -> None:
    does = marks(text)
    assert [name for name in ("tells_step", "hands_over", "invents") if does[name]] == [measure]
    assert does["helps"] is False


@pytest.mark.parametrize(
    "text",
    [
        "How much do the notebooks cost?",
        "How many notebooks does she buy, and at what price each?",
        "What do the 4 notebooks cost at $2.75 each?",
        "Suppose it were 10 notebooks: what would you do?",
        "There are 100 cents in a dollar. Does that help?",
        "Let's take two steps. First, what do the notebooks cost?",
    ],
)
def test_what_neither_tells_nor_hands_over_nor_invents(text: str) -> None:
    does = marks(text)
    assert not any(does[name] for name in ("tells_step", "hands_over", "invents"))


def test_what_the_student_derived_is_known() -> None:
    assert marks("Right, $11. What about the pens?", "The notebooks cost $11.", "Fine?", "$11")["tells_step"] is False
    assert marks("Right, $11. And the pens are $4.20.", "What do the notebooks cost?", "$11")["tells_step"] is True


@pytest.mark.parametrize(
    ("text", "said", "asks"),
    [
        ("How many notebooks does Amara buy?", "The pens are $4.20.", True),
        ("How much do the notebooks cost?", "The notebooks cost $11.", True),
        # the problem's own question, long before its last step
        ("How much change should she get?", "The notebooks cost $11.", True),
        ("How much change should she get?", "So 11 and 4.20 make 15.20.", False),
        # it was wrong, so it is asked again
        ("How much do the notebooks cost?", "The notebooks cost $12.", False),
        ("How did you get what the notebooks cost?", "The notebooks cost $11.", False),
        ("How many notebooks does Amara buy?", "I don't know what to do.", False),
        ("How much do the pens cost?", "The notebooks cost $11.", False),
    ],
)
def test_asking_what_is_known(text: str, said: str, asks: bool) -> None:
    assert marks(text, "What comes first?", said)["asks_known"] is asks
    assert marks(text)["asks_known"] is False


def test_a_reply_helps_where_it_points_at_the_due_step_alone_and_does_no_harm() -> None:
    assert marks("How much do the notebooks cost?")["helps"] is True
    assert marks("How much do the pens cost?")["helps"] is False
    assert marks("How much do the notebooks cost?", cut_off=True)["helps"] is False
    repeated = ("How much do the notebooks cost?", "I don't know.")
    assert marks("How much do the notebooks cost?", *repeated)["helps"] is False
    # nothing is due
    assert marks("Well done!", "And now?", "She gets $4.80.")["helps"] is None


@pytest.mark.parametrize(
    "text", ["Bananas fly over what?", "What would you do next?", "Are you sure?", "Go on.", "Can you explain?"]
)
def test_a_fixed_sentence_does_not_help(text: str) -> None:
    assert [marks(text)["helps"], marks(text, "What first?", "The notebooks cost $11.")["helps"]] == [False, False]


@pytest.mark.parametrize(
    "text",
    [
        "What is the answer to that?",
        "What is the answer to the question?",
        "What would you do next?",
        "What is the first step?",
        "How many are there?",
        "How much is that in all?",
        "What do you think about that?",
        "Are you sure about that?",
        "Bananas fly over what?",
    ],
)
def test_no_fixed_sentence_helps_at_the_beginning_of_the_starter_problems(text: str, starter: list[Problem]) -> None:
    helps = [
        marks_of(
            MeasuredReply.of(text, p.answer, p.question, [{"role": "user", "content": p.question}], False, p.steps)
        )["helps"]
        for p in starter
    ]
    assert len(helps) == 160
    assert helps.count(True) / len(helps) <= 0.05
