"""evaluate.py on outside test sets, and without a tutor on people's labels."""

import json
from pathlib import Path
from typing import Any

from socratic_rl.core.files import write_jsonl
from socratic_rl.core.rows import read_rows
from tests.e2e.conftest import run


def reply(text: str, reveals: str, guides: str) -> dict[str, Any]:
    return {"response": text, "annotation": {"Revealing_of_the_Answer": reveals, "Providing_Guidance": guides}}


def dialogue(number: int, question: str) -> dict[str, Any]:
    return {
        "conversation_id": f"c{number}",
        "conversation_history": f"Tutor: The question is: {question}\n\xa0Student: I get 7.",
        "Ground_Truth_Solution": "3 * 4 = 12\n 12",
        "anno_llm_responses": {
            "A": reply("How many boxes are there?", "No", "Yes"),
            "B": reply("It is 12.", "Yes (and the answer is correct)", "No"),
        },
    }


def test_a_suite_is_scored_without_what_was_trained_on(trained: Path, data: Path, tmp_path: Path):
    known = next(row for _, row in read_rows(str(data / "pairs.jsonl")) if row["split"] == "train")
    rows = [dialogue(n, f"Ann has {n} boxes of 4 pens. How many pens has she?") for n in range(3)]
    write_jsonl(tmp_path / "mrbench.jsonl", [*rows, dialogue(9, known["prompt"][0]["content"])])
    suite = ["suite=mrbench", f"suite.path={tmp_path / 'mrbench.jsonl'}"]
    # what an evaluation leaves, whose page then shows the suite too
    (tmp_path / "evaluation.json").write_text(json.dumps({"metrics": [], "facts": {}}))
    said = {"problem_id": "p", "topic": "", "question": "Why?", "answer": "", "turn": 0, "reference": "", "base": ""}
    prompt = [{"role": "user", "content": "Why?"}]
    write_jsonl(
        tmp_path / "replies.jsonl", [{**said, "prompt": prompt, "tutor": "", "base_marks": {}, "tutor_marks": {}}]
    )
    done = run("evaluate.py", *suite, f"adapter={trained / 'adapter'}", f"output_dir={tmp_path}", "resamples=200")
    found = json.loads((tmp_path / "suites" / "mrbench.json").read_text(encoding="utf-8"))
    figures = {row["name"]: row for row in found["metrics"]}
    assert set(figures) == {"preference_accuracy", "ranking_accuracy", "log_ratio_margin"}
    assert all((row["n"], row["problems"]) == (3, 3) for row in figures.values())
    assert figures["preference_accuracy"]["base"] == 0.5
    assert found["facts"]["trained on"].startswith("1 of 4 pairs left out")
    # "It is 12." is always the shorter one, with fewer problems than a first word can be learned from
    assert found["facts"]["length alone"] == "AUC 1.00"
    assert found["facts"]["first word alone"].startswith("not measured")
    assert "mrbench: tutor against base, 3 pairs" in done.stdout
    assert "<h3>mrbench</h3>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_another_data_set_is_evaluated_on_without_what_was_trained_on(trained: Path, data: Path, tmp_path: Path):
    pairs = [row for _, row in read_rows(str(data / "pairs.jsonl"))]
    test = [row for row in pairs if row["split"] == "test"]
    # another split would have them on its test side
    moved = [row | {"split": "test"} for row in pairs if row["split"] == "train"]
    write_jsonl(tmp_path / "pairs.jsonl", [*moved, *test])
    write_jsonl(tmp_path / "problems.jsonl", [row for _, row in read_rows(str(data / "problems.jsonl"))])
    arguments = [f"adapter={trained / 'adapter'}", "dataset=socratic", f"dataset.path={tmp_path / 'pairs.jsonl'}"]
    limits = ["sampling.max_new_tokens=8", "resamples=100", f"output_dir={tmp_path / 'out'}"]
    done = run("evaluate.py", *arguments, *limits, COLUMNS="200")
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert found["metrics"][0]["n"] == len(test)
    assert f"{len(moved)} of {len(pairs) - sum(row['split'] == 'validation' for row in pairs)}" in done.stdout
    write_jsonl(tmp_path / "pairs.jsonl", moved)
    done = run("evaluate.py", *arguments, *limits, ok=False)
    assert done.returncode == 2
    assert "has no pair about a problem that" in done.stderr


