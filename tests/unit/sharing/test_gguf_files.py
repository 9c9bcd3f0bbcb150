"""GGUF files that are written here, held against transformers in llama.cpp itself."""

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from socratic_rl.core.errors import UserError
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import weights
from socratic_rl.models.tokens import chat_of, token_ids
from socratic_rl.sharing import export_check, gguf_files, gguf_metadata
from tests.conftest import SharpModel
from tests.unit.models import real_tokenizers
from tests.unit.models.test_weights import STARTER, trained_tokenizer

DESCRIBED = ["llama", "mistral", "qwen2", "qwen3", "gpt2"]
"""What a file's metadata can be made for."""
GRANITE = {"attention": 0.3, "embedding": 1.5, "residual": 0.7}
OTHERS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "arcee": ({}, {}),
    # the fourth layer has no rotary embedding
    "smollm3": ({"num_hidden_layers": 4}, {}),
    "granite": (
        {f"{name}_multiplier": value for name, value in GRANITE.items()} | {"logits_scaling": 2.0},
        {f"{name}_scale": value for name, value in GRANITE.items()} | {"logit_scale": 2.0},
    ),
    "olmo": ({}, {}),
    "cohere2": ({"num_hidden_layers": 4, "logit_scale": 1.0}, {"logit_scale": 1.0, "sliding_window": 4096}),
    "glm4": ({"head_dim": 16}, {}),
    "olmo2": ({}, {}),
    "phi3": ({}, {}),
    "stablelm": ({}, {}),
    "starcoder2": ({}, {}),
}
"""What is read with a base's metadata: what its config and its file say of it."""
ARCHITECTURES = [*DESCRIBED, *OTHERS]
TEXTS = ["What is 3 times 4, and why?", "Zoë counts to ½: one, two; then?!"]


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> PreTrainedTokenizerBase:
    """Of all tiny models."""
    return weights.tokenizer_from(str(tiny_llama))


Made = Callable[..., tuple[PreTrainedModel, Path | None]]


