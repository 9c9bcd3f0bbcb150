"""A checkpoint that a kill or a disk damaged is told, and the one before it is gone on from."""

import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from socratic_rl.core.errors import UserError
from socratic_rl.training.checkpoints import STATE, damage, find_checkpoint
from tests.damage import damaged_bytes, damaged_json

STATES = {"global_step": 4, "max_steps": 9, "log_history": [{"loss": 0.5, "step": 4}], "epoch": 0.5}


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    save_file(
        {"a": torch.randn(8, 8, generator=draw), "b": torch.randn(4, generator=draw)},
        path / "adapter_model.safetensors",
    )
    torch.save({"state": {0: {"exp_avg": torch.randn(64, generator=draw)}}}, path / "optimizer.pt")
    torch.save({"last_epoch": step}, path / "scheduler.pt")
    torch.save({"cpu": torch.get_rng_state()}, path / "rng_state.pth")
    (path / STATE).write_text(json.dumps(STATES))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 4, 10):
        checkpoint(tmp_path, step)
    return tmp_path


def test_the_newest_whole_one_is_gone_on_from(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert find_checkpoint("latest", folder) == str(folder / "checkpoint-10")
    assert capsys.readouterr().out == ""
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"PK")
    (folder / "checkpoint-4" / STATE).write_text("{")
    assert find_checkpoint("latest", folder) == str(folder / "checkpoint-2")
    first, second = capsys.readouterr().out.splitlines()
    assert "checkpoint-10/optimizer.pt: is damaged" in first
    assert f"checkpoint-4/{STATE}: is no JSON file that a command wrote" in second
    (folder / "checkpoint-2" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"^checkpoint: no checkpoint in .* is whole; delete them to begin anew$"):
        find_checkpoint("latest", folder)


def test_a_damaged_one_that_is_named_is_refused(folder: Path):
    (folder / "checkpoint-4" / "rng_state.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"^checkpoint: .*rng_state\.pth: is damaged: .*; `latest` finds the newest"):
        find_checkpoint(str(folder / "checkpoint-4"), folder)
    assert find_checkpoint(str(folder / "checkpoint-2"), folder) == str(folder / "checkpoint-2")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_every_damage_of_a_binary_file_is_found(tmp_path: Path, name: str):
    path = checkpoint(tmp_path, 4) / name
    whole = path.read_bytes()
    half_zeros = {f"zeros from {place}" for place in (len(whole) // 4, len(whole) // 2, len(whole) - 1)}
    for kind, content in damaged_bytes(whole).items():
        path.write_bytes(content)
        found = damage(path.parent)
        if found is None:
            # numbers may be any; of an archive not all that it holds is read
            assert kind in half_zeros if name.endswith("safetensors") else same(torch.load(path), whole), kind
        else:
            assert str(path) in found
            assert len(found.splitlines()) == 1


def same(loaded: object, whole: bytes) -> bool:
    return repr(loaded) == repr(torch.load(io.BytesIO(whole)))


def test_every_damage_of_the_state_is_found(tmp_path: Path):
    path = checkpoint(tmp_path, 4) / STATE
    copies = damaged_json(STATES, "global_step", "max_steps", "log_history")
    assert len(copies) > 22
    for kind, content in copies.items():
        path.write_bytes(content)
        assert str(path) in (damage(path.parent) or ""), kind