def test_the_measures_are_compared_with_people_without_a_tutor(tmp_path: Path):
    write_jsonl(tmp_path / "mrbench.jsonl", [dialogue(n, "Ann has 3 boxes of 4 pens. How many?") for n in range(3)])
    said = {"questions": "yes", "reveal_answer": "no"}
    write_jsonl(tmp_path / "judged.jsonl", [{"prompt": "7", "output": "How many boxes?", "evaluation": said}])
    files = [f"suite.{key}={tmp_path / name}.jsonl" for key, name in (("mrbench", "mrbench"), ("judgements", "judged"))]
    done = run("evaluate.py", "suite=human_labels", *files, f"output_dir={tmp_path / 'out'}")
    rows = json.loads((tmp_path / "out" / "human_labels.json").read_text(encoding="utf-8"))
    figures = {(row["measure"], row["set"]): row for row in rows}
    assert {"measure", "set", "precision", "recall", "f1", "kappa", "n", "kappa_low", "kappa_high"} <= set(rows[0])
    assert figures["reveals_answer", "mrbench"]["kappa"] == 1
    assert figures["asks_question", "judgements"]["n"] == 1
    assert "reveals_answer" in done.stdout


def test_a_student_gains_or_not_by_talking_to_both(trained: Path, data: Path, tmp_path: Path):
    settings = ["suite.limit=2", "suite.attempts=1", "suite.turns=1", "suite.generator.width=2"]
    limits = ["suite.generator.max_tokens=24", "sampling.max_new_tokens=16", "resamples=100"]
    adapter = [f"adapter={trained / 'adapter'}", f"output_dir={tmp_path}"]
    done = run("evaluate.py", "suite=student_gain", *adapter, *settings, *limits, "suite.generator.n_threads=1")
    found = json.loads((tmp_path / "suites" / "student_gain.json").read_text(encoding="utf-8"))
    rows = {(row["name"], row["kind"]): row for row in found["metrics"]}
    assert {name for name, _ in rows} == {"solves_alone", "solves_after", "gain", "dialogue_reveals"}
    assert (rows["gain", "all"]["n"], rows["gain", "all"]["problems"]) == (2, 2)
    assert "SmolLM2" in found["facts"]["student"]
    tries = [row for _, row in read_rows(str(tmp_path / "suites" / "student_gain.jsonl"))]
    assert [turn["speaker"] for turn in tries[0]["tutor"]["dialogue"]][:2] == ["student", "teacher"]
    assert "student_gain: 2 at 2 held-out problems" in done.stdout
    # problems of another data set, none of which was trained on
    pairs = [row for _, row in read_rows(str(data / "pairs.jsonl")) if row["split"] == "train"]
    moved = [
        row | {"problem_id": "new", "prompt": [{"role": "user", "content": "3 * 4?"}], "split": "test"} for row in pairs
    ]
    write_jsonl(tmp_path / "pairs.jsonl", [moved[0], *(row | {"split": "test"} for row in pairs)])
    problem = {"id": "new", "question": "3 * 4?", "solution": "3 * 4 = 12", "answer": "12", "source": "own"}
    problems = [row for _, row in read_rows(str(data / "problems.jsonl"))]
    write_jsonl(tmp_path / "problems.jsonl", [*problems, problems[0] | problem])
    others = ["dataset=socratic", f"dataset.path={tmp_path / 'pairs.jsonl'}", "suite.generator.n_threads=1"]
    done = run("evaluate.py", "suite=student_gain", *adapter, *settings, *limits, *others)
    assert "student_gain: 1 at 1 held-out problems" in done.stdout
    write_jsonl(tmp_path / "problems.jsonl", problems)
    done = run("evaluate.py", "suite=student_gain", *adapter, *settings, *limits, *others, ok=False)
    assert "no problem with an answer was held out" in done.stderr
