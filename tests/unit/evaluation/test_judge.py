"""The judge: what it is asked, what counts as an answer, and what is made of both orders."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Request
from socratic_rl.evaluation.judge import Case, Judge, alike
from socratic_rl.evaluation.rubric import Rubric
from socratic_rl.generators import LlamaCpp, Transformers
from tests.unit.scripted import Scripted

GOOD = {"asks": "yes", "on_topic": "5", "helps": "5", "reveals": "no"}
BAD = {"asks": "no", "on_topic": "1", "helps": "1", "reveals": "yes"}
ANN = "Student: Ann has 3 boxes of 4 pens. How many pens has she?"


class Judging(Scripted):
    """Judges by a function of the replies that it is shown."""

    def __init__(self, judge: Callable[..., Any]) -> None:
        def say(request: Request) -> str:
            said = judge(*re.findall(r"^Reply [AB]: (.*)$", request.messages[0]["content"], re.MULTILINE))
            return said if isinstance(said, str) else json.dumps(said)

        super().__init__(say)


def labels(reply: str) -> dict[str, str]:
    return GOOD if reply.endswith("?") else BAD


def fair(*replies: str) -> dict[str, dict[str, str]]:
    return {name: labels(reply) for name, reply in zip("AB", replies, strict=False)}


def judge(by: Callable[..., Any], rubric: str = "socratic_llm") -> tuple[Judge, Judging]:
    generator = Judging(by)
    return Judge(rubric=rubric, generator=generator), generator


def test_two_replies_are_judged_in_both_orders() -> None:
    one, generator = judge(fair)
    first, second = one.judge([Case(ANN, ("It is 12.", "How many boxes?")), Case(ANN, ("Why?", "7"), "12")], seed=0)
    assert [answer.shown for answer in first.answers] == [(0, 1), (1, 0)]
    assert (one.quality(first, 0), one.quality(first, 1)) == (0, 1)
    assert (one.quality(second, 0), one.quality(second, 1)) == (1, 0)
    assert (one.score(first, 0, "reveals"), one.score(first, 1, "reveals")) == (1, 0)
    assert len(generator.asked) == 4
    text = generator.asked[2].messages[0]["content"]
    assert "Reply A: Why?" in text
    assert "which the student may not know: 12" in text
    assert ANN in text


def test_a_liking_for_one_place_cancels_out() -> None:
    one, _ = judge(lambda *_: {"A": GOOD, "B": BAD})
    for count in (2, 3, 4, 5):
        (verdict,) = one.judge([Case(ANN, tuple(map(str, range(count))))], seed=0)
        shown = [answer.shown for answer in verdict.answers]
        # each pair in both orders, so that neither place nor who stands beside it weighs
        assert [order[::-1] for order in shown[::2]] == shown[1::2]
        assert {reply for order in shown for reply in order} == set(range(count))
        assert len(shown) == count + count % 2
        assert [one.quality(verdict, reply) for reply in range(count)] == [0.5] * count
        assert verdict.labels(1, "asks") == ["no", "yes"]
        assert alike([verdict], ["asks", "helps"]) == (0, 4 * len(shown) // 2)


def test_labels_that_stay_in_both_orders_are_counted() -> None:
    # in one place everything is good, but for the last two
    one, _ = judge(lambda first, second: fair(first, second) if first in "34" else {"A": GOOD, "B": BAD})
    (verdict,) = one.judge([Case(ANN, ("0", "1", "3", "4"))], seed=0)
    assert alike([verdict], ["asks"]) == (2, 4)


def test_answers_of_a_run_that_ended_early_are_not_asked_again(tmp_path: Any) -> None:
    kept = tmp_path / "judge.jsonl"
    cases = [Case(ANN, ("It is 12.", "How many boxes?")), Case(ANN, ("Why?", "why?"))]

    def breaks(first: str, second: str) -> Any:
        if first == "It is 12.":
            raise UserError("gone", key="base_url")
        return fair(first, second)

    with pytest.raises(UserError, match=r"^judge\.generator\.base_url: gone"):
        judge(breaks)[0].judge(cases, seed=0, answers_path=kept)
    one, generator = judge(fair)
    found = one.judge(cases, seed=0, answers_path=kept)
    assert len(generator.asked) == 1
    assert found == judge(fair)[0].judge(cases, seed=0)
    # no lock or the like is left beside it
    assert [path.name for path in tmp_path.iterdir()] == ["judge.jsonl.partial"]
    # another seed asks anew
    again, generator = judge(fair)
    again.judge(cases, seed=1, answers_path=kept)
    assert len(generator.asked) == 4


def test_a_single_reply_is_judged_alone() -> None:
    one, generator = judge(fair)
    (verdict,) = one.judge([Case(ANN, ("How many boxes?",))], seed=0)
    assert one.quality(verdict, 0) == 1
    assert "Reply B" not in generator.asked[0].messages[0]["content"]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "A is better.",
        'Here you are: {"A": {}, "B": {}}',
        {"A": GOOD},
        {"A": GOOD, "B": {**BAD, "asks": "maybe"}},
        {"A": GOOD, "B": {**BAD, "on_topic": 1}},
        {"A": GOOD, "B": {**BAD, "why": "it tells"}},
        {"A": GOOD, "B": {key: label for key, label in BAD.items() if key != "helps"}},
    ],
)
def test_what_is_not_what_was_asked_for_is_kept_and_not_scored(said: Any) -> None:
    one, _ = judge(lambda first, second: said if first == "7" else fair(first, second))
    (verdict,) = one.judge([Case(ANN, ("7", "Why?"))], seed=0)
    assert [answer.labels is None for answer in verdict.answers] == [True, False]
    assert verdict.answers[0].raw == (said if isinstance(said, str) else json.dumps(said))
    assert [one.score(verdict, reply, "asks") for reply in (0, 1)] == [None, None]
    assert [one.quality(verdict, reply) for reply in (0, 1)] == [None, None]


def test_only_the_replies_that_an_unreadable_answer_was_about_go_without_a_score() -> None:
    one, _ = judge(lambda first, second: "?" if first == "1" else fair(first, second))
    (verdict,) = one.judge([Case(ANN, ("0", "1", "2", "3?"))], seed=0)
    assert [one.quality(verdict, reply) for reply in range(4)] == [None, None, 0, 1]


@pytest.mark.parametrize("rubric", ["socratic_llm", "mrbench"])
def test_the_rubrics_that_come_with_the_project_score_from_0_to_1(rubric: str) -> None:
    criteria = Rubric.read(rubric).criteria
    assert all({0, 1} <= set(criterion.scores.values()) for criterion in criteria.values())
    assert len(criteria) == {"socratic_llm": 4, "mrbench": 8}[rubric]
    assert criteria["reveals"].better == "less"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "name: own\ncriteria: {asks: {question: Asks, scores: {'yes': 1}}}",
            "asks.scores: .* at least 2",
        ),
        ("name: own\ncriteria: {asks: {scores: {'yes': 1, 'no': 0}}}", "criteria.asks.question: Field required"),
        ("name: own\ncriteria: {asks: {question: Asks, scores: {'yes': 2, 'no': 0}}}", "less than or equal to 1"),
        ("name: [", "not YAML"),
    ],
)
def test_a_rubric_of_ones_own_that_is_wrong_is_told(tmp_path: Any, text: str, told: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    one = Judge(rubric=str(path), generator=None)
    (mistake,) = one.mistakes()
    assert mistake.startswith(f"rubric: {path}: ")
    assert re.search(told, mistake)
    assert Judge(rubric="none", generator=None, calibration="gone.json").mistakes() == [
        "rubric: none: no such file, and no rubric that comes with the project",
        "calibration: gone.json: no such file; suite=calibrate leaves one",
    ]


def test_labels_need_no_quotation_marks(tmp_path: Any) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ncriteria: {asks: {question: Asks, scores: {yes: 1, no: 0, 3: 0.5}}}")
    assert Rubric.read(str(path)).criteria["asks"].scores == {"yes": 1, "no": 0, "3": 0.5}


@pytest.mark.parametrize("text", ['{"metrics": []}', "[]", '{"judge": {}, "criter', "\x00"])
def test_a_file_that_is_no_calibration_is_told(tmp_path: Any, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    one = Judge(rubric="mrbench", generator=None, calibration=str(path))
    assert one.mistakes() == [f"calibration: {path}: is no calibration; suite=calibrate leaves one"]


@pytest.mark.parametrize("temperature", [0, 1])
def test_transformers_is_held_to_the_form(tiny_llama: Any, temperature: float) -> None:
    # random weights, which write nothing of the kind by themselves
    settings: dict[str, Any] = {"revision": None, "dtype": "float32", "width": 4}
    generator = Transformers(model=str(tiny_llama), temperature=temperature, top_p=1, max_tokens=700, **settings)
    one = Judge(rubric="mrbench", generator=generator)
    (verdict,) = one.judge([Case(ANN, ("It is 12.", "How many boxes?"))], seed=0)
    assert all(answer.labels for answer in verdict.answers), [answer.raw for answer in verdict.answers]
    # a request without a form is not held to one, in the same batch
    held = one._request(Case(ANN, ("Why?",)), (0,), 0)
    free = Request(seed=1, messages=held.messages)
    replies = dict(generator.generate([held, free]))
    assert replies[0].text.startswith('{"A":{"')
    assert not replies[1].text.startswith("{")


def test_the_embedded_model_is_held_to_the_form() -> None:
    settings: dict[str, Any] = {"n_ctx": 1024, "width": 2, "n_threads": 1, "n_gpu_layers": 0}
    generator = LlamaCpp(model_path=None, temperature=0, top_p=0.9, max_tokens=256, **settings)
    one = Judge(rubric="socratic_llm", generator=generator)
    (verdict,) = one.judge([Case(ANN, ("It is 12.", "How many boxes?"), "12")], seed=0)
    assert all(answer.labels for answer in verdict.answers)
    # a prompt that leaves no room for the labels is counted with what cannot be read
    (verdict,) = one.judge([Case("Student: " + "why? " * 900, ("It is 12.",))], seed=0)
    assert verdict.answers[0].raw == ""
    assert one.quality(verdict, 0) is None
