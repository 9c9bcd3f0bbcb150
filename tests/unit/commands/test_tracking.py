import json
from pathlib import Path

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import RunRecord

from socratic_rl.commands.tracking import log_artifact, log_table, track
from socratic_rl.core.component import WandbSettings
from socratic_rl.core.provenance import artifact_name
from tests.wandb_files import read_run

OFFLINE = WandbSettings(mode="offline", project="tests", entity=None, name=None, group=None, tags=("a",))


def run_and_exit(folder: Path) -> tuple[RunRecord, int]:
    found = read_run(folder)
    (run,) = [record.run for record in found if record.HasField("run")]
    (exit_code,) = [record.exit.exit_code for record in found if record.HasField("exit")]
    return run, exit_code


def test_a_run_says_what_it_is(tmp_path: Path):
    with track(OFFLINE, "train", {"dpo": {"beta": 0.1}}, tmp_path, group="sweep", name="dpo.beta=0.1") as run:
        log_table(run, "replies", [{"student": "a", "reply": "b"}])
    assert wandb.run is None
    found, exit_code = run_and_exit(tmp_path)
    assert (found.job_type, found.run_group, found.display_name) == ("train", "sweep", "train-dpo.beta=0.1")
    assert list(found.tags) == ["a", "train"]
    config = {item.key or ".".join(item.nested_key): item.value_json for item in found.config.update}
    assert json.loads(config["dpo"]) == {"beta": 0.1}
    assert exit_code == 0


def test_a_run_whose_job_fails_is_marked_failed(tmp_path: Path):
    with pytest.raises(RuntimeError), track(OFFLINE, "train", {}, tmp_path, group=None, name=None):
        raise RuntimeError
    assert run_and_exit(tmp_path)[1] == 1
    assert wandb.run is None


def test_an_artifact_names_what_it_was_made_from(tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_text("one")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_text("two")
    pairs, adapter = (artifact_name(n, [tmp_path / f]) for n, f in (("pairs", "pairs.jsonl"), ("adapter", "adapter")))
    with track(OFFLINE, "train", {}, tmp_path, group=None, name=None) as run:
        log_artifact(run, adapter, "model", [tmp_path / "adapter"], inputs=[pairs])
    (artifact,) = [
        r.request.log_artifact.artifact for r in read_run(tmp_path) if r.request.HasField("log_artifact")
    ] or [r.artifact for r in read_run(tmp_path) if r.HasField("artifact")]
    assert (artifact.name, artifact.type) == (adapter, "model")
    assert pairs in artifact.metadata


def test_a_name_changes_with_the_content(tmp_path: Path):
    file = tmp_path / "x"
    file.write_text("one")
    first = artifact_name("pairs", [file])
    file.write_text("two")
    assert artifact_name("pairs", [file]) != first


def test_disabled_tracking_leaves_nothing(tmp_path: Path):
    disabled = OFFLINE.model_copy(update={"mode": "disabled"})
    with track(disabled, "train", {}, tmp_path / "run", group=None, name=None) as run:
        log_table(run, "replies", [{"a": 1}])
    assert not list(tmp_path.rglob("*.wandb"))
