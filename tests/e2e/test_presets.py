"""Each preset of today's models trains a step on a few small layers of its architecture, read from a folder."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM

from socratic_rl.core.files import write_jsonl
from socratic_rl.models import policy
from socratic_rl.models import weights as weights_module
from socratic_rl.training import dpo
from socratic_rl.training.fields import lora_config
from tests.conftest import CHAT_TEMPLATE, ROOT, _byte_tokenizer
from tests.e2e.test_models import composed, pairs

TODAY = ("qwen3_0_6b", "qwen3_4b", "llama3_2_1b", "llama3_1_8b", "gemma3_1b", "gemma3_270m", "smollm3_3b")
SMALL = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 1, "max_position_embeddings": 2048,
}  # fmt: skip


def few_layers(preset: str, folder: Path) -> None:
    """Random weights of the preset's architecture, as the hub would give them."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        shape = OmegaConf.to_container(compose("train", overrides=[f"model={preset}"]).model.shape)
    shape.pop("of")
    tokenizer = _byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(**shape | SMALL | {"vocab_size": len(tokenizer)} | ends)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [f"{name}{suffix}" for name in TODAY for suffix in ("", "_4bit")])
def test_a_preset_of_today_trains_on_its_architecture(tmp_path: Path, preset: str):
    rows = tmp_path / "pairs.jsonl"
    write_jsonl(rows, (pair.to_record() for pair in pairs()))
    few_layers(preset, tmp_path / "base")
    settings, cfg = composed(
        f"model={preset}",
        f"model.pretrained={tmp_path / 'base'}",
        "dpo.max_steps=1",
        "dpo.per_device_train_batch_size=2",
        "dpo.gradient_accumulation_steps=1",
        "dpo.warmup_steps=0",
        data=rows,
    )
    assert settings.model.name == "base"
    args = dpo.arguments(cfg.dpo, tmp_path / "checkpoints", tracked=False)
    lora = lora_config(cfg.lora)
    tokenizer = weights_module.load_tokenizer(settings.model)
    model = policy.load_policy(settings.model, lora)
    assert bool(getattr(model, "is_quantized", False)) == preset.endswith("_4bit")
    outcome = dpo.train(model, tokenizer, pairs(), pairs(2), args, lora, None)
    changed = [name for name, value in outcome.model.named_parameters() if "lora_B" in name and value.abs().max() > 0]
    assert len(changed) == 2 * 7
    assert outcome.held_out["eval_n"] == 2
