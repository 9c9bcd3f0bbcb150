import contextlib
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from socratic_rl import gguf_files, models
from socratic_rl.config import SamplingSettings
from socratic_rl.errors import UserError
from socratic_rl.speakers import InLlamaCpp, InTransformers
from tests.conftest import SharpModel

PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]


def greedy(tokens: int) -> SamplingSettings:
    return SamplingSettings(max_new_tokens=tokens, temperature=0, top_p=1, batch_size=1)


def test_llama_cpp_replies_as_transformers_with_and_without_the_adapter(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path
):
    tokenizer = models.tokenizer_from(str(tiny_llama))
    base = sharp_model("llama")
    gguf_files.write_model(base, tokenizer, tmp_path / "base.gguf", "tiny", "float32", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tutor = get_peft_model(sharp_model("llama"), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    gguf_files.write_adapter(tutor, tokenizer.chat_template, tmp_path / "adapter.gguf", "tiny tutor")
    said = []
    for model, adapter in ((base, None), (tutor.eval(), tmp_path / "adapter.gguf")):
        speaker = InLlamaCpp(tmp_path / "base.gguf", adapter, tokenizer)
        pieces: list[str] = []
        reply = speaker.stream(PROMPT, pieces.append, greedy(20), seed=0)
        same = InTransformers(lambda model=model: contextlib.nullcontext(model), tokenizer)
        assert reply == same.stream(PROMPT, lambda _: None, greedy(20), seed=0)
        assert "".join(pieces).strip() == reply.text
        assert speaker.context() == same.context() == 4096
        said.append(reply.text)
    assert said[0] != said[1]


def test_a_seed_draws_the_same_reply_again(sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path):
    tokenizer = models.tokenizer_from(str(tiny_llama))
    gguf_files.write_model(sharp_model("llama"), tokenizer, tmp_path / "base.gguf", "tiny", "float32", None)
    speaker = InLlamaCpp(tmp_path / "base.gguf", None, tokenizer)
    sampling = greedy(20).model_copy(update={"temperature": 1.0})
    said = [speaker.stream(PROMPT, lambda _: None, sampling, seed=seed).text for seed in (3, 4, 3)]
    assert said[0] == said[2] != said[1]


def test_an_adapter_of_another_base_is_told_with_llama_cpp_s_reason(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path
):
    tokenizer = models.tokenizer_from(str(tiny_llama))
    gguf_files.write_model(sharp_model("gpt2"), tokenizer, tmp_path / "base.gguf", "tiny", "float32", None)
    tutor = get_peft_model(sharp_model("llama"), LoraConfig(target_modules="all-linear"))
    gguf_files.write_adapter(tutor, tokenizer.chat_template, tmp_path / "adapter.gguf", "tiny tutor")
    with pytest.raises(UserError, match=r"llama.cpp does not put .*adapter.gguf on .*base.gguf: .*arch mismatch"):
        InLlamaCpp(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tokenizer).context()