@pytest.fixture
def made(sharp_model: SharpModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Made:
    """Makes a sharp model, and a file of a base's metadata where it is needed."""

    def make(architecture: str, **more: object) -> tuple[PreTrainedModel, Path | None]:
        if architecture in DESCRIBED and not more:
            return sharp_model(architecture), None
        own, told = OTHERS.get(architecture, ({}, {}))
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        sizes |= {"intermediate_size": 64, "vocab_size": len(tokenizer)}
        config = AutoConfig.for_model(architecture, **sizes | ids | own | more)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
            for weight in model.parameters():
                weight.normal_(1, 0.3) if weight.ndim == 1 else weight.normal_(0, 0.3)
        head = getattr(config, "head_dim", None) or 8
        path = tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        sizes = {
            "block_count": config.num_hidden_layers,
            "embedding_length": 32,
            "feed_forward_length": 64,
            "context_length": 64,
            "head_count": 4,
            "head_count_kv": config.num_key_value_heads,
            "key_length": head,
            "value_length": head,
            "rope_dimension_count": int(head * config.rope_parameters.get("partial_rotary_factor", 1)),
            "rope_freq_base": config.rope_parameters["rope_theta"],
            "layer_norm_eps": getattr(config, "layer_norm_eps", 1e-5),
            "layer_norm_rms_eps": getattr(config, "rms_norm_eps", 1e-5),
        }
        for name, value in (sizes | told).items():
            getattr(writer, f"add_{name}")(value)
        gguf_metadata.add_vocabulary(tokenizer, config.vocab_size, writer)
        gguf_files._finish(writer)
        return model, path

    return make


def read(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, file: Path, adapter: Path | None = None
) -> export_check.Gap:
    """How far llama.cpp with the files is from the model."""
    sequences = [tokenizer(text)["input_ids"] for text in TEXTS]
    with contextlib.closing(LlamaReader(file, adapter, 64, at_once=True)) as llama:
        assert [llama.tokenize(text, special=False) for text in TEXTS] == sequences
        return export_check.gap(
            export_check.by_transformers(model, sequences), export_check.by_llama_cpp(llama, sequences)
        )


def test_every_architecture_whose_check_may_be_left_out_is_here():
    # Gemma's are in test_gemma_gguf.py
    tested = {gguf_files.NAMES.get(architecture, architecture) for architecture in ARCHITECTURES}
    assert tested | {"gemma", "gemma2", "gemma3"} == gguf_files.TESTED


@pytest.mark.parametrize(
    ("architecture", "more"),
    # of those whose rows change places, llama.cpp reads biases of queries and keys in these two
    [*((one, {}) for one in ARCHITECTURES), ("llama", {"attention_bias": True}), ("granite", {"attention_bias": True})],
)
def test_llama_cpp_reads_a_written_model_as_transformers_does(
    made: Made, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, architecture: str, more: dict
):
    model, base = made(architecture, **more)
    assert not more or any("q_proj.bias" in name for name in model.state_dict())
    gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "tiny", "float32", base)
    found = read(model, tokenizer, tmp_path / "model.gguf")
    assert found.mean < 3e-3
    assert found.greedy > 0.95
    # the reading depends on how rows are ordered
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if any(part in name for part in ("q_proj", "c_attn.weight", "qkv_proj")):
                weight.copy_(weight.flip(0))
    assert read(other, tokenizer, tmp_path / "model.gguf").mean > 0.1


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True, "alpha_pattern": {".*mlp.*": 5}, "rank_pattern": {".*attn.*": 2}}]
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_llama_cpp_applies_a_written_adapter_as_peft_does(
    made: Made, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, architecture: str, settings: dict
):
    model, base = made(architecture)
    gguf_files.write_model(model, tokenizer, tmp_path / "base.gguf", "tiny", "float32", base)
    lora = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", init_lora_weights=False, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tutor = get_peft_model(model, lora).eval()
    gguf_files.write_adapter(tutor, tokenizer.chat_template, tmp_path / "adapter.gguf", "tiny tutor")
    found = read(tutor, tokenizer, tmp_path / "base.gguf", tmp_path / "adapter.gguf")
    assert found.mean < 3e-3
    assert found.greedy > 0.95
    assert read(tutor, tokenizer, tmp_path / "base.gguf").mean > 0.1


MORE_THAN_LORA = {
    "lora.use_dora": {"use_dora": True},
    "lora.bias": {"bias": "all"},
    "lora.modules_to_save": {"modules_to_save": ["lm_head"]},
    "model.embed_tokens": {"target_modules": ["q_proj", "embed_tokens"]},
    "lora.trainable_token_indices": {"trainable_token_indices": [1, 65]},
}


@pytest.mark.parametrize("named", MORE_THAN_LORA)
def test_what_an_adapter_of_llama_cpp_cannot_hold_is_refused_by_name_and_can_be_merged(
    sharp_model: SharpModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, named: str
):
    lora = LoraConfig(**({"target_modules": ["q_proj"], "init_lora_weights": False} | MORE_THAN_LORA[named]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        tutor = get_peft_model(sharp_model("llama"), lora).eval()
        with torch.no_grad():
            for weight in tutor.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn_like(weight))
    with pytest.raises(UserError, match=rf"^adapter: {named}: .*format=merged_gguf"):
        gguf_files.write_adapter(tutor, "", tmp_path / "adapter.gguf", "tiny")
    assert not list(tmp_path.iterdir())
    merged = copy.deepcopy(tutor).merge_and_unload()
    gguf_files.write_model(merged, tokenizer, tmp_path / "model.gguf", "tiny", "float32", None)
    assert read(tutor, tokenizer, tmp_path / "model.gguf").mean < 3e-3


def test_a_head_that_is_the_embedding_is_refused_and_another_is_not(sharp_model: SharpModel, tmp_path: Path):
    lora = LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
    model = sharp_model("gpt2")
    assert model.config.tie_word_embeddings
    with pytest.raises(UserError, match="lm_head: is also the embedding"):
        gguf_files.write_adapter(get_peft_model(model, lora), "", tmp_path / "adapter.gguf", "tiny")
    gguf_files.write_adapter(get_peft_model(sharp_model("llama"), lora), "", tmp_path / "adapter.gguf", "tiny")
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "adapter.gguf").tensors}
    assert names == {"output.weight.lora_a", "output.weight.lora_b"}


