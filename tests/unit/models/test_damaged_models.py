"""Model files that a disk or a stranger damaged: each kind ends in one line that names the file, or loads whole."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.models import adapters, weights
from socratic_rl.sharing import gguf_files
from tests.damage import damaged_bytes, damaged_json, in_one_line

SAMPLE = [4, pytest.param(1, marks=pytest.mark.slow)]
"""Of how many damaged copies one is tried, since each loads a model."""


def settings(source: Path) -> ModelSettings:
    return ModelSettings(name="x", pretrained=str(source), revision=None, dtype="float32", attn_implementation="sdpa")


def attempt(copies: Mapping[str, bytes], path: Path, load: Callable[[], object], step: int, harmless: set[str]) -> None:
    """Load what was damaged; what is not told must be harmless."""
    assert len(copies) >= 22
    whole = path.read_bytes()
    for damage, content in list(copies.items())[::step]:
        path.write_bytes(content)
        try:
            load()
        except UserError as error:
            assert not list(in_one_line(error)), damage
            assert str(path.parent) in str(error), damage
        else:
            assert damage in harmless, damage
    path.write_bytes(whole)


@pytest.fixture
def adapter(tiny_llama: Path, tmp_path: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("step", SAMPLE)
def test_an_adapters_settings(tiny_llama: Path, adapter: Path, step: int):
    path = adapter / adapters.SETTINGS
    values = json.loads(path.read_text())
    copies = damaged_json(values, "peft_type", "r", "target_modules", "lora_alpha", "bias")
    wrong = {
        "peft_type": ["NOSUCH", "IA3", "lora", "PROMPT_TUNING", "VERA", ""],
        "r": [-1, 0, 10**9, 2.5],
        "lora_alpha": ["x", -1],
        "target_modules": [["nosuch"], "(", [3]],
        "lora_dropout": [7],
        "rank_pattern": [{"q_proj": -3}, {"(": 2}],
        "use_dora": ["x"],
        "init_lora_weights": ["nosuch"],
        "layers_to_transform": [[99]],
    }
    copies |= {f"{k}={v}": json.dumps(values | {k: v}).encode() for k, some in wrong.items() for v in some}
    base = weights.load_base(settings(tiny_llama))

    def load() -> None:
        adapters.load_adapter(base, adapter)

    # null is PEFT's own choice of layers, which here are more than there are weights for; a pattern may match nothing
    attempt(copies, path, load, step, {"rank_pattern={'(': 2}"})
    adapters.load_adapter(weights.load_base(settings(tiny_llama)), adapter)


@pytest.mark.parametrize("step", SAMPLE)
def test_an_adapters_weights(tiny_llama: Path, adapter: Path, step: int):
    path = adapter / adapters.WEIGHTS

    def load() -> None:
        adapters.load_adapter(weights.load_base(settings(tiny_llama)), adapter)

    size = path.stat().st_size
    # an untrained half is zeros too
    harmless = {f"zeros from {place}" for place in (size // 4, size // 2, size - 1)}
    attempt(damaged_bytes(path.read_bytes()), path, load, step, harmless)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensors: tensors.popitem(), "lacks base_model"),
        (lambda tensors: tensors.clear(), "lacks base_model.* and 1 more"),
        (
            lambda tensors: tensors.update({"base_model.model.x.lora_A.weight": torch.ones(2, 2)}),
            "does not fit .* in base",
        ),
        (lambda tensors: next(iter(tensors.values())).fill_(float("nan")), "holds what is no number in base_model"),
        (lambda tensors: next(iter(tensors.values())).fill_(float("inf")), "holds what is no number in base_model"),
    ],
    ids=["a layer less", "none", "a layer more", "nan", "inf"],
)
def test_an_adapter_that_peft_would_only_warn_of(
    tiny_llama: Path, adapter: Path, change: Callable[[dict[str, torch.Tensor]], object], told: str
):
    path = adapter / adapters.WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(UserError, match=rf"^adapter: .*{adapters.WEIGHTS}: {told}"):
        adapters.load_adapter(weights.load_base(settings(tiny_llama)), adapter)


@pytest.mark.parametrize("step", SAMPLE)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_bases_folder(tiny_llama: Path, tmp_path: Path, name: str, step: int):
    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    path = folder / name
    size = path.stat().st_size
    if name == "model.safetensors":
        copies = damaged_bytes(path.read_bytes())
    else:
        needed = ("model_type", "hidden_size") if name == "config.json" else ("model",)
        copies = damaged_json(json.loads(path.read_text()), *needed)

    def load() -> None:
        weights.load_tokenizer(settings(folder))
        weights.load_base(settings(folder))

    attempt(copies, path, load, step, {f"zeros from {size - 1}", f"ones at {size - 1}"})


@pytest.mark.parametrize("step", SAMPLE)
def test_a_gguf_base(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "base.gguf"
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    gguf_files.write_model(AutoModelForCausalLM.from_pretrained(tiny_llama), tokenizer, path, "x", "float32", None)
    size = path.stat().st_size
    harmless = {"twice", f"zeros from {size - 1}", f"ones at {size - 1}"}
    attempt(damaged_bytes(path.read_bytes()), path, lambda: weights.weights_folder(settings(path)), step, harmless)
    # nothing of a damaged one is kept
    assert len(list((tmp_path / "cache" / "socratic_rl").glob("*/"))) <= len(harmless)
