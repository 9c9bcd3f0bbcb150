"""A base that stays in memory between the jobs of a sweep is to each job as if it were read anew."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn

from socratic_rl.core.component import ModelSettings
from socratic_rl.models import policy
from socratic_rl.models import weights as weights_module
from socratic_rl.training import dpo
from tests.conftest import TinyModel
from tests.unit.training.test_dpo import node, pairs

BITSANDBYTES = {"_target_": "transformers.BitsAndBytesConfig"}
QUANTIZATIONS = {
    "plain": None,
    "int8": BITSANDBYTES | {"load_in_8bit": True},
    "nf4": BITSANDBYTES
    | {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    | {"bnb_4bit_compute_dtype": "float32"},
}


def settings(folder: Path, quantization: str = "plain") -> ModelSettings:
    return ModelSettings(
        name="tiny",
        pretrained=str(folder),
        revision=None,
        dtype="auto",
        attn_implementation="sdpa",
        quantization=QUANTIZATIONS[quantization],
    )


def adapter(**changes: Any) -> LoraConfig:
    return LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear", task_type="CAUSAL_LM", **changes)


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[ModelSettings]:
    """The bases that were read from files, from none held."""
    monkeypatch.setattr(policy, "SHARED_BASE", policy.SharedBase())
    found: list[ModelSettings] = []
    load = weights_module.load_base
    monkeypatch.setattr(weights_module, "load_base", lambda chosen: found.append(chosen) or load(chosen))
    return found


def train(model: nn.Module, base: ModelSettings, folder: Path, **changes: object) -> tuple[list[float], dict]:
    """The losses of a training, and the adapter that it leaves."""
    args = dpo.arguments(node(**changes), folder, tracked=False)
    outcome = dpo.train(model, weights_module.load_tokenizer(base), pairs(), pairs(3), args, adapter(), None)
    state = {name: value.clone() for name, value in outcome.model.state_dict().items() if "lora_" in name}
    return [row["loss"] for row in outcome.log if "loss" in row], state


def flags(model: nn.Module) -> dict[str, Any]:
    """All that a model's modules hold beside weights and one another."""
    inner = ("_parameters", "_buffers", "_modules")
    found = {}
    for name, module in model.named_modules():
        held = {key: value for key, value in vars(module).items() if key not in inner}
        plain = {key: value for key, value in held.items() if isinstance(value, bool | int | float | str | dict)}
        found[name] = {key: len(value) if key.endswith("_hooks") else value for key, value in plain.items()}
    config = {name: getattr(model, name).to_dict() for name in ("config", "generation_config")}
    wanted = {name: value.requires_grad for name, value in model.named_parameters()}
    return copy.deepcopy({**found, **config, "wanted": wanted})


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_job_leaves_no_trace_in_the_next(
    tiny_model: TinyModel, tmp_path: Path, reads: list[ModelSettings], architecture: str, quantization: str
):
    base = settings(tiny_model(architecture), quantization)
    # GPT-2 has dropout, which the first job switches off for itself
    first = train(
        policy.load_policy(base, adapter()),
        base,
        tmp_path / "first",
        disable_dropout=True,
        gradient_checkpointing=True,
        max_steps=2,
    )
    held = policy.load_policy(base, adapter())
    assert reads == [base]
    fresh = weights_module.load_base(base)
    assert flags(held) == flags(fresh)
    assert {name: value.dtype for name, value in held.state_dict().items()} == {
        name: value.dtype for name, value in fresh.state_dict().items()
    }
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in held.state_dict().items())

    kept, anew = (
        train(model, base, tmp_path / name, disable_dropout=False, beta=0.5)
        for name, model in (("kept", held), ("anew", fresh))
    )
    assert kept[0] == anew[0] != first[0]
    assert kept[1].keys() == anew[1].keys() != set()
    assert all(torch.equal(value, anew[1][name]) for name, value in kept[1].items())


def test_two_models_around_one_base_share_its_memory_alone(tiny_llama: Path):
    first, second = (policy.load_policy(settings(tiny_llama), adapter()) for _ in range(2))
    weights = zip(first.parameters(), second.parameters(), strict=True)
    assert all(one is not other and one.data_ptr() == other.data_ptr() for one, other in weights)
    assert not {id(module) for module in first.modules()} & {id(module) for module in second.modules()}
    assert first.config is not second.config


def test_one_base_is_held_at_most(tiny_model: TinyModel, reads: list[ModelSettings]):
    llama, gpt2 = (settings(tiny_model(name)) for name in ("llama", "gpt2"))
    for base in (llama, llama, gpt2, llama):
        policy.load_policy(base, adapter())
    assert reads == [llama, gpt2, llama]
    policy.load_policy(llama, None)
    assert policy.SHARED_BASE.model is None
    # weights that are trained themselves are read as float32
    assert reads == [llama, gpt2, llama, llama.model_copy(update={"dtype": "float32"})]


@pytest.mark.parametrize("changes", [{"bias": "all"}, {"init_lora_weights": "pissa"}, {"init_lora_weights": "olora"}])
def test_a_base_that_an_adapter_changes_is_read_for_each_job(
    tiny_llama: Path, reads: list[ModelSettings], changes: dict[str, str]
):
    for _ in range(2):
        policy.load_policy(settings(tiny_llama), adapter(**changes))
    assert len(reads) == 2
