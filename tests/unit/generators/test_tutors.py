import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import ValidationError

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request, Sampling, in_order
from socratic_rl.generators import LlamaCpp
from socratic_rl.generators.tutors import ByLlamaCpp, ByTransformers, TutorGenerator
from socratic_rl.models import weights
from socratic_rl.sharing import gguf_files
from tests.conftest import SharpModel

PROMPT = [{"role": "user", "content": "What is 2 + 2?"}]


def greedy(tokens: int) -> Sampling:
    return Sampling(max_new_tokens=tokens, temperature=0, top_p=1, batch_size=1)


def streamed(generator: TutorGenerator, write: Callable[[str], None], seed: int = 0) -> Reply:
    """A reply that is written as it is drawn."""
    ((_, reply),) = generator.generate([Request(seed=seed, messages=tuple(PROMPT), write=write)])
    return reply


def test_llama_cpp_replies_as_transformers_with_and_without_the_adapter(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path
):
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    base = sharp_model("llama")
    gguf_files.write_model(base, tokenizer, tmp_path / "base.gguf", "tiny", "float32", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tutor = get_peft_model(sharp_model("llama"), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    gguf_files.write_adapter(tutor, tokenizer.chat_template, tmp_path / "adapter.gguf", "tiny tutor")
    said = []
    for model, adapter in ((base, None), (tutor.eval(), tmp_path / "adapter.gguf")):
        generator = ByLlamaCpp(tmp_path / "base.gguf", adapter, tokenizer, greedy(20))
        pieces: list[str] = []
        reply = streamed(generator, pieces.append)
        same = ByTransformers(lambda model=model: contextlib.nullcontext(model), tokenizer, greedy(20))
        assert reply == streamed(same, lambda _: None)
        assert "".join(pieces).strip() == reply.text
        assert generator.context() == same.context() == 4096
        said.append(reply.text)
    assert said[0] != said[1]


def test_a_seed_draws_the_same_reply_again(sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path):
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    gguf_files.write_model(sharp_model("llama"), tokenizer, tmp_path / "base.gguf", "tiny", "float32", None)
    sampling = greedy(20).model_copy(update={"temperature": 1.0})
    generator = ByLlamaCpp(tmp_path / "base.gguf", None, tokenizer, sampling)
    said = [streamed(generator, lambda _: None, seed).text for seed in (3, 4, 3)]
    assert said[0] == said[2] != said[1]


def test_an_adapter_of_another_base_is_told_with_llama_cpp_s_reason(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path
):
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    gguf_files.write_model(sharp_model("gpt2"), tokenizer, tmp_path / "base.gguf", "tiny", "float32", None)
    tutor = get_peft_model(sharp_model("llama"), LoraConfig(target_modules="all-linear"))
    gguf_files.write_adapter(tutor, tokenizer.chat_template, tmp_path / "adapter.gguf", "tiny tutor")
    with pytest.raises(UserError, match=r"llama.cpp does not put .*adapter.gguf on .*base.gguf: .*arch mismatch"):
        ByLlamaCpp(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tokenizer, greedy(20)).context()


# --- the generator ---


@pytest.fixture(scope="module")
def exported(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PeftModel, Path]:
    """A tutor, and a folder with its base, which knows another chat template, and its adapter."""
    folder = tmp_path_factory.mktemp("exported")
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    template = tokenizer.chat_template
    tokenizer.chat_template = "{{ messages[0].content }}"
    gguf_files.write_model(sharp_model("llama"), tokenizer, folder / "base.gguf", "tiny", "float32", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        lora = LoraConfig(target_modules="all-linear", init_lora_weights=False)
        tutor = get_peft_model(sharp_model("llama"), lora).eval()
    gguf_files.write_adapter(tutor, template, folder / "adapter.gguf", "tiny tutor")
    return tutor, folder


def generator(model: Path, adapter: Path | None) -> LlamaCpp:
    return LlamaCpp(
        model_path=str(model),
        lora_path=str(adapter) if adapter else None,
        n_ctx=256,
        width=2,
        n_threads=1,
        n_gpu_layers=0,
        temperature=0,
        top_p=1,
        max_tokens=20,
    )


def test_the_generator_replies_with_the_adapter_and_its_chat_template(
    exported: tuple[PeftModel, Path], tiny_llama: Path
):
    tutor, folder = exported
    requests = [Request(seed=0, messages=({"role": "user", "content": text},)) for text in ("one?", "What is 2 + 2?")]
    with_adapter = generator(folder / "base.gguf", folder / "adapter.gguf")
    without = generator(folder / "base.gguf", None)
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    by_transformers = ByTransformers(lambda: contextlib.nullcontext(tutor), tokenizer, greedy(20))
    wanted = in_order(by_transformers.generate(requests), len(requests), None)
    said = dict(with_adapter.generate(requests))
    # bytes that are no character are left out by the one and marked by the other
    assert [said[n].text for n in (0, 1)] == [reply.text.replace("�", "").strip() for reply in wanted]
    assert dict(without.generate(requests)) != said
    ours, plain = with_adapter.identity(), without.identity()
    assert ours.pop("lora_sha256") == hashlib.sha256((folder / "adapter.gguf").read_bytes()).hexdigest()
    assert ours == plain


def test_a_file_that_is_no_adapter_of_the_model_is_told_by_its_key(exported: tuple[PeftModel, Path], tmp_path: Path):
    _, folder = exported
    with pytest.raises(ValidationError, match=r"lora_path\n.*no such file or directory; a GGUF file is needed"):
        generator(folder / "base.gguf", tmp_path / "no.gguf")
    for model, adapter, told in (
        ("base.gguf", "base.gguf", r"lora_path: .*base.gguf: llama.cpp cannot put it on base.gguf: .*type"),
        ("adapter.gguf", "adapter.gguf", r"model_path: .*adapter.gguf: llama.cpp cannot load it: "),
    ):
        with pytest.raises(UserError, match=told):
            list(generator(folder / model, folder / adapter).generate([Request(seed=0, text="one")]))
