"""Measures against people's labels: what is read, how it is counted, and what real rows say."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.evaluation.human_agreement import HumanLabels, Judged, compare

PROBLEM = "Tutor: The question is: Ann has 3 boxes of 4 pens. How many pens has she?\xa0"


def reply(text: str, reveals: str, guides: str = "Yes") -> dict[str, Any]:
    labels = {"Revealing_of_the_Answer": reveals, "Providing_Guidance": guides, "Tutor_Tone": "Neutral"}
    return {"response": text, "annotation": labels}


def dialogue(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "conversation_id": f"d{number}",
        "conversation_history": f"{PROBLEM}\n\xa0Student: 3 + 4 = 7\n 7",
        "Data": "MathDial",
        "Ground_Truth_Solution": "3 * 4 = 12\n 12",
        "anno_llm_responses": {
            "A": reply("She has 12 pens.", "Yes (and the answer is correct)", "No"),
            "B": reply("How many pens are in 3 boxes?", "No"),
            "C": reply("She has 14 pens.", "Yes (but the answer is incorrect)", "To some extent"),
        },
        **changes,
    }


def judgement(output: str, asks: str) -> dict[str, Any]:
    said = {"questions": asks, "on_topic": 4.0, "helpful": 2.0, "reveal_answer": "no"}
    return {"prompt": f"Student: about {output}", "output": output, "evaluation": said, "score": 0.5}


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def figures(judged: Sequence[Judged]) -> dict[tuple[str, str], dict[str, Any]]:
    rows, _ = compare(judged, resamples=200, seed=0)
    return {(row.measure, row.set): row.to_record() for row in rows}


def test_each_measure_faces_its_label(tmp_path: Path) -> None:
    unsolved = dialogue(2, Ground_Truth_Solution="Not Available")
    mrbench = write(tmp_path / "mrbench.jsonl", [dialogue(), unsolved, dialogue(3)])
    asked = [judgement("How many?", "yes"), judgement("It is 5.", "no"), judgement("Think.", "yes")]
    judgements = write(tmp_path / "judgements.jsonl", asked)
    judged = list(HumanLabels(mrbench=mrbench, judgements=judgements).read())
    found = figures(judged)
    reveals = found["reveals_answer", "mrbench"]
    # a wrong answer gives nothing away, and where no gold answer is known nothing is measured
    assert (reveals["precision"], reveals["recall"], reveals["kappa"]) == (1, 1, 1)
    assert (reveals["n"], reveals["people"], reveals["dialogues"], reveals["without_answer"]) == (6, 2, 2, 3)
    asks = found["asks_question", "judgements"]
    assert (asks["precision"], asks["recall"], asks["n"]) == (1, 0.5, 3)
    nothing = found["reveals_answer", "judgements"]
    assert (nothing["n"], nothing["kappa"], nothing["without_answer"]) == (0, None, 3)
    assert ("asks_question", "mrbench") not in found


def test_the_dialogue_before_the_reply_is_known(tmp_path: Path) -> None:
    history = f"{PROBLEM}\n\xa0Student: 3 x 4 makes 12"
    path = write(tmp_path / "mrbench.jsonl", [dialogue(conversation_history=history)])
    judged = list(HumanLabels(mrbench=path, judgements=None).read())
    assert [row.before[-1] for row in judged] == ["3 x 4 makes 12"] * 3
    assert figures(judged)["reveals_answer", "mrbench"]["recall"] == 0


def test_the_replies_on_which_they_differ_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "judgements.jsonl", [judgement("How many?", "yes"), judgement("Think.", "yes")])
    _, differing = compare(list(HumanLabels(mrbench=None, judgements=path).read()), resamples=200, seed=0)
    told = [(row["measure"], row["where"], row["people"], row["reply"]) for row in differing]
    assert told[0] == ("asks_question", f"{path}:2", True, "Think.")
    assert len(told) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"anno_llm_responses": {"A": reply("12", "Maybe")}},
            r"A\.annotation\.Revealing_of_the_Answer: Input should be",
        ),
        ({"anno_llm_responses": {"A": {"response": "12"}}}, r"A\.annotation: Field required"),
        ({"anno_llm_responses": None}, r"nothing in column 'anno_llm_responses'"),
        ({"conversation_history": "Hello."}, r"conversation_history: has no line that begins with 'Tutor:'"),
    ],
)
def test_a_row_that_lacks_something_is_named(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mrbench.jsonl", [dialogue(), dialogue(2, **changes)])
    with pytest.raises(UserError, match=rf"mrbench\.jsonl:2: .*{told}"):
        list(HumanLabels(mrbench=path, judgements=None).read())


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [dialogue()])
    with pytest.raises(UserError, match=r"rows\.jsonl:1: no column 'prompt', 'output', 'evaluation'; the columns are"):
        list(HumanLabels(mrbench=None, judgements=path).read())


def test_a_file_is_needed() -> None:
    assert HumanLabels(mrbench=None, judgements=None).mistakes() == [
        "mrbench: a file is needed here, as suite.judgements, or as both"
    ]
    assert HumanLabels(mrbench="nowhere.jsonl", judgements=None).mistakes() == ["mrbench: nowhere.jsonl: no such file"]


# ---- real rows ----


@pytest.fixture(scope="module")
def real(shared_data: Callable[[str], Path]) -> dict[tuple[str, str], dict[str, Any]]:
    mrbench, judgements = (str(shared_data(f"{name}.jsonl")) for name in ("mrbench", "tutor_judgements"))
    return figures(list(HumanLabels(mrbench=mrbench, judgements=judgements).read()))


def test_asking_agrees_with_people(real: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert real["asks_question", "judgements"]["f1"] >= 0.94
    assert real["asks_question", "judgements"]["precision"] >= 0.95


def test_revealing_agrees_with_people(real: dict[tuple[str, str], dict[str, Any]]) -> None:
    row = real["reveals_answer", "mrbench"]
    assert (row["n"], row["without_answer"]) == (400, 153)
    assert row["kappa"] >= 0.85
    assert row["kappa"] > real["states_answer", "mrbench"]["kappa"] + 0.3
