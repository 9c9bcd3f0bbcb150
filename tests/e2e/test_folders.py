"""A folder belongs to one command at a time, and what is finished in it stays."""

import shutil
from pathlib import Path

import pytest

from socratic_rl.core import provenance
from tests.e2e.conftest import mistakes, run


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, but Hydra's notes."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if ".hydra" not in path.parts}


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> Path:
    """A copy of a folder with a tutor."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_same_training_says_that_it_is_finished(finished: Path, tiny: list[str]):
    before = files(finished)
    for more in ([], ["checkpoint=latest"], ["wandb=disabled"]):
        done = run("train.py", *tiny, f"output_dir={finished}", *more)
        assert "finished" in done.stdout
        assert f"next: python evaluate.py adapter={finished / 'adapter'}\n" in done.stdout
    assert files(finished) == before


def test_a_finished_tutor_is_not_written_over(finished: Path, tiny: list[str]):
    before, notes = files(finished), (finished / ".hydra" / "config.yaml").read_text()
    for more in ([], ["checkpoint=latest"]):
        (line,) = mistakes("train.py", *tiny, "dpo.beta=0.7", f"output_dir={finished}", *more)
        assert line.startswith(f"output_dir: {finished} holds a tutor of another config (dpo.beta: 0.1 → 0.7)")
        assert "overwrite=true" in line
    assert (files(finished), (finished / ".hydra" / "config.yaml").read_text()) == (before, notes)
    run("train.py", *tiny, "dpo.beta=0.7", f"output_dir={finished}", "overwrite=true", "samples=0")
    assert files(finished)["adapter/adapter_model.safetensors"] != before["adapter/adapter_model.safetensors"]


def test_the_same_generation_says_that_it_is_finished(data: Path, tmp_path: Path):
    folder = Path(shutil.copytree(data, tmp_path / "data"))
    before = files(folder)
    arguments = ["rejection=direct_answer", "problems.limit=24", "splits=2", "wandb=disabled"]
    assert "finished before" in run("generate.py", f"output_dir={folder}", *arguments).stdout
    assert {name: files(folder)[name] for name in before} == before


@pytest.mark.parametrize("command", ["generate", "train", "evaluate", "export", "sweep"])
def test_a_second_command_in_a_folder_is_refused(
    command: str, finished: Path, tiny: list[str], tiny_gguf: Path, tmp_path: Path
):
    before = files(finished)
    arguments = {
        "generate": ["generate.py"],
        "train": ["train.py", *tiny],
        "evaluate": ["evaluate.py", f"adapter={finished / 'adapter'}"],
        "export": ["export.py", f"adapter={finished / 'adapter'}", f"base_gguf={tiny_gguf}"],
        "sweep": ["train.py", "-m", *tiny, "seed=0,1"],
    }[command]
    with provenance.hold(finished):
        (line,) = mistakes(*arguments, f"output_dir={finished}")
    assert line.startswith(f"output_dir: {finished}: another command writes into it")
    assert files(finished) == before


def test_a_mistake_in_the_data_binds_the_folder_to_nothing(data: Path, tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text("{")
    out = [f"output_dir={tmp_path / 'out'}", "wandb=disabled", "problems=jsonl", "stop_after=problems"]
    assert "not JSON" in mistakes("generate.py", *out, f"problems.path={tmp_path / 'bad.jsonl'}")[0]
    run("generate.py", *out, f"problems.path={data / 'problems.jsonl'}")


def test_default_folders_do_not_collide(tmp_path: Path):
    from hydra import compose, initialize_config_dir

    from socratic_rl.commands.mistakes import CONF

    folders = set()
    for command, key in (("train", []), ("chat", ["ui=terminal"])) * 5:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            folders.add(str(compose(command, overrides=key).output_dir))
    assert len(folders) == 10
