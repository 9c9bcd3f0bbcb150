"""Gemma's files without a base's: norms with their 1, sizes and windows as llama.cpp reads them."""

import contextlib
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from socratic_rl.core.errors import UserError
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import weights
from socratic_rl.sharing import export_check, gguf_files

TEXTS = ["What is 3 times 4, and why?", "Zoë counts to ½: one, two; then?!"]

GEMMAS = {
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 16, "sliding_window": 8},
    # the sixth layer sees everything
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window": 8, "num_hidden_layers": 6},
}


def gemma(architecture: str, folder: Path, **more: object) -> PreTrainedModel:
    tokenizer = weights.tokenizer_from(str(folder))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 64, "head_dim": 16, "max_position_embeddings": 256, "vocab_size": len(tokenizer)}
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(architecture, **sizes | ids | GEMMAS[architecture] | more)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    return model


def off(model: PreTrainedModel, folder: Path, file: Path, adapter: Path | None = None) -> float:
    tokenizer = weights.tokenizer_from(str(folder))
    sequences = [tokenizer(text)["input_ids"] for text in TEXTS]
    with contextlib.closing(LlamaReader(file, adapter, 64, at_once=True)) as llama:
        read = export_check.by_llama_cpp(llama, sequences)
    return export_check.gap(export_check.by_transformers(model, sequences), read).mean


@pytest.mark.parametrize("architecture", GEMMAS)
def test_llama_cpp_reads_a_gemma_as_transformers_does(
    architecture: str, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tokenizer, model = weights.tokenizer_from(str(tiny_llama)), gemma(architecture, tiny_llama)
    file, again = tmp_path / "model.gguf", tmp_path / "again.gguf"
    gguf_files.write_model(model, tokenizer, file, "x", "float32", None)
    assert off(model, tiny_llama, file) < 3e-3
    # with a base's metadata the norms are the same
    gguf_files.write_model(model, tokenizer, again, "x", "float32", file)
    assert off(model, tiny_llama, again) < 3e-3
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tutor = get_peft_model(model, lora).eval()
    gguf_files.write_adapter(tutor, "", tmp_path / "adapter.gguf", "x")
    assert off(tutor, tiny_llama, file, tmp_path / "adapter.gguf") < 3e-3
    merged = tutor.merge_and_unload()
    gguf_files.write_model(merged, tokenizer, tmp_path / "merged.gguf", "x", "float32", None)
    assert off(merged, tiny_llama, tmp_path / "merged.gguf") < 3e-3
    # as it would be without
    monkeypatch.setattr(gguf_files, "ZERO_CENTRED", set())
    gguf_files.write_model(merged, tokenizer, tmp_path / "without.gguf", "x", "float32", None)
    assert off(merged, tiny_llama, tmp_path / "without.gguf") > 0.05


@pytest.mark.parametrize(
    ("architecture", "more", "named"),
    [
        ("gemma2", {"query_pre_attn_scalar": 24}, "query_pre_attn_scalar"),
        ("gemma3_text", {"layer_types": ["full_attention"] * 6}, "layer_types"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ],
)
def test_what_llama_cpp_takes_for_given_needs_a_base_s_file_where_it_is_otherwise(
    architecture: str, more: dict[str, object], named: str, tiny_llama: Path, tmp_path: Path
):
    with pytest.raises(UserError, match=rf"^base_gguf: for a gemma\d with {named} of its own .*base_gguf=FILE"):
        gguf_files.write_model(
            gemma(architecture, tiny_llama, **more), weights.tokenizer_from(str(tiny_llama)), tmp_path / "x.gguf", "x",
            "float32", None,
        )  # fmt: skip
