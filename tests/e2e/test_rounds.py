"""Another round on top of a tutor, and all rounds side by side."""

import json
import shutil
from pathlib import Path

from tests.e2e.conftest import run

REPLIES = ("dataset.n=3", "dataset.limit=6", "dataset.sampling.max_new_tokens=8", "sampling.max_new_tokens=8")
STEPS = ("dpo.max_length=2000", "dpo.max_steps=2", "dpo.per_device_train_batch_size=2", "samples=1")


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_two_rounds(trained: Path, data: Path, tmp_path: Path):
    first, second = trained / "adapter", tmp_path / "adapter"
    next_round = ("train.py", "experiment=next_round", *REPLIES, *STEPS, f"output_dir={tmp_path}")
    done = run(*next_round, f"adapter={first}")
    assert "pairs made" in done.stdout

    candidates = {(row["conversation_id"], row["turn"]): row for row in rows(tmp_path / "candidates.jsonl")}
    made = rows(tmp_path / "pairs.jsonl")
    own = [pair for pair in made if pair["rejection"] == "best_of_n"]
    assert own
    for pair in own:
        found = candidates[pair["conversation_id"], pair["turn"]]["replies"]
        scores = {reply["text"]: reply["score"] for reply in reversed(found)}
        assert len(found) == 3
        assert scores[pair["chosen"][0]["content"]] == max(scores.values())
        assert scores[pair["rejected"][0]["content"]] == min(scores.values())
    # the test side stays what it was
    test = [pair for pair in rows(data / "pairs.jsonl") if pair["split"] == "test"]
    assert [pair for pair in made if pair["split"] == "test"] == test

    assert {path.name for path in second.iterdir()} == {path.name for path in first.iterdir()}
    made_from = json.loads((second / "socratic_rl.json").read_text())
    assert made_from["previous"]["adapter"] == str(first)

    # a run that was killed keeps what was drawn, and draws the rest as it would have
    drawn = rows(tmp_path / "candidates.jsonl")
    kept = [drawn[0] | {"prompt": [{"role": "user", "content": "from before"}]}, *drawn[1:5]]
    killed = "".join(json.dumps(row) + "\n" for row in kept) + '{"conversation_id'
    (tmp_path / "candidates.jsonl").unlink()
    (tmp_path / "candidates.jsonl.partial").write_text(killed, encoding="utf-8")
    # it came to no tutor
    shutil.rmtree(second)
    run(*next_round, f"adapter={first}")
    assert rows(tmp_path / "candidates.jsonl") == [*kept, *drawn[5:]]

    sampled = ("sampling.max_new_tokens=8", "resamples=100", "limit=6")
    done = run("evaluate.py", f"adapter={second}", *sampled, f"sft={first}")
    assert "round 1" in done.stdout and "round 2" in done.stdout
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    # the first round stands in for a tutor by SFT alone, and says what it says as a round
    cut_off = {row["speaker"]: row["value"] for row in evaluation["figures"] if row["measure"] == "cut_off"}
    assert cut_off["sft"] == cut_off["round 1"]
    assert evaluation["facts"]["sft"].startswith(f"{first}: ") and "loss_type" in evaluation["facts"]["sft"]
    assert all(row["others"]["sft"]["text"] == row["earlier"][0]["text"] for row in rows(tmp_path / "replies.jsonl"))
    metrics = evaluation["metrics"]
    for row in metrics:
        assert [one["name"] for one in row["earlier"]] == ["round 1"]
        assert {"difference", "low", "high"} == set(row["step"])
    for reply in rows(tmp_path / "replies.jsonl"):
        assert [one["name"] for one in reply["earlier"]] == ["round 1"]
        assert set(reply["earlier"][0]["marks"]) == set(reply["tutor_marks"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "round 1" in page.lower()

    run("evaluate.py", f"adapter={second}", "prompt=How many is a dozen?", "sampling.max_new_tokens=4")
    run("export.py", f"adapter={second}", "check=false")
    assert (tmp_path / "gguf" / "adapter.gguf").exists()