def test_a_base_s_file_gives_sizes_and_vocabulary(
    sharp_model: SharpModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    model, tokenizer = sharp_model("llama"), copy.deepcopy(tokenizer)
    gguf_files.write_model(model, tokenizer, tmp_path / "base.gguf", "base", "float32", None)
    tokenizer.chat_template = "{{ messages[0].content }}"
    gguf_files.write_model(model, tokenizer, tmp_path / "copy.gguf", "copy", "float16", tmp_path / "base.gguf")
    base, copied = (
        {key: field.contents() for key, field in gguf.GGUFReader(tmp_path / name).fields.items()}
        for name in ("base.gguf", "copy.gguf")
    )
    changed = {key for key in base | copied if base.get(key) != copied.get(key)}
    assert changed == {"general.name", "general.file_type", "tokenizer.chat_template"}
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "copy.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == "F16"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert read(model, tokenizer, tmp_path / "copy.gguf").mean < 0.02


def test_a_base_s_file_gives_the_scaling_of_a_rotary_embedding(
    sharp_model: SharpModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    plain = sharp_model("llama")
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = copy.deepcopy(plain.config)
    config.rope_parameters = plain.config.rope_parameters | {"rope_type": "llama3"} | scaling
    model = AutoModelForCausalLM.from_config(config).eval()
    model.load_state_dict(plain.state_dict())
    gguf_files.write_model(plain, tokenizer, tmp_path / "plain.gguf", "plain", "float32", None)
    # as llama.cpp's own files of Llama 3 hold it
    frequencies = [one.model.rotary_emb.inv_freq.numpy() for one in (plain, model)]
    writer = gguf.GGUFWriter(tmp_path / "base.gguf", "llama")
    for key, field in gguf.GGUFReader(tmp_path / "plain.gguf").fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            writer.add_key_value(key, field.contents(), *field.types[:2])
    writer.add_tensor("rope_freqs.weight", frequencies[0] / frequencies[1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "scaled", "float32", tmp_path / "base.gguf")
    assert read(model, tokenizer, tmp_path / "model.gguf").mean < 3e-3
    assert read(plain, tokenizer, tmp_path / "model.gguf").mean > 0.03
    # and as it is made of the config alone
    gguf_files.write_model(model, tokenizer, tmp_path / "alone.gguf", "scaled", "float32", None)
    assert read(model, tokenizer, tmp_path / "alone.gguf").mean < 3e-3


def test_metadata_that_cannot_be_made_names_what_is_needed(
    sharp_model: SharpModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    model = sharp_model("llama")
    model.config.rope_parameters = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(UserError, match=r"base_gguf: .*'yarn'.*base_gguf=FILE"):
        gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "tiny", "float32", None)
    model.config.model_type = "nosuch"
    with pytest.raises(UserError, match=r"no architecture 'nosuch'"):
        gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "tiny", "float32", None)


def smollm(backend: dict) -> dict:
    """As SmolLM's: each digit by itself."""
    digits = {"type": "Digits", "individual_digits": True}
    return backend | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, backend["pre_tokenizer"]]}}


def with_bytes(backend: dict) -> dict:
    """As transformers reads Llama 2's: bytes stand in for characters that it does not know."""
    texts = list(backend["model"]["vocab"])
    tokens = [*texts[:3], *(f"<0x{byte:02X}>" for byte in range(256)), *texts[3:]]
    return backend | {"model": backend["model"] | {"vocab": {text: number for number, text in enumerate(tokens)}}}


def llama_2(backend: dict) -> dict:
    """As Llama 2's own file has it: a space before each piece of text between special tokens."""
    spaces = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    normalizer = {"type": "Sequence", "normalizers": spaces}
    return with_bytes(backend) | {"pre_tokenizer": None, "normalizer": normalizer}


