"""Tokens are those of a model's own files: as it is loaded, as it is saved, as llama.cpp reads it."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.embedded import gguf_path
from socratic_rl.core.errors import UserError
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import tokenizers, weights
from socratic_rl.models.tokens import token_ids
from socratic_rl.sharing import gguf_files
from tests.unit.models.chat_templates import MARKS, PUBLISHED
from tests.unit.models.test_weights import settings, trained_tokenizer

Folder = Callable[..., Path]
DIALOGUE = [
    {"role": "system", "content": "Ask, é."},
    {"role": "user", "content": "What is  3 + 4½?\n\n<x>"},
    {"role": "assistant", "content": "Which is 12 of them?"},
    {"role": "user", "content": " 7…"},
]


def llama_2(parts: dict) -> dict:
    """As Llama 2's own file has it: bytes, and a space before each piece of text between special tokens."""
    texts = list(parts["model"]["vocab"])
    tokens = [*texts[:3], *(f"<0x{byte:02X}>" for byte in range(256)), *texts[3:]]
    spaces = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    return parts | {
        "model": parts["model"] | {"vocab": vocabulary},
        "pre_tokenizer": None,
        "normalizer": {"type": "Sequence", "normalizers": spaces},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Writes the tokenizer files of a model of Llama 2's or GPT-2's kind, with a published template."""

    def write(kind: str, template: str | None = None, **config: object) -> Path:
        place = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        place.mkdir()
        plain = trained_tokenizer(kind)
        parts = json.loads(plain.backend_tokenizer.to_str())
        backend = Tokenizer.from_str(json.dumps(llama_2(parts) if kind == "llama" else parts))
        backend.add_special_tokens(MARKS)
        backend.save(str(place / "tokenizer.json"))
        own_class = "LlamaTokenizer" if kind == "llama" else "GPT2Tokenizer"
        names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": own_class}
        (place / "tokenizer_config.json").write_text(json.dumps(names | {"chat_template": template} | config))
        return place

    return write


def ids_of_file(place: Path, text: str) -> list[int]:
    """What ``tokenizer.json`` itself makes of a text."""
    own = Tokenizer.from_file(str(place / "tokenizer.json"))
    return list(own.encode(text, add_special_tokens=False).ids)


TEXT = "<s>[INST] Hi [/INST] a</s>\n  two  spaces <|im_start|>user\n1234 é"


@pytest.mark.parametrize("config", [{"legacy": True}, {"legacy": False}, {}])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_tokens_are_those_of_the_file_as_loaded_and_as_saved(
    folder: Folder, tmp_path: Path, kind: str, config: dict[str, bool]
):
    place = folder(kind, PUBLISHED["llama 2"], **config)
    tokenizer = weights.tokenizer_from(str(place))
    wanted = ids_of_file(place, TEXT)
    assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == wanted
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    tokenizers.hold_saved(tokenizer, saved)
    for model_type in (None, "llama", "mistral"):
        if model_type:
            (saved / "config.json").write_text(json.dumps({"model_type": model_type}))
        assert AutoTokenizer.from_pretrained(saved)(TEXT, add_special_tokens=False)["input_ids"] == wanted
    assert weights.tokenizer_from(str(saved))(TEXT, add_special_tokens=False)["input_ids"] == wanted


def test_other_tokens_than_the_file_s_are_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch):
    place = folder("llama", PUBLISHED["llama 2"], legacy=False)
    parts = json.loads((place / "tokenizer.json").read_text())

    def load(_: str, revision: str | None) -> PreTrainedTokenizerBase:
        """As transformers rebuilds it: a space before the first word alone."""
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
        split = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
        tokenizer.backend_tokenizer.normalizer = None
        rebuilt = Tokenizer.from_str(json.dumps(parts | {"normalizer": None, "pre_tokenizer": split}))
        tokenizer._tokenizer = rebuilt
        return tokenizer

    monkeypatch.setattr(tokenizers, "load", load)
    with pytest.raises(UserError, match=r"its tokenizer makes other tokens than its own tokenizer\.json: ") as error:
        weights.tokenizer_from(str(place))
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_would_be_read_otherwise_is_not_saved(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tokenizer = weights.tokenizer_from(str(folder("llama", PUBLISHED["mistral v1"])))
    other = AutoTokenizer.from_pretrained(folder("gpt2", PUBLISHED["mistral v1"]))
    monkeypatch.setattr(tokenizers.AutoTokenizer, "from_pretrained", lambda *_, **__: other)
    with pytest.raises(UserError, match="makes other tokens than transformers reads back from what was saved of it"):
        tokenizers.hold_saved(tokenizer, tmp_path / "saved")


def test_tokens_that_other_files_add_are_the_model_s_own(folder: Folder):
    token = {"content": "<|new|>", "special": True, "normalized": False}
    place = folder("gpt2", PUBLISHED["zephyr"], added_tokens_decoder={"9999": token})
    assert "<|new|>" in weights.tokenizer_from(str(place)).get_vocab()


def test_a_word_of_the_vocabulary_that_another_file_marks_is_one_token(folder: Folder):
    place = folder("gpt2", PUBLISHED["zephyr"])
    words = Tokenizer.from_file(str(place / "tokenizer.json")).get_vocab()
    word, number = next((word, number) for word, number in words.items() if len(word) == 4 and word.isalpha())
    config = json.loads((place / "tokenizer_config.json").read_text())
    mark = {str(number): {"content": word, "special": True, "normalized": False}}
    (place / "tokenizer_config.json").write_text(json.dumps(config | {"added_tokens_decoder": mark}))
    tokenizer = weights.tokenizer_from(str(place))
    assert number in tokenizer(f"x{word}x", add_special_tokens=False)["input_ids"]


def write_gguf(tokenizer: PreTrainedTokenizerBase, path: Path) -> Path:
    """A tiny model with this vocabulary as a GGUF file."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer) + 3, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    gguf_files.write_model(model, tokenizer, path, "tiny", "float32", None)
    return path


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_llama_cpp_and_transformers_are_given_the_same_prompt(folder: Folder, tmp_path: Path, kind: str, name: str):
    tokenizer = weights.tokenizer_from(str(folder(kind, PUBLISHED[name])))
    path = write_gguf(tokenizer, tmp_path / "model.gguf")
    with contextlib.closing(LlamaReader(path, None, 64)) as llama:
        for messages in (DIALOGUE[:2], DIALOGUE, DIALOGUE[1:2], DIALOGUE[1:]):
            assert llama.tokenize(llama.render(messages), special=True) == token_ids(tokenizer, messages, prompt=True)
        # what ends a reply there ends it here
        ends = {tokenizer.eos_token_id} if name == "no end" else set()
        reply = tokenizer.encode(tokenizer.decode(token_ids(tokenizer, DIALOGUE[:3])[-3:]), add_special_tokens=False)
        assert any(llama.ends(token) for token in (*reply, *ends))


@pytest.mark.parametrize(("name", "prefix"), [("llama 2", True), ("mistral v3", False), ("chatml", None)])
def test_a_gguf_base_trains_on_the_tokens_that_llama_cpp_reads(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, prefix: bool | None
):
    """transformers puts a space before a text's first word alone, llama.cpp behind every special token."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    written = write_gguf(weights.tokenizer_from(str(folder("llama", PUBLISHED[name]))), tmp_path / "written.gguf")
    path = with_prefix(written, tmp_path / "model.gguf", prefix)
    base: ModelSettings = settings(str(path))
    tokenizer = weights.load_tokenizer(base)
    with contextlib.closing(LlamaReader(path, None, 64)) as llama:
        assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == llama.encode(TEXT, special=True)
        for messages in (DIALOGUE, DIALOGUE[1:2]):
            assert llama.tokenize(llama.render(messages), special=True) == token_ids(tokenizer, messages, prompt=True)


def with_prefix(path: Path, target: Path, prefix: bool | None) -> Path:
    """A copy of a GGUF file that says so of spaces; None says nothing, as older files do."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture", "tokenizer.ggml.add_space_prefix")):
            writer.add_key_value(key, field.contents(), field.types[0], *field.types[1:2])
    if prefix is not None:
        writer.add_add_space_prefix(prefix)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_a_gguf_base_that_was_converted_otherwise_is_told(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tokenizers, "as_llama_cpp", lambda tokenizer, _: tokenizer)
    path = write_gguf(weights.tokenizer_from(str(folder("llama", PUBLISHED["llama 2"]))), tmp_path / "model.gguf")
    with pytest.raises(UserError, match=r"\(delete .*/socratic_rl/model-.* makes other tokens than llama\.cpp by this"):
        weights.load_tokenizer(settings(str(path)))


