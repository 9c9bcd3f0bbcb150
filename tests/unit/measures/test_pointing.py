"""Which step a reply points at, on problems of the starter set and on GSM8K's sub-questions."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from socratic_rl.measures.pointing import masked, points_at, probabilities
from tests.unit.measures.worked_problem import PROBLEM, STEPS


@pytest.mark.parametrize(
    ("reply", "step"),
    [
        ("How much do the four notebooks cost?", 0),
        ("What would all the pens come to?", 1),
        ("How much does she spend together?", 2),
        ("And what is her change from the bill?", 3),
    ],
)
def test_a_question_points_at_the_step_that_it_is_about(reply: str, step: int) -> None:
    assert points_at(reply, PROBLEM, STEPS) == (step,)


@pytest.mark.parametrize(
    "reply",
    [
        "Bananas fly over what?",
        "What would you do next?",
        "Can you explain your thinking?",
        "Are you sure?",
        "Go on.",
        "Why?",
        "",
    ],
)
def test_what_speaks_of_no_step_points_at_none(reply: str) -> None:
    assert points_at(reply, PROBLEM, STEPS) == ()


def test_the_annotated_question_is_material_of_its_step() -> None:
    steps = (STEPS[0].model_copy(update={"question": "What is on the first line of the receipt?"}), *STEPS[1:])
    assert points_at("What is on the receipt's first line?", PROBLEM, steps) == (0,)
    assert points_at("What is on the receipt's first line?", PROBLEM, STEPS) == ()


def test_probabilities_are_shares_and_none_without_steps() -> None:
    assert sum(probabilities("How much do the pens cost?", PROBLEM, STEPS)) == pytest.approx(1)
    assert probabilities("How much do the pens cost?", PROBLEM, ()) == ()
    assert points_at("How much do the pens cost?", PROBLEM, ()) == ()


def test_the_result_of_a_step_is_no_material() -> None:
    assert masked("The notebooks cost 4 × $2.75 = $11.00 in all") == "The notebooks cost 4 × $2.75   in all"
    assert masked("He is 12.") == "He is 12."


def test_it_finds_the_step_of_sub_questions_that_it_was_not_fitted_to(shared_data: Callable[[str], Path]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks" / "cards"))
        card = import_module("pointer").card
    rows = [json.loads(line) for line in shared_data("gsm8k_socratic.jsonl").read_text().splitlines()]
    measured = card(rows, fitted=False)
    assert measured["sub-questions"] > 1_000
    assert measured["accuracy"] >= 0.8
    assert measured["accuracy"] > measured["overlap alone"] + 0.05
