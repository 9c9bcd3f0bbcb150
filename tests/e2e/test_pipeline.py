"""What each command leaves, and what the next one makes of it."""

import csv
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.e2e.conftest import run, start, wait_for
from tests.wandb_files import read_run


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_generate_leaves_traceable_files(data: Path):
    problems = {row["id"]: row for row in rows(data / "problems.jsonl")}
    conversations = {row["id"]: row for row in rows(data / "conversations.jsonl")}
    pairs = rows(data / "pairs.jsonl")
    assert len(problems) == 24
    assert {"id", "question", "solution", "steps", "answer", "topic", "source"} <= set(next(iter(problems.values())))
    assert {"id", "problem_id", "turns", "accepted", "reasons", "provenance"} <= set(next(iter(conversations.values())))
    assert pairs
    for pair in pairs:
        assert {"prompt", "chosen", "rejected", "conversation_id", "problem_id", "turn", "rejection", "split"} <= set(
            pair
        )
        assert conversations[pair["conversation_id"]]["problem_id"] == pair["problem_id"]
        assert pair["prompt"][0] == {"role": "user", "content": problems[pair["problem_id"]]["question"]}
        assert pair["prompt"][-1]["role"] == "user"
        assert pair["chosen"][0]["content"] != pair["rejected"][0]["content"]
        assert pair["rejection"] == "direct_answer"
    sides = {}
    for pair in pairs:
        sides.setdefault(pair["problem_id"], set()).add(pair["split"])
    assert all(len(side) == 1 for side in sides.values())


