"""The judge against people: what is compared, what is counted, and whose calibration is taken."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.evaluation.human_agreement import Calibration, calibrate
from socratic_rl.evaluation.judge import Judge
from socratic_rl.evaluation.judged_replies import judge_replies
from tests.unit.evaluation.test_judge import Judging, fair, judge


def judgement(output: str, **said: Any) -> dict[str, Any]:
    people = {"questions": "yes", "on_topic": 5.0, "helpful": 5.0, "reveal_answer": "no", **said}
    return {"prompt": f"Student: about {output}", "output": output, "evaluation": people}


def dialogue(*texts: str) -> dict[str, Any]:
    labels = {"Revealing_of_the_Answer": "No", "Providing_Guidance": "To some extent", "Tutor_Tone": "Neutral"}
    return {
        "conversation_id": "d1",
        "conversation_history": "Tutor: The question is: What is 3 * 4?\n\xa0Student: 7",
        "Ground_Truth_Solution": "3 * 4 = 12\n 12",
        "anno_llm_responses": {text: {"response": text, "annotation": labels} for text in texts},
    }


def cases(folder: Path, mrbench: Sequence[Mapping[str, Any]] = (), judgements: Sequence[Mapping[str, Any]] = ()) -> Any:
    files = {}
    for name, rows in (("mrbench", mrbench), ("judgements", judgements)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[name] = str(path) if rows else None
    return list(Calibration(**files, limit=None).cases())


def test_a_reply_that_stands_alone_faces_its_labels(tmp_path: Path) -> None:
    bad = {"questions": "no", "on_topic": 1, "helpful": 1, "reveal_answer": "yes"}
    rows = [judgement("Why?"), judgement("How many?"), judgement("7", **bad), judgement("It is 12.", helpful=3.0)]
    one, _ = judge(fair)
    found = calibrate(one, cases(tmp_path, judgements=rows), resamples=200, seed=0)
    figures = {row.criterion: row.to_record() for row in found.criteria}
    assert list(figures) == ["asks", "on_topic", "helps", "reveals"]
    assert (figures["asks"]["agreement"], figures["asks"]["kappa"], figures["asks"]["n"]) == (0.75, 0.5, 4)
    # half a scale away, where by chance it would be half of one
    assert (figures["helps"]["agreement"], figures["helps"]["kappa"]) == (0.75, 0.75)
    assert figures["asks"]["shown_twice"] == 0
    assert found.answers[2]["people"] == [{"questions": "no", "on_topic": "1", "helpful": "1", "reveal_answer": "yes"}]


def test_replies_to_one_dialogue_are_shown_in_pairs(tmp_path: Path) -> None:
    first_only = {"reveals": "No", "guides": "Yes", "tone": "Neutral"}
    rest = dict.fromkeys(("identifies_mistake", "locates_mistake", "actionable", "coherent", "humanlike"), "No")
    one, generator = judge(
        lambda *_: {"A": first_only | rest, "B": {**first_only, "guides": "No"} | rest}, rubric="mrbench"
    )
    found = calibrate(one, cases(tmp_path, mrbench=[dialogue("a", "b", "c")]), resamples=200, seed=0)
    figures = {row.criterion: row.to_record() for row in found.criteria}
    # what people did not label is not compared
    assert list(figures) == ["reveals", "guides", "tone"]
    assert len(generator.asked) == 4
    assert "Teacher: The question is: What is 3 * 4?\nStudent: 7" in generator.asked[0].messages[0]["content"]
    # a yes and a no are, on average, what people say
    assert (figures["guides"]["agreement"], figures["guides"]["in_both_orders"]) == (1, 0)
    assert (figures["tone"]["in_both_orders"], figures["tone"]["shown_twice"]) == (4, 4)


def test_what_cannot_be_read_is_counted_and_not_compared(tmp_path: Path) -> None:
    one, _ = judge(lambda reply: "yes" if reply == "7" else fair(reply))
    rows = [judgement("Why?"), judgement("7"), judgement("12", questions="no")]
    found = calibrate(one, cases(tmp_path, judgements=rows), resamples=200, seed=0)
    assert [(row.n, row.unreadable) for row in found.criteria] == [(2, 1)] * 4
    assert found.criteria[0].kappa == 1
    assert [answer["raw"] for answer in found.answers][1] == "yes"


def test_only_the_first_dialogues_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "judgements.jsonl"
    path.write_text("".join(json.dumps(judgement(text)) + "\n" for text in "abc"), encoding="utf-8")
    limited = Calibration(mrbench=None, judgements=str(path), limit=2)
    assert [one.case.replies for one in limited.cases()] == [("a",), ("b",)]


def test_labels_that_do_not_fit_the_rubric_are_told(tmp_path: Path) -> None:
    one, _ = judge(fair)
    with pytest.raises(
        UserError, match=r"judgements\.jsonl:1: on_topic: the rubric has no label '3\.5'; it has '1', '2'"
    ):
        calibrate(one, cases(tmp_path, judgements=[judgement("Why?", on_topic=3.5)]), resamples=200, seed=0)
    with pytest.raises(UserError, match=r"people labelled nothing that judge\.rubric=socratic_llm asks"):
        calibrate(one, cases(tmp_path, mrbench=[dialogue("a", "b")]), resamples=200, seed=0)


REPLIES = [
    {
        "conversation_id": f"c{number}",
        "turn": 0,
        "problem_id": f"p{number}",
        "prompt": [{"role": "user", "content": "What is 3 * 4?"}],
        "answer": "12",
        "base": "It is 12.",
        "tutor": tutor,
        "earlier": [],
    }
    for number, tutor in enumerate(("Why?", "How many?", "7", "What is 3 * 4?"))
]


def test_scores_stand_beside_how_well_the_judge_agrees_with_people(tmp_path: Path) -> None:
    one, _ = judge(fair)
    found = calibrate(one, cases(tmp_path, judgements=[judgement("Why?"), judgement("7", questions="no")]), 200, 0)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"judge": one.identity(), "criteria": [row.to_record() for row in found.criteria]}))
    judged = judge_replies(one.model_copy(update={"calibration": str(path)}), REPLIES, seed=0, resamples=200)
    asks = judged.figures[0].to_record()
    assert (asks["name"], asks["base"], asks["tutor"], asks["n"], asks["problems"]) == ("judge/asks", 0, 0.75, 4, 4)
    assert asks["agreement"] == {"kappa": 1, "low": asks["agreement"]["low"], "high": 1, "n": 2}
    assert judged.facts["judge's calibration"].startswith(f"{path}: κ against people asks 1.00 (n 2), on_topic ")
    assert judged.facts["judge's answers"] == "8, of which 0 unreadable; 32 of 32 labels are the same in both orders"
    assert [row["shown"] for row in judged.answers[:2]] == [["base", "tutor"], ["tutor", "base"]]

    uncalibrated = judge_replies(one, REPLIES, seed=0, resamples=200)
    assert [figure.to_record()["agreement"] for figure in uncalibrated.figures] == [None] * 4
    assert uncalibrated.facts["judge's calibration"] == "not calibrated"


def test_every_round_is_judged_beside_the_base() -> None:
    one, generator = judge(fair)
    rounds = [row | {"earlier": [{"name": "round 1", "text": "It is 7."}]} for row in REPLIES]
    judged = judge_replies(one, rounds, seed=0, resamples=200)
    assert [row["shown"] for row in judged.answers[:4]] == [
        ["base", "round 1"],
        ["round 1", "base"],
        ["base", "tutor"],
        ["tutor", "base"],
    ]
    asks = judged.figures[0].to_record()
    assert (asks["base"], asks["earlier"][0]["value"], asks["tutor"]) == (0, 0, 0.75)
    assert "It is 7." in generator.asked[0].messages[0]["content"]


def test_what_cannot_be_read_is_scored_for_neither_side() -> None:
    one, _ = judge(lambda first, second: "" if first == "7" else fair(first, second))
    judged = judge_replies(one, REPLIES, seed=0, resamples=200)
    assert [figure.n for figure in judged.figures] == [3] * 4
    assert judged.figures[0].tutor == 1
    assert judged.facts["judge's answers"].startswith("8, of which 1 unreadable; 24 of 24")
    assert sum(row["labels"] is None for row in judged.answers) == 1


def test_the_calibration_of_another_judge_is_refused(tmp_path: Path) -> None:
    one, _ = judge(fair)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"judge": one.identity(), "criteria": []}))
    assert Judge(rubric="socratic_llm", generator=Judging(fair), calibration=str(path)).agreement() == {}
    with pytest.raises(UserError, match=r"another judge's: rubric: 'socratic_llm' → 'mrbench'; sha256: "):
        Judge(rubric="mrbench", generator=Judging(fair), calibration=str(path)).agreement()
    path.write_text(json.dumps({"judge": one.identity() | {"generator": {"kind": "openai"}}, "criteria": []}))
    with pytest.raises(UserError, match=r"another judge's: generator\.kind: 'openai' → 'scripted'$"):
        judge_replies(one.model_copy(update={"calibration": str(path)}), REPLIES, seed=0, resamples=200)
