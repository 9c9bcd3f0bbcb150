"""Checkpoints whose weights are quantised already, or do not fit their config."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.models import adapters, policy, weights
from socratic_rl.models.checkpoints import quantization_from_node

NF4 = {"_target_": "transformers.BitsAndBytesConfig", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
Tensors = dict[str, torch.Tensor]


def settings(folder: Path, quantization: dict[str, Any] | None = None) -> ModelSettings:
    return ModelSettings(
        name="tiny",
        pretrained=str(folder),
        revision=None,
        dtype="float32",
        attn_implementation="sdpa",
        quantization=quantization,
    )


def without_a_layer(tensors: Tensors) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def with_another_layer(tensors: Tensors) -> None:
    tensors["model.layers.7.mlp.up_proj.weight"] = torch.zeros(2)


def packed(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        tensors[name.replace("weight", "qweight")] = tensors.pop(name)


def of_another_shape(tensors: Tensors) -> None:
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_layer, "missing model.layers.1.mlp.up_proj.weight"),
        (with_another_layer, "unexpected model.layers.7.mlp.up_proj.weight"),
        (packed, "missing model.layers.0.mlp.down_proj.weight, .* and 11 more; unexpected .*qweight"),
        (of_another_shape, "cannot be loaded: .*mismatched"),
    ],
)
def test_weights_that_would_be_drawn_at_random_are_an_error(
    tiny_llama: Path, tmp_path: Path, change: Callable[[Tensors], None], message: str
):
    folder = tmp_path / "changed"
    shutil.copytree(tiny_llama, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"^model\.pretrained: .*{message}") as error:
        weights.load_base(settings(folder))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as bitsandbytes leaves one in 4 bits."""
    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("four_bits")
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=320, **sizes)).save_pretrained(plain)
    quantized = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=BitsAndBytesConfig(load_in_4bit=True), device_map={"": "cpu"}
    )
    quantized.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("node", [None, NF4])
def test_a_checkpoint_in_4_bits_keeps_its_own_quantisation(four_bits: Path, node: dict[str, Any] | None):
    model = weights.load_base(settings(four_bits, node))
    assert model.is_quantized
    assert type(model.model.layers[0].mlp.up_proj.weight).__name__ == "Params4bit"
    with pytest.raises(UserError, match=r"^lora: tiny is quantised"):
        policy.load_policy(settings(four_bits, node), None)


def test_a_checkpoint_is_not_quantised_by_another_method_again(four_bits: Path):
    node = {"_target_": "transformers.AwqConfig", "bits": 4}
    with pytest.raises(UserError, match=r"^model\.quantization: .* is quantised by bitsandbytes already"):
        weights.load_base(settings(four_bits, node))


def test_a_gptq_checkpoint_without_its_weights_or_its_extra_is_no_random_model(tiny_llama: Path, tmp_path: Path):
    folder = tmp_path / "gptq"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"^model\.(pretrained|quantization): ") as error:
        weights.load_base(settings(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "target",
    [
        "joblib.load",
        "torch.load",
        "pathlib.Path.write_text",
        "transformers.AutoConfig.from_pretrained",
        "os.system",
        None,
    ],
)
def test_a_node_makes_nothing_but_a_quantisation(target: str | None, tmp_path: Path):
    node = {"_target_": target, "filename": str(tmp_path / "x"), "load_in_4bit": True}
    with pytest.raises(UserError, match=r"^model\.quantization\._target_: "):
        quantization_from_node(node)


def test_a_node_inside_a_node_is_data(tmp_path: Path):
    inner = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "touched")}
    with pytest.raises(UserError, match=r"^model\.quantization: "):
        quantization_from_node(NF4 | {"load_in_4bit": inner})
    assert not list(tmp_path.iterdir())


def test_an_adapter_is_read_from_safetensors_alone(tiny_llama: Path, tmp_path: Path):
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_llama), LoraConfig(r=2, target_modules="all-linear")
    )
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter_model.bin")
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with pytest.raises(UserError, match=r"^adapter: .*: no adapter_model\.safetensors in it"):
        adapters.load_adapter(base, tmp_path)
