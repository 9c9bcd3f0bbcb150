import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import socratic_rl.commands.cli  # noqa: F401 (what its resolvers give)
from socratic_rl.commands.settings import TrainSettings, parse
from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.models import adapters, weights
from socratic_rl.models.tokens import token_ids
from tests.conftest import CHAT_TEMPLATE, ROOT, TinyModel

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
STARTER = ROOT / "socratic_rl" / "conversations" / "starter.jsonl"


def settings(pretrained: str, **changes: object) -> ModelSettings:
    plain = {"name": "tiny", "revision": None, "dtype": "auto", "attn_implementation": "sdpa", "quantization": None}
    return ModelSettings.model_validate(plain | {"pretrained": pretrained} | changes)


def parsed(tmp_path: Path, *overrides: str) -> TrainSettings:
    pairs = tmp_path / "pairs.jsonl"
    pairs.touch()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(TrainSettings, compose("train", overrides=[f"dataset.path={pairs}", *overrides]))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_config_is_complete_and_instantiates(tmp_path: Path, name: str):
    if name.endswith("gptq") and not find_spec("gptqmodel"):
        with pytest.raises(UserError, match=r"^model\.quantization: .* pip install -e '\.\[gptq\]'$"):
            parsed(tmp_path, f"model={name}")
        return
    model = parsed(tmp_path, f"model={name}").model
    quantization = weights.quantization_config(model)
    assert (quantization is not None) == name.endswith(("4bit", "8bit", "gptq"))
    if name.endswith("4bit"):
        assert quantization.bnb_4bit_quant_type == "nf4"
        assert quantization.bnb_4bit_use_double_quant
    if name.endswith("8bit"):
        assert quantization.load_in_8bit


def test_any_model_can_be_quantised(tmp_path: Path):
    model = parsed(tmp_path, "model=gpt2", "+quantization@model.quantization=int8").model
    assert weights.quantization_config(model).load_in_8bit


@pytest.mark.parametrize(
    ("model", "node", "expected"),
    [
        ("auto", None, torch.bfloat16 if weights.has_bf16() else torch.float32),
        ("float16", None, torch.float16),
        ("auto", "bfloat16", torch.bfloat16),
    ],
)
def test_products_of_4_bit_weights_are_as_precise_as_the_model(
    tmp_path: Path, model: str, node: str | None, expected: torch.dtype
):
    overrides = [f"model.dtype={model}"] + ([f"model.quantization.bnb_4bit_compute_dtype={node}"] if node else [])
    chosen = parsed(tmp_path, "model=llama2_7b_4bit", *overrides).model
    assert weights.quantization_config(chosen).bnb_4bit_compute_dtype == expected


def test_a_wrong_value_of_a_quantisation_is_told_in_one_line(tmp_path: Path):
    chosen = parsed(tmp_path, "model=llama2_7b_4bit", "model.quantization.load_in_4bit=maybe").model
    with pytest.raises(UserError, match=r"^model\.quantization: load_in_4bit must be a boolean$"):
        weights.quantization_config(chosen)


@pytest.mark.parametrize("name", ["llama2_7b_4bit", "llama2_7b_8bit", "mistral_7b_4bit"])
def test_quantised_weights_are_trained_only_through_an_adapter(tmp_path: Path, name: str):
    with pytest.raises(UserError, match=r"^lora: .* is quantised"):
        parsed(tmp_path, f"model={name}", "lora=none")


def test_a_tokenizer_keeps_its_own_chat_template(tiny_llama: Path):
    assert weights.tokenizer_from(str(tiny_llama)).chat_template == CHAT_TEMPLATE


def test_a_base_model_gets_our_chat_template(tiny_model: TinyModel):
    tokenizer = weights.tokenizer_from(str(tiny_model("llama", chat_template=False)))
    messages = [
        {"role": "system", "content": "Ask."},
        {"role": "user", "content": " What is 2 + 2?\n"},
        {"role": "assistant", "content": "What is 2 + 1?"},
        {"role": "user", "content": "3"},
    ]
    dialogue = "System: Ask.\nUser: What is 2 + 2?\nAssistant: What is 2 + 1?<|im_end|>\nUser: 3"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == dialogue
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        dialogue + "\nAssistant:"
    )
    tokenizer.bos_token = "<|pad|>"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "<|pad|>" + dialogue


