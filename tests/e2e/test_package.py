"""The package as it is installed: a wheel, in a folder far from the clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.records import RecordFile

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from a source distribution, which holds what the wheel needs, too."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("socratic_rl", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}"]
    subprocess.run([*pip, archive], cwd=folder, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs the console command of the installed wheel in a folder without the clone."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", f"--target={target}"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, target / "bin" / "socratic-rl", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_the_wheel_holds_every_file_of_the_package_and_every_config(wheel: Path):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = [path.relative_to(ROOT) for path in (ROOT / "socratic_rl").rglob("*") if path.is_file()]
    configs = ["socratic_rl" / path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")]
    assert held == {path.as_posix() for path in [*code, *configs] if "__pycache__" not in path.parts}


def test_the_first_stage_of_the_demo_runs_in_an_empty_folder(installed: Command, tmp_path: Path):
    done = installed(tmp_path, "generate", "experiment=demo_data", "problems.limit=4")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "demo"
    assert {path.name for path in folder.iterdir()} >= {".hydra", "generate.log", "pairs.jsonl"}
    pairs = RecordFile(PreferencePair, folder / "pairs.jsonl")
    assert len(pairs) == 8
    assert any(pair.rejection == "weak_model" for pair in pairs)


def test_the_shards_of_a_multirun_become_pairs(installed: Command, tmp_path: Path):
    given = ("generate", "problems.limit=4", "rejection=direct_answer")
    assert installed(tmp_path, *given, "output_dir=whole").returncode == 0
    done = installed(tmp_path, *given, "output_dir=parts", "shard=0,1", "num_shards=2", "-m")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "parts" / "pairs.jsonl").read_bytes() == (tmp_path / "whole" / "pairs.jsonl").read_bytes()


def test_a_config_of_ones_own_is_found(installed: Command, tmp_path: Path):
    mine = tmp_path / "configs" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nseed: 7\n")
    given = ("train", "--config-dir", "configs", "experiment=mine")
    done = installed(tmp_path, *given, "--cfg", "job")
    assert "seed: 7" in done.stdout.splitlines()
    assert not (tmp_path / "outputs").exists()
    done = installed(tmp_path, *given, "sed=1", "dpo.beta=0.2")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: sed: there is no such key (did you mean 'seed'?)"
    assert "socratic-rl generate makes one" in done.stderr


def test_the_console_command_says_what_it_can_do(installed: Command, tmp_path: Path):
    done = installed(tmp_path, "--help")
    for command in ("generate", "train", "evaluate", "chat", "export"):
        assert f"\n  {command} " in done.stdout
        described = installed(tmp_path, command, "--help")
        assert described.returncode == 0
        assert f"  socratic-rl {command} " in described.stdout
        assert ".py" not in described.stdout.partition("Any key is an override")[2]
    done = installed(tmp_path, "trian")
    assert done.returncode == 2
    assert done.stderr.startswith("error: trian: there is no such command (did you mean 'train'?)")
    assert not list(tmp_path.iterdir())
