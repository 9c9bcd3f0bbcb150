"""The way to the hub, sent for real to a server on this machine."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from socratic_rl.models.tutor import Tutor
from tests.e2e.conftest import run
from tests.e2e.hub_server import TOKEN, Hub, serve
from tests.wandb_files import read_run


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def pushed(tiny: list[str], hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained and pushed."""
    folder = tmp_path_factory.mktemp("pushed") / "run"
    push = ["hub.push=true", "hub.repo_id=me/tutor"]
    done = run("train.py", *tiny, *push, "samples=1", f"output_dir={folder}", **hub.environment())
    assert f"{hub.url}/me/tutor" in done.stdout
    return folder


def metadata(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def test_training_pushes_the_adapter_its_tokenizer_and_its_card(pushed: Path, hub: Hub, tmp_path: Path):
    called = ("/api/whoami-v2", "/api/repos/create", "/api/validate-yaml", "/api/models/me/tutor/commit/main")
    assert all(hub.tokens[path] == {f"Bearer {TOKEN}"} for path in called)
    assert hub.repositories["me/tutor"]["visibility"] == "private"
    first = hub.commits[0]
    assert set(first["paths"]) == {path.name for path in (pushed / "adapter").iterdir()}
    weights = (pushed / "adapter" / "adapter_model.safetensors").read_bytes()
    assert hub.files["adapter_model.safetensors"] == weights
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    tutor = Tutor(tmp_path)
    assert tutor.settings.name == "tiny-llama"
    assert tutor.tokenizer.chat_template


def test_no_path_of_this_machine_is_pushed(pushed: Path, hub: Hub, tiny_llama: Path):
    for name in ("adapter_config.json", "socratic_rl.json", "README.md"):
        text = hub.files[name].decode()
        for folder in (str(tiny_llama), str(pushed), str(Path.home())):
            assert folder not in text, name
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] == "tiny-llama"
    assert json.loads(hub.files["socratic_rl.json"])["dataset"]["path"] == "pairs.jsonl"
    # what stays here still knows where its base is
    assert json.loads((pushed / "adapter" / "socratic_rl.json").read_text())["model"]["pretrained"] == str(tiny_llama)


def test_the_token_is_in_no_file_that_the_run_left(pushed: Path, hub: Hub):
    names = [path for path in pushed.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in names)
    assert not [path for path in names if TOKEN.encode() in path.read_bytes()]
    assert not [name for name, content in hub.files.items() if TOKEN.encode() in content]
    # W&B's file is compressed in places, so it is read back too
    assert not [record for record in read_run(pushed) if TOKEN in str(record)]


def test_the_card_tells_data_and_settings_and_that_nothing_is_measured_yet(pushed: Path, hub: Hub):
    card = hub.files["README.md"].decode()
    made_from = json.loads((pushed / "adapter" / "socratic_rl.json").read_text())
    assert metadata(card)["library_name"] == "peft"
    assert {"dpo", "lora"} <= set(metadata(card)["tags"])
    assert f"| pairs | {made_from['trained_on']['pairs']} |" in card
    assert "| rejected by | direct_answer " in card
    assert "| beta | 0.1 |" in card
    assert f"| n | {made_from['held_out']['eval_n']:.4g} |" in card
    assert "Not measured yet" in card


def test_evaluation_writes_its_figures_into_the_card_and_pushes_it_again(pushed: Path, hub: Hub):
    sent = len(hub.commits)
    push = ["hub.push=true", "hub.repo_id=me/tutor"]
    arguments = ["sampling.max_new_tokens=16", "resamples=200", *push]
    run("evaluate.py", f"adapter={pushed / 'adapter'}", *arguments, **hub.environment())
    assert len(hub.commits) == sent + 1
    card = hub.files["README.md"].decode()
    assert card == (pushed / "adapter" / "README.md").read_text()
    metrics = json.loads((pushed / "evaluation.json").read_text())["metrics"]
    ranking = next(row for row in metrics if (row["name"], row["kind"]) == ("ranking_accuracy", "all"))
    interval = f"[{ranking['low']:+.3f}, {ranking['high']:+.3f}]"
    shares = f"{ranking['base']:.3f} | {ranking['tutor']:.3f} | {ranking['difference']:+.3f}"
    counted = f"{ranking['n']} | {ranking['problems']}"
    assert f"| Finds the chosen reply likelier | {shares} | {interval} | {counted} |" in card
    assert "On pairs.jsonl, test split:" in card
    assert not [path for path in pushed.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"HF_TOKEN": ""}, "hub.push: no token; set HF_TOKEN in the environment"),
        ({"HF_TOKEN": "hf_wrong"}, r"hub.push: http://127.0.0.1:\d+: Invalid user token"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, r"hub.push: http://127.0.0.1:9: .*Connection refused"),
        ({"HF_HUB_OFFLINE": "1"}, "hub.push: .*offline"),
    ],
    ids=["no token", "wrong token", "no network", "offline"],
)
def test_what_stands_in_the_way_is_told_before_training(
    environment: dict[str, str], told: str, tiny: list[str], hub: Hub, tmp_path: Path
):
    settings = hub.environment() | {"HF_HOME": str(tmp_path / "home")} | environment
    push = ["hub.push=true", "hub.repo_id=me/other"]
    done = run("train.py", *tiny, *push, f"output_dir={tmp_path / 'out'}", ok=False, **settings)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.match(f"error: {told}", line)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert "me/other" not in hub.repositories


def test_a_token_that_may_only_read_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch, tiny: list[str], tmp_path: Path):
    monkeypatch.setattr(hub, "role", "read")
    push = ["hub.push=true", "hub.repo_id=me/other"]
    done = run("train.py", *tiny, *push, f"output_dir={tmp_path / 'out'}", ok=False, **hub.environment())
    assert "error: hub.push: the token of me may only read" in done.stderr