def test_a_tokenizer_without_any_end_token_is_refused(tiny_model: TinyModel, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama", chat_template=False))
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="neither a chat template nor an end token"):
        weights.tokenizer_from(str(tmp_path))


def trained_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A BPE tokenizer of the kind of GPT-2 or of Llama 2, trained on the starter set."""
    backend = Tokenizer(token_models.BPE(unk_token="<unk>", byte_fallback=kind == "llama"))
    if kind == "gpt2":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if kind == "gpt2" else [],
        show_progress=False,
    )
    backend.train_from_iterator(STARTER.read_text(encoding="utf-8").splitlines(), trainer)
    if kind == "llama":
        # its tokens were learned within words, and are looked for in the whole text
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = weights.CHAT_TEMPLATE.read_text()
    return tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_prompt_in_our_template_is_the_start_of_the_dialogue_also_in_tokens(kind: str):
    """Else TRL would split prompt and answer at the wrong place."""
    tokenizer = trained_tokenizer(kind)
    replies = [json.loads(line)["question"] for line in STARTER.read_text(encoding="utf-8").splitlines()]
    replies += ["12", "(a) or (b)?", "…", "\n\nTwo", "$5.50", "**Well**", "é"]
    for reply in replies:
        prompt = [{"role": "user", "content": reply}]
        start = token_ids(tokenizer, prompt, prompt=True)
        whole = token_ids(tokenizer, [*prompt, {"role": "assistant", "content": reply}])
        assert whole[: len(start)] == start, reply
        assert whole[-1] == tokenizer.eos_token_id
        assert whole.count(tokenizer.eos_token_id) == 1


def test_where_there_is_no_padding_token_the_end_token_stands_in(tiny_model: TinyModel, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("gpt2"))
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert weights.tokenizer_from(str(tmp_path)).pad_token == "<|im_end|>"


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
def test_a_folder_is_loaded_in_the_precision_asked_for(tiny_model: TinyModel, architecture: str):
    folder = tiny_model(architecture)
    assert weights.load_base(settings(str(folder), dtype="float16")).dtype == torch.float16
    model = weights.load_base(settings(str(folder)))
    assert model.dtype == (torch.bfloat16 if weights.has_bf16() else torch.float32)
    assert model.config.model_type == architecture
    assert weights.context_length(model.config) == 4096
    if architecture == "mistral":
        assert model.config.sliding_window == 16


@pytest.mark.parametrize(
    ("pretrained", "told"),
    [
        ("./nowhere", "no such folder"),
        ("nowhere.gguf", "no such file"),
        ("conf", r"no config\.json with \*\.safetensors beside it"),
    ],
)
def test_a_path_without_weights_is_told(monkeypatch: pytest.MonkeyPatch, pretrained: str, told: str):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=f"^model.pretrained: {pretrained}: {told}"):
        weights.load_base(settings(pretrained))


def test_an_attention_that_is_not_installed_is_told_in_one_line(tiny_llama: Path):
    if find_spec("flash_attn"):
        pytest.skip("flash_attn is installed")
    with pytest.raises(UserError, match=r"^model\.pretrained: .*: cannot be loaded: .*") as error:
        weights.load_base(settings(str(tiny_llama), attn_implementation="flash_attention_2"))
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_architecture_is_refused(tiny_model: TinyModel, tmp_path: Path):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(tiny_model("gpt2"))
    config = LoraConfig(target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    get_peft_model(base, config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not fit the base model"):
        adapters.load_adapter(weights.load_base(settings(str(tiny_model("llama")))), tmp_path)


def test_damaged_weights_are_told_in_one_line(tiny_llama: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_llama, tmp_path / "damaged")
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"^model\.pretrained: .*damaged: cannot be loaded: ") as error:
        weights.load_base(settings(str(folder)))
    assert "\n" not in str(error.value)
