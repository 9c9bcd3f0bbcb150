"""A training that was killed ends, by the same command, as one that was not."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import run
from tests.wandb_files import read_run

KILL = "lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)"
MOMENTS = {
    "between two checkpoints": f"""
from trl import DPOTrainer
step = DPOTrainer.training_step
def training_step(self, *args, **kwargs):
    if self.state.global_step == 3:
        ({KILL})()
    return step(self, *args, **kwargs)
DPOTrainer.training_step = training_step
""",
    "while a checkpoint is written": f"""
from transformers import TrainerState
save = TrainerState.save_to_json
TrainerState.save_to_json = lambda self, path: ({KILL})() if self.global_step == 4 else save(self, path)
""",
    "between the last checkpoint and the end": f"""
from socratic_rl.training import dpo
dpo._score_held_out = {KILL}
""",
}


# each trains twice, in processes of their own since one of them is killed
@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_training_ends_as_a_whole_one(moment: str, tiny: list[str], tmp_path: Path):
    settings = [
        *tiny,
        # more steps, or a step twice, would show in the weights
        "dpo.lr_scheduler_type=constant",
        "dpo.learning_rate=1e-2",
        "dpo.max_steps=5",
        "lora.lora_dropout=0.1",
        "+dpo.disable_dropout=false",
        "wandb=disabled",
        "samples=0",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run("train.py", *settings, f"output_dir={whole}")
    script = tmp_path / "train.py"
    script.write_text(
        f"import os, runpy, signal, sys\nsys.path.insert(0, os.getcwd())\n{MOMENTS[moment]}\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    done = run(str(script), *settings, f"output_dir={killed}", ok=False)
    assert done.returncode == -9
    before = {path.relative_to(killed) for path in killed.glob("checkpoints/*/trainer_state.json")}
    assert before
    done = run("train.py", *settings, f"output_dir={killed}")
    assert "training goes on from " in done.stdout
    # nothing that the stopped run left is gone, but for the oldest checkpoints
    assert len(list(killed.glob("checkpoints/*/trainer_state.json"))) == 2
    for name in ("training_log.jsonl", "adapter/adapter_model.safetensors"):
        found, expected = ((folder / name).read_bytes() for folder in (killed, whole))
        if name.endswith("jsonl"):
            rows = [[json.loads(line) for line in text.splitlines()] for text in (found, expected)]
            assert [[row.get("loss") for row in each if "loss" in row] for each in rows[:1]] == [
                [row["loss"] for row in rows[1] if "loss" in row]
            ]
        else:
            assert found == expected


@pytest.mark.slow
def test_a_folder_of_another_config_is_refused_and_keeps_its_checkpoints(
    trained: Path, tiny: list[str], tmp_path: Path
):
    folder = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("adapter", "wandb"))
    done = run("train.py", *tiny, "dpo.beta=0.3", f"output_dir={folder}", ok=False)
    assert "was begun with another config (dpo.beta: 0.1 → 0.3)" in done.stderr
    assert len(list(folder.glob("checkpoints/*/trainer_state.json"))) == 2


@pytest.mark.slow
def test_a_training_that_goes_on_is_one_whole_run(trained: Path, tiny: list[str], tmp_path: Path):
    folder = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("adapter", "wandb", "*-4"))
    place = tmp_path / "elsewhere"
    place.mkdir()
    environment = {"WANDB_PROJECT": "theirs", "WANDB_TAGS": "one,two", "WANDB_NAME": "mine", "WANDB_DIR": str(place)}
    run("train.py", *tiny, "wandb.name=chosen", f"output_dir={folder}", **environment)
    assert not (folder / "wandb").exists()
    records = read_run(place)
    (started,) = [record.run for record in records if record.HasField("run")]
    assert (started.project, started.display_name, list(started.tags)) == ("theirs", "chosen", ["one", "two", "train"])
    rows = [{item.key or item.nested_key[0]: item.value_json for item in r.history.item} for r in records]
    steps = [int(row["train/global_step"]) for row in rows if "train/loss" in row]
    assert steps == [1, 2, 3, 4]
    config = {u.key: u.value_json for r in records for u in [*r.run.config.update, *r.config.update]}
    assert json.loads(config["goes_on_from"]) == str(folder / "checkpoints" / "checkpoint-2")