def test_a_sentencepiece_file_without_its_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    monkeypatch.setattr(tokenizers, "find_spec", lambda _: None)
    message = (
        r"its tokenizer\.model needs a package that is not installed: pip install sentencepiece; a tokenizer\.json"
    )
    with pytest.raises(UserError, match=message):
        weights.tokenizer_from(str(tmp_path))


def with_model(place: Path, rows: int) -> Path:
    """A tokenizer's folder with a tiny model that has so many rows."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=rows, **sizes)).save_pretrained(place)
    return place


@pytest.mark.parametrize(
    ("template", "missing", "token"),
    [
        ("llama 2", len(MARKS) + 1, r"\d+, '.+'"),  # a word of the vocabulary
        ("chatml", len(MARKS), r"\d+, '<\|im_(start|end)\|>'"),  # what the template writes
        ("mistral v1", len(MARKS), None),  # what nothing writes
    ],
)
def test_a_tokenizer_with_more_tokens_than_the_model_has_rows_is_refused_where_they_are_written(
    folder: Folder, template: str, missing: int, token: str | None
):
    place = folder("gpt2", PUBLISHED[template], pad_token="</think>")
    size = Tokenizer.from_file(str(place / "tokenizer.json")).get_vocab_size()
    base = settings(str(with_model(place, size - missing)))
    if token:
        with pytest.raises(UserError, match=rf"its tokenizer makes the token {token}, for which the model has no row"):
            weights.load_tokenizer(base)
        return
    tokenizer = weights.load_tokenizer(base)
    # padding is looked up too
    assert tokenizer.pad_token == "</s>"
    with pytest.raises(
        UserError, match=r"its tokenizer makes the token \d+, '<think>', for which the model has no row"
    ):
        token_ids(tokenizer, [{"role": "user", "content": "I <think> so."}], prompt=True)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "base.gguf"])
def test_a_pointer_that_git_lfs_left_is_told(folder: Folder, name: str):
    place = folder("gpt2", PUBLISHED["chatml"])
    with_model(place, 3000)
    (place / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 13476925163\n")
    source = place / name if name.endswith("gguf") else place
    for load in (weights.load_tokenizer, weights.load_base):
        with pytest.raises(UserError, match=rf"^model\.pretrained: .*{name}: git-lfs left a pointer in its place"):
            load(settings(str(source)))


def test_the_embedded_model_s_tokens_are_llama_cpp_s() -> None:
    path = gguf_path()
    loaded = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    with pytest.raises(UserError, match=r"makes other tokens than llama\.cpp"):
        tokenizers.hold_to_gguf(loaded, path, "")
    tokenizers.hold_to_gguf(tokenizers.as_llama_cpp(loaded, path), path, "")
