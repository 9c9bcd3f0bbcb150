"""Training in two processes gives what it gives in one, and leaves one set of files."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.e2e.conftest import run
from tests.wandb_files import read_run


def launch(config: str, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """``accelerate launch`` with one of our configs: what it starts are processes of their own."""
    return run("-m", "accelerate.commands.launch", "--config_file", f"conf/accelerate/{config}.yaml", *command, ok=ok)


def mistakes(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "training_log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def held_out(folder: Path) -> dict[str, float]:
    return json.loads((folder / "adapter" / "socratic_rl.json").read_text())["held_out"]


def files(folder: Path) -> set[Path]:
    """What lies in a folder, but for the parts that carry a random name or one process's number each."""
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if name.parts[0] != "wandb" and not name.name.startswith("rng_state")}


@pytest.fixture(scope="module")
def settings(tiny: list[str], data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Steps that are large enough to see, of conversations that differ in length, and an odd number held out."""
    lines = (data / "pairs.jsonl").read_text().splitlines()
    sides = {side: [line for line in lines if json.loads(line)["split"] == side] for side in ("train", "validation")}
    left_out = {*sides["train"][::6], sides["validation"][0]}
    pairs = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    pairs.write_text("\n".join(line for line in lines if line not in left_out) + "\n")
    return [
        *tiny,
        f"dataset.path={pairs}",
        "dpo.per_device_train_batch_size=3",
        "dpo.learning_rate=1e-2",
        "samples=0",
    ]


@pytest.fixture(scope="module")
def alone(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders that one process filled, its steps of two batches each: 0 by padded rows, 1 by forests."""
    folder = tmp_path_factory.mktemp("alone") / "sweep"
    run("train.py", "-m", *settings, "dpo.gradient_accumulation_steps=2", "forest=false,true", f"output_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def together(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of forests, in steps of one batch on each."""
    folder = tmp_path_factory.mktemp("together") / "run"
    done = launch("cpu", "train.py", *settings, "forest=true", f"output_dir={folder}")
    assert done.stdout.count("forest: the first") == 1
    assert done.stdout.count("\nnext: ") == 1
    assert "Loading weights" in done.stderr
    assert done.stderr.count("Loading weights: 100%") == 1
    return folder


def test_two_processes_train_as_one_does(alone: Path, together: Path):
    curve = losses(alone / "1")
    assert losses(together) == pytest.approx(curve, abs=1e-5)
    assert max(curve) - min(curve) > 0.01, "nothing was learned that could differ"
    assert held_out(together) == pytest.approx(held_out(alone / "1"), abs=1e-3)
    assert held_out(together)["eval_n"] % 2 == 1, "an even number is shared out without a remainder"


def test_two_processes_leave_one_set_of_files_and_one_run(alone: Path, together: Path):
    assert files(together) - {Path("train.log")} == files(alone / "1") - {Path("result.json"), Path("train.log")}
    (started,) = [record.run for record in read_run(together) if record.HasField("run")]
    assert started.job_type == "train"


# launches two processes once more, after those that the tests above share
@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint(settings: list[str], together: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(together, folder, ignore=shutil.ignore_patterns("checkpoint-4", "wandb", "adapter"))
    launch("cpu", "train.py", *settings, "forest=true", "wandb=disabled", f"output_dir={folder}", "checkpoint=latest")
    assert losses(folder) == pytest.approx(losses(together), abs=1e-6)
    assert held_out(folder) == pytest.approx(held_out(together), abs=1e-5)


# a launch of its own, on accelerate's sharding
@pytest.mark.slow
def test_sharded_weights_train_as_whole_ones_do(settings: list[str], alone: Path, tmp_path: Path):
    done = launch(
        "fsdp",
        *("--mixed_precision", "no", "tests/e2e/fsdp_on_cpu.py"),
        *("train.py", *settings, f"output_dir={tmp_path}", "wandb=disabled"),
    )
    assert "forest: off, training on padded rows: no process holds all weights" in done.stdout
    assert losses(tmp_path) == pytest.approx(losses(alone / "0"), abs=1e-5)
    assert held_out(tmp_path) == pytest.approx(held_out(alone / "0"), abs=1e-3)
    sharded, whole = (load_file(f / "adapter" / "adapter_model.safetensors") for f in (tmp_path, alone / "0"))
    assert sharded.keys() == whole.keys()
    assert all(sharded[name].sub(whole[name]).abs().max() < 1e-3 for name in whole)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_mistake_of_one_process_ends_all_with_one_line(wrong: int, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(f"""
import os, sys, time
sys.path.insert(0, os.getcwd())
from socratic_rl.commands import cli
from socratic_rl.models import processes
from socratic_rl.core.errors import UserError

def main():
    if processes.rank() == {wrong}:
        raise UserError("the data of one process")
    time.sleep(100)

cli.run(main, "train")
""")
    began = time.monotonic()
    done = launch("cpu", str(script), ok=False)
    assert done.returncode != 0
    assert mistakes(done) == ["the data of one process"]
    assert time.monotonic() - began < 50


def test_a_mistake_of_all_is_told_once(tmp_path: Path):
    done = launch("cpu", "train.py", "dpo.beta=-1", "dataset.path=pyproject.toml", f"output_dir={tmp_path}", ok=False)
    assert done.returncode != 0
    assert mistakes(done) == ["dpo.beta: Input should be greater than 0 (got -1)"]