def test_generate_writes_the_three_column_csv(data: Path):
    with (data / "pairs.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    pairs = rows(data / "pairs.jsonl")
    assert [row["Good answer"] for row in found] == [f"Teacher: {pair['chosen'][0]['content']}\n" for pair in pairs]
    assert found[0]["Prompt"].startswith("Student: ")


def test_the_same_command_again_changes_nothing(data: Path):
    before = {path.name: path.read_bytes() for path in data.glob("*.jsonl")}
    done = run(
        "generate.py",
        f"output_dir={data}",
        "rejection=direct_answer",
        "problems.limit=24",
        "splits=2",
        "csv=true",
    )
    assert {path.name: path.read_bytes() for path in data.glob("*.jsonl")} == before
    assert "pairs" in done.stdout


def test_train_leaves_an_adapter_that_learned_something(trained: Path):
    weights = load_file(trained / "adapter" / "adapter_model.safetensors")
    assert any(weights[name].abs().max() > 0 for name in weights if "lora_B" in name)
    made_from = json.loads((trained / "adapter" / "socratic_rl.json").read_text())
    assert made_from["model"]["name"] == "tiny-llama"
    assert made_from["held_out"]["eval_n"] > 0
    losses = [row["loss"] for row in rows(trained / "training_log.jsonl") if "loss" in row]
    assert len(losses) == 4
    assert {path.suffix for path in (trained / "adapter").iterdir()} == {".safetensors", ".json", ".jinja", ".md"}


def test_evaluate_leaves_figures_replies_and_a_page(evaluated: Path, data: Path):
    evaluation = json.loads((evaluated / "evaluation.json").read_text())
    metrics = evaluation["metrics"]
    assert {"name", "kind", "base", "tutor", "difference", "low", "high", "n"} <= set(metrics[0])
    figures = {(row["name"], row["kind"]): row for row in metrics}
    test = [row for row in rows(data / "pairs.jsonl") if row["split"] == "test"]
    assert figures["preference_accuracy", "all"]["n"] == len(test)
    # random weights end no reply, and of one that is cut off only what its end cannot change is measured
    row = figures["cut_off", "all"]
    assert row["n"] == len(test)
    assert row["difference"] == pytest.approx(row["tutor"] - row["base"]) == 0
    for name in ("asks_question", "reveals_answer", "speaks_for_student", "repeats_turn"):
        assert figures[name, "all"]["n"] < len(test)
    by_speaker = {(row["measure"], row["kind"], row["speaker"]): row for row in evaluation["figures"]}
    for speaker in ("fixed", "teacher"):
        assert by_speaker["asks_question", "all", speaker]["n"] == len(test)
        assert by_speaker["asks_question", "all", speaker]["value"] == 1
    assert by_speaker["helps", "all", "teacher"]["value"] > 0.8 > 0.3 > by_speaker["helps", "all", "fixed"]["value"]
    assert {row["against"] for row in evaluation["comparisons"]} >= {"base", "fixed", "teacher"}
    assert evaluation["facts"]["headline"].startswith("helps: ")
    replies = rows(evaluated / "replies.jsonl")
    assert {(row["conversation_id"], row["turn"]) for row in replies} == {
        (p["conversation_id"], p["turn"]) for p in test
    }
    assert all({"base", "tutor", "base_marks", "tutor_marks", "prompt"} <= set(row) for row in replies)
    assert "<svg" in (evaluated / "report.html").read_text(encoding="utf-8")


def test_each_command_is_a_run_and_the_artifacts_link_them(evaluated: Path, data: Path):
    generated = read_run(data, min(data.glob("wandb/offline-run-*")).name)
    runs = {}
    for file in evaluated.glob("wandb/offline-run-*"):
        found = read_run(evaluated, file.name)
        runs[next(r.run.job_type for r in found if r.HasField("run"))] = found
    assert set(runs) == {"train", "evaluate"}
    (dataset,) = artifacts(generated)
    (adapter,) = artifacts(runs["train"])
    (evaluation,) = artifacts(runs["evaluate"])
    assert json.loads(adapter.metadata)["inputs"] == [dataset.name]
    assert json.loads(evaluation.metadata)["inputs"] == [dataset.name, adapter.name]


def artifacts(records: list) -> list:
    found = [r.request.log_artifact.artifact for r in records if r.request.HasField("log_artifact")]
    found += [r.artifact for r in records if r.HasField("artifact")]
    return [artifact for artifact in found if artifact.type in {"dataset", "model", "evaluation"}]


def test_training_goes_on_from_a_checkpoint(trained: Path, tiny: list[str], tmp_path: Path):
    import shutil

    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copytree(trained / "checkpoints" / "checkpoint-2", folder / "checkpoints" / "checkpoint-2")
    run("train.py", *tiny, f"output_dir={folder}", "checkpoint=latest")
    whole, resumed = (json.loads((f / "adapter" / "socratic_rl.json").read_text()) for f in (trained, folder))
    assert resumed["held_out"] == pytest.approx(whole["held_out"], abs=1e-5)
    last = [[row["loss"] for row in rows(f / "training_log.jsonl") if "loss" in row][-1] for f in (trained, folder)]
    assert last[0] == pytest.approx(last[1], abs=1e-6)


def test_a_killed_generation_goes_on_and_ends_with_the_same_files(tiny_llama: Path, tmp_path: Path):
    arguments = [
        "generate.py",
        "conversations=roleplay",
        "generator=transformers",
        f"generator.model={tiny_llama}",
        "generator.max_tokens=16",
        "generator.width=1",
        "problems.limit=6",
        "stop_after=conversations",
        "wandb=disabled",
    ]
    run(*arguments, f"output_dir={tmp_path / 'whole'}")
    killed = tmp_path / "killed"
    process = start(*arguments, f"output_dir={killed}")
    partial = killed / "conversations.jsonl.partial"
    try:
        wait_for(lambda: partial.exists() and partial.read_bytes().count(b"\n") >= 2)
    finally:
        process.kill()
        process.wait()
    assert not (killed / "conversations.jsonl").exists(), "it ended before it was killed"
    run(*arguments, f"output_dir={killed}")
    for name in ("problems.jsonl", "conversations.jsonl"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
