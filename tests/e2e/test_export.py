"""export.py on a tiny tutor: what it leaves, and that llama.cpp and transformers read it as the tutor."""

import json
import re
import shutil
from pathlib import Path

import gguf
import pytest
from safetensors.torch import load_file, save_file

from socratic_rl.core.provenance import MADE_FROM
from tests.e2e.conftest import run


def test_an_adapter_for_llama_cpp(evaluated: Path, tiny_gguf: Path, tmp_path: Path):
    arguments = [f"adapter={evaluated / 'adapter'}", f"base_gguf={tiny_gguf}", f"output_dir={tmp_path}"]
    done = run("export.py", *arguments, COLUMNS="1000")
    assert "share of training shown" in done.stdout
    assert "not yet: " not in done.stdout
    keys = [
        f"adapter={evaluated / 'adapter'}",
        "backend=llama_cpp",
        f"gguf={tmp_path / 'adapter.gguf'}",
        f"base_gguf={tiny_gguf}",
    ]
    assert f"python chat.py {' '.join(keys)}" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter.gguf",
        "parity.json",
        "chat_template.jinja",
        "README.md",
        MADE_FROM,
    }
    found = json.loads((tmp_path / "parity.json").read_text())
    assert found["tutor"]["mean"] < 1e-3
    assert found["tutor"]["mean"] < found["training"]["mean"] / 10
    assert found["base"]["n"] == found["tutor"]["n"] == found["share"]["n"] > 100
    assert found["share"]["value"] == pytest.approx(1, abs=0.02)
    fields = gguf.GGUFReader(tmp_path / "adapter.gguf").fields
    assert fields["adapter.lora.alpha"].contents() == 32
    card = (tmp_path / "README.md").read_text()
    # how these files are used, and with the rest of the tutor's card what was measured
    assert "--lora adapter.gguf" in card
    assert "AutoPeftModelForCausalLM" not in card
    own = (evaluated / "adapter" / "README.md").read_text()
    assert card.partition("## Training data")[2] == own.partition("## Training data")[2]
    assert "95% interval" in card
    chat = run("chat.py", *keys, "with_base=true", "sampling.max_new_tokens=4", typed="one?\n/save\n")
    assert "base: " in chat.stdout
    assert "tutor: " in chat.stdout
    # an evaluation's replies, decoded together, are those of transformers
    greedy = ("sampling.temperature=0", "sampling.max_new_tokens=12", "resamples=100", "limit=4")
    texts = []
    for backend, place in ((keys, "llama_cpp"), (keys[:1], "transformers")):
        run("evaluate.py", *backend, *greedy, f"output_dir={tmp_path / place}")
        assert ("replies" in json.loads((tmp_path / place / "evaluation.json").read_text())["facts"]) == (
            place == "llama_cpp"
        )
        rows = [json.loads(line) for line in (tmp_path / place / "replies.jsonl").read_text().splitlines()]
        # a half character is left out by one and shown as � by the other
        texts.append([row[side].replace("�", "") for row in rows for side in ("base", "tutor")])
    assert texts[0] == texts[1]
    # a file of another training is not talked to
    record = json.loads((tmp_path / MADE_FROM).read_text())
    (tmp_path / MADE_FROM).write_text(json.dumps(record | {"seed": 1}))
    done = run("chat.py", *keys, ok=False)
    assert f"error: gguf: {tmp_path / 'adapter.gguf'} was exported before this tutor was trained" in done.stderr


def test_base_and_adapter_as_one_file(trained: Path, tmp_path: Path):
    done = run("export.py", f"adapter={trained / 'adapter'}", "format=merged_gguf", f"output_dir={tmp_path}")
    assert "model.gguf" in done.stdout
    found = json.loads((tmp_path / "parity.json").read_text())
    # there is no file of the base to compare with
    assert set(found) == {"tutor", "training", "share"}
    assert found["tutor"]["mean"] < found["training"]["mean"] / 10
    assert found["share"]["value"] == pytest.approx(1, abs=0.02)


def test_of_a_tutor_that_training_left_as_it_was_nothing_can_be_told(trained: Path, tiny_gguf: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    shutil.copytree(trained / "adapter", adapter)
    (adapter / "README.md").unlink()
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: one * ("lora_A" in name) for name, one in weights.items()}, adapter / "adapter_model.safetensors")
    done = run("export.py", f"adapter={adapter}", f"base_gguf={tiny_gguf}", COLUMNS="1000")
    told = " ".join(done.stdout.split())
    assert "check cannot tell whether training is in it" in told
    assert f"measured not yet: python evaluate.py adapter={adapter} writes its results into this card" in told
    assert json.loads((tmp_path / "gguf" / "parity.json").read_text())["share"] is None


def test_merged_weights_are_a_base_model_and_a_tutor(trained: Path, tmp_path: Path):
    folder = tmp_path / "merged"
    arguments = [f"adapter={trained / 'adapter'}", "format=merged", "dtype=float32", f"output_dir={folder}"]
    run("export.py", *arguments)
    assert json.loads((folder / "parity.json").read_text())["tutor"]["mean"] < 1e-5
    done = run("export.py", *arguments, ok=False)
    assert done.stderr.startswith(f"error: output_dir: {folder}: is not empty, and a model needs a folder of its own")
    for who in ([f"adapter={folder}"], ["model=smollm2_135m", f"model.pretrained={folder}"]):
        chat = run("chat.py", *who, "sampling.max_new_tokens=4", typed="one?\n")
        assert re.search(r"^(tutor|merged): .", chat.stdout, re.MULTILINE)
    done = run("export.py", f"adapter={folder}", "format=merged", f"output_dir={tmp_path / 'again'}", ok=False)
    assert done.returncode == 2
    assert f"error: format: {folder} is a whole model for transformers already" in done.stderr


def test_an_architecture_that_cannot_be_exported_is_told_before_weights_are_loaded(trained: Path, tmp_path: Path):
    # an architecture that no test knows, of whose weights there are none
    other, unknown = tmp_path / "nemotron", tmp_path / "adapter"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "nemotron"}))
    (other / "model.safetensors").touch()
    shutil.copytree(trained / "adapter", unknown)
    record = json.loads((unknown / MADE_FROM).read_text())
    record["model"]["pretrained"] = str(other)
    (unknown / MADE_FROM).write_text(json.dumps(record))
    done = run("export.py", f"adapter={unknown}", "check=false", ok=False)
    assert done.stderr.startswith("error: check: check=false is for tested architectures only (")
    assert not (trained / "gguf").exists()
    assert not (tmp_path / "gguf").exists()
