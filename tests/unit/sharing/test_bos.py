"""BOS as the tutor's template has it, whatever its tokenizer or the file of its base puts before a text."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import gguf
import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from socratic_rl.core.dialogue import Message
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import weights
from socratic_rl.models.tokens import token_ids
from socratic_rl.sharing import export_check, gguf_files
from tests.unit.models.chat_templates import MARKS, PUBLISHED

PROMPT: list[Message] = [{"role": "system", "content": "Ask."}, {"role": "user", "content": "What is 3 + 4?"}]


@pytest.fixture(params=["chatml", "llama 2"])
def tokenizer(request: pytest.FixtureRequest, tiny_llama: Path, tmp_path: Path) -> PreTrainedTokenizerBase:
    """A tokenizer of bytes with BOS, with a template that writes none or one."""
    plain = AutoTokenizer.from_pretrained(tiny_llama)
    plain.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    plain.add_tokens(MARKS, special_tokens=True)
    plain.chat_template = PUBLISHED[request.param]
    plain.save_pretrained(tmp_path / "tokenizer")
    return weights.tokenizer_from(str(tmp_path / "tokenizer"))


@pytest.mark.parametrize("of_base", [True, False])
def test_an_export_begins_prompts_as_the_template_does(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, of_base: bool
):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=len(tokenizer), **sizes))
    plain, base, merged, adapter = (tmp_path / f"{name}.gguf" for name in ("plain", "base", "merged", "adapter"))
    gguf_files.write_model(model, tokenizer, plain, "plain", "float32", None)
    writer = gguf.GGUFWriter(base, "llama")
    for key, field in gguf.GGUFReader(plain).fields.items():
        if not key.startswith(("GGUF.", "general.architecture", "tokenizer.ggml.add_bos_token")):
            writer.add_key_value(key, field.contents(), field.types[0], *field.types[1:2])
    writer.add_add_bos_token(of_base)
    for tensor in gguf.GGUFReader(plain).tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    gguf_files.write_model(model, tokenizer, merged, "merged", "float32", base)
    tutor = get_peft_model(model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    bos = PUBLISHED["llama 2"] == tokenizer.chat_template
    gguf_files.write_adapter(tutor, str(tokenizer.chat_template), adapter, "adapter", bos)
    wanted = token_ids(tokenizer, PROMPT, prompt=True)
    assert (wanted[0] == tokenizer.bos_token_id) == bos
    read = [export_check.Passage(PROMPT, wanted)]
    owner = SimpleNamespace(tokenizer=tokenizer)
    for file, on_it in ((plain, None), (merged, None), (base, adapter)):
        with contextlib.closing(LlamaReader(file, on_it, 256)) as llama:
            assert llama.tokenize(llama.render(PROMPT), special=True) == wanted
            export_check._hold_tokens(llama, file, owner, read)
    # what the base's file alone puts before a prompt is no mistake of the export
    with contextlib.closing(LlamaReader(base, None, 256)) as llama:
        export_check._hold_tokens(llama, base, owner, read, exported=False)
