"""evaluate.py with a judge: compared with people first, then beside the measures."""

import json
from pathlib import Path

from socratic_rl.core.files import write_jsonl
from socratic_rl.core.rows import read_rows
from tests.e2e.conftest import run

JUDGE = ("judge=socratic_llm", "judge.generator.width=2", "judge.generator.n_threads=1")


def test_a_judge_is_calibrated_and_scores_replies(trained: Path, tmp_path: Path):
    people = {"questions": "yes", "on_topic": 4.0, "helpful": 2.0, "reveal_answer": "no"}
    rows = [{"prompt": "Student: 7", "output": text, "evaluation": people} for text in ("Why?", "It is 12.")]
    write_jsonl(tmp_path / "judged.jsonl", rows)
    done = run(
        "evaluate.py",
        "suite=calibrate",
        *JUDGE,
        f"suite.judgements={tmp_path / 'judged.jsonl'}",
        f"output_dir={tmp_path / 'calibrated'}",
        "resamples=100",
    )
    assert "Judge against people" in done.stdout
    found = json.loads((tmp_path / "calibrated" / "calibration.json").read_text(encoding="utf-8"))
    assert found["judge"]["generator"]["model"].startswith("SmolLM2")
    assert [row["n"] for row in found["criteria"]] == [2] * 4

    evaluate = [
        f"adapter={trained / 'adapter'}",
        f"output_dir={tmp_path / 'evaluated'}",
        f"judge.calibration={tmp_path / 'calibrated' / 'calibration.json'}",
        "sampling.max_new_tokens=16",
        "resamples=100",
        "limit=2",
    ]
    done = run("evaluate.py", *evaluate, *JUDGE, COLUMNS="200")
    told = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text(encoding="utf-8"))
    judged = {row["name"]: row for row in told["metrics"] if row["name"].startswith("judge/")}
    assert list(judged) == ["judge/asks", "judge/on_topic", "judge/helps", "judge/reveals"]
    assert all(row["agreement"]["n"] == 2 and 0 <= row["base"] <= 1 for row in judged.values())
    assert "κ against people" in done.stdout
    assert not (tmp_path / "evaluated" / "judge.jsonl.partial").exists()
    answers = [row for _, row in read_rows(str(tmp_path / "evaluated" / "judge.jsonl"))]
    assert [row["shown"] for row in answers[:2]] == [["base", "tutor"], ["tutor", "base"]]

    refused = run("evaluate.py", *evaluate, "judge=mrbench", ok=False)
    assert refused.returncode == 2
    assert "is another judge's: rubric: 'socratic_llm' → 'mrbench'" in refused.stderr