def splits(digits: str, ignore_merges: bool, normalizer: dict | None) -> Callable[[dict], dict]:
    """As Llama 3's and Qwen's: words by a pattern, so many digits together."""
    pattern = (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}

    def change(backend: dict) -> dict:
        bytes_after = backend["pre_tokenizer"] | {"use_regex": False, "add_prefix_space": False}
        steps = {"type": "Sequence", "pretokenizers": [split, bytes_after]}
        model = backend["model"] | {"ignore_merges": ignore_merges}
        return backend | {"pre_tokenizer": steps, "model": model, "normalizer": normalizer}

    return change


def gemma(backend: dict) -> dict:
    """As Gemma's: spaces as they are, none put before a text."""
    space = {"String": " "}
    split = {"type": "Split", "pattern": space, "behavior": "MergedWithPrevious", "invert": False}
    replace = {"type": "Replace", "pattern": space, "content": "▁"}
    return with_bytes(backend) | {"pre_tokenizer": split, "normalizer": replace}


KINDS = {
    "llama 3": ("gpt2", splits(r"\p{N}{1,3}", True, None)),
    "qwen": ("gpt2", splits(r"\p{N}", False, {"type": "NFC"})),
    "gemma": ("llama", gemma),
    "gpt2": ("gpt2", dict),
    "smollm": ("gpt2", smollm),
    "llama 2": ("llama", llama_2),
    "metaspace": ("llama", with_bytes),
}


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_makes_the_same_tokens_with_a_written_vocabulary(tmp_path: Path, kind: str):
    trained, change = KINDS[kind]
    plain = trained_tokenizer(trained)
    backend = Tokenizer.from_str(json.dumps(change(json.loads(plain.backend_tokenizer.to_str()))))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = plain.chat_template
    # some models have room for more tokens than there are
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer) + 3, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "tiny", "float32", None)
    questions = [json.loads(line)["question"] for line in STARTER.read_text(encoding="utf-8").splitlines()]
    with contextlib.closing(LlamaReader(tmp_path / "model.gguf", None, 64)) as llama:
        for question in [*questions, "½ of 1234 → é\n\n 12,5?"]:
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": "Why 12?"}]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            assert llama.tokenize(text, special=True) == token_ids(tokenizer, messages), text


def test_a_vocabulary_that_llama_cpp_would_split_otherwise_is_refused(sharp_model: SharpModel, tmp_path: Path):
    # pieces of characters without bytes to stand in
    with pytest.raises(UserError, match=r"base_gguf: for a tokenizer of kind BPE, Metaspace, .*base_gguf=FILE"):
        gguf_files.write_model(
            sharp_model("llama"), trained_tokenizer("llama"), tmp_path / "model.gguf", "tiny", "float32", None
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma 3", "qwen 3", "llama 3.1"])
def test_a_published_vocabulary_makes_the_same_tokens_in_llama_cpp(tmp_path: Path, name: str):
    real_tokenizers.write(name, tmp_path / "published")
    tokenizer = weights.tokenizer_from(str(tmp_path / "published"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("llama", vocab_size=real_tokenizers.ROWS[name][1], **sizes)
    model = AutoModelForCausalLM.from_config(config)
    gguf_files.write_model(model, tokenizer, tmp_path / "model.gguf", "tiny", "float16", None)
    questions = [json.loads(line)["question"] for line in STARTER.read_text(encoding="utf-8").splitlines()]
    # characters in their composed form: llama.cpp composes none, as Qwen's tokenizer does
    odd = ["½ of 1234 → é\n\n 12,5?", "我有3个苹果 и 4 яблока", "x" + "   \t" * 5 + "\r\n\n\ny 👩‍🏫 100000"]
    with contextlib.closing(LlamaReader(tmp_path / "model.gguf", None, 64)) as llama:
        for question in [*questions, *odd]:
            messages = [{"role": "user", "content": question}]
            text = chat_of(tokenizer).prompt(messages)
            assert llama.tokenize(text, special=True) == token_ids(tokenizer, messages, prompt=True), text
