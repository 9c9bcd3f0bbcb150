"""Tokenizers that make the tokens of a model's own files: compared as they are loaded, and again as they are saved."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llama_cpp
from gguf import GGUFReader
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file
from trl.data_utils import common_prefix_length

from socratic_rl.core.dialogue import Message, teacher_message
from socratic_rl.core.errors import UserError
from socratic_rl.models.tokens import chat_of

Ids = list[int]

TOKENIZER_FILE = "tokenizer.json"
SENTENCEPIECE_FILE = "tokenizer.model"

SAMPLE = (
    "Hi  two   spaces\tand a tab, 1234567 and 3.14*(2+1)=9.42; don't DON'T I'll $5.50 \\frac{1}{2} 1,000 ½ ²",
    "ñ é à ö Привет, 你好，こんにちは 안녕 שלום مرحبا हिंदी ไทย Ελληνικά ქართული",
    "🙂👩‍👩‍👧 a\u200bb \u00a0c \x07 ﬁ\r\n\n\n  x\n y [INST] <<SYS>> <|im_start|>user",
)
"""Scripts, spaces, digits and marks, on which two ways to make tokens of a text are held against each other."""


def load(source: str, revision: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or a folder, by its ``tokenizer.json`` word for word where it has one.

    The classes that transformers has for single models rebuild a tokenizer from its parts, and some take other ids.

    Raises:
        OSError, ValueError, ImportError: It cannot be read.
        UserError: It needs a package that is not installed.
    """
    if own_file(source, revision, TOKENIZER_FILE):
        return PreTrainedTokenizerFast.from_pretrained(source, revision=revision)
    pieces = own_file(source, revision, SENTENCEPIECE_FILE)
    if pieces and not find_spec("sentencepiece") and pieces.read_bytes()[:1] == b"\n":
        # transformers would take it for a file of tiktoken, and advise that
        raise UserError(
            f"model.pretrained: {source}: its {SENTENCEPIECE_FILE} needs a package that is not installed: pip install"
            f" sentencepiece; a {TOKENIZER_FILE} beside it will do as well"
        )
    return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)


def own_file(source: str, revision: str | None, name: str) -> Path | None:
    """A file of a folder or of a hub id; None where there is none."""
    path = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    return Path(path) if path else None


def hold_to_files(tokenizer: PreTrainedTokenizerBase, source: str, revision: str | None) -> None:
    """Refuse a tokenizer that makes other tokens than its own ``tokenizer.json``.

    Raises:
        UserError: It does; shows where first.
    """
    if not (path := own_file(source, revision, TOKENIZER_FILE)):
        return
    file_tokenizer = Tokenizer.from_file(str(path))
    file_tokenizer.no_truncation()
    # tokens that other files of the model add, or mark
    added, there = tokenizer.added_tokens_decoder, file_tokenizer.get_added_tokens_decoder()
    file_tokenizer.add_tokens([token for number, token in sorted(added.items()) if number not in there])

    def encode(text: str) -> Ids:
        return list(file_tokenizer.encode(text, add_special_tokens=False).ids)

    hold_alike(tokenizer, encode, f"model.pretrained: {source}", f"its own {TOKENIZER_FILE}")


def hold_to_gguf(tokenizer: PreTrainedTokenizerBase, path: Path, folder: str) -> None:
    """Refuse a tokenizer that makes other tokens than llama.cpp does by the GGUF file that its folder was made from.

    Raises:
        UserError: It does; shows where first.
    """
    with _by_llama_cpp(path) as encode:
        where = f"model.pretrained: {path} (delete {folder} if an older version of this program made it)"
        hold_alike(tokenizer, encode, where, "llama.cpp by this file")


@contextmanager
def _by_llama_cpp(path: Path) -> Iterator[Callable[[str], Ids]]:
    """Makes tokens by a GGUF file's vocabulary; no weights are read."""
    # its hook for what llama.cpp logs asks this one
    logging.getLogger("llama-cpp-python").setLevel(logging.CRITICAL)
    settings = llama_cpp.llama_model_default_params()
    settings.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
    if not model:
        raise UserError(f"model.pretrained: {path}: llama.cpp cannot read its vocabulary")
    vocabulary = llama_cpp.llama_model_get_vocab(model)

    def encode(text: str) -> Ids:
        data = text.encode()
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, room, False, True)
        return list(tokens[:count])

    try:
        yield encode
    finally:
        llama_cpp.llama_model_free(model)


def hold_alike(tokenizer: PreTrainedTokenizerBase, encode: Callable[[str], Ids], where: str, who: str) -> None:
    """Refuse a tokenizer that makes other tokens of the sample and of its template's words than another does.

    Raises:
        UserError: It does; shows the first tokens that differ.
    """
    for text in _texts(tokenizer):
        tokens, file_tokens = list(tokenizer(text, add_special_tokens=False)["input_ids"]), encode(text)
        if tokens != file_tokens:
            at = common_prefix_length(tokens, file_tokens)
            head = tokenizer.decode(tokens[max(at - 4, 0) : at])
            raise UserError(
                f"{where}: its tokenizer makes other tokens than {who}: behind {head!r} {tokens[at : at + 4]} and not"
                f" {file_tokens[at : at + 4]}"
            )


def _texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The sample, and dialogues of it in the template's words."""
    chat = chat_of(tokenizer)
    exchanges: list[list[Message]] = [[{"role": "user", "content": text}, teacher_message(text)] for text in SAMPLE]
    return [*SAMPLE, *(text for exchange in exchanges for text in (chat.prompt(exchange[:1]), chat.dialogue(exchange)))]


def hold_saved(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse what was saved of a tokenizer where anybody who reads it makes other tokens.

    Raises:
        UserError: It does; what else lies in the folder stays.
    """
    saved = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)

    def encode(text: str) -> Ids:
        return list(saved(text, add_special_tokens=False)["input_ids"])

    hold_alike(tokenizer, encode, str(folder), "transformers reads back from what was saved of it")


DIGITS_APART = ("smollm",)
"""How GGUF files call a way to cut text that leaves each digit alone, ½ and ² too; transformers does not know it."""


def as_llama_cpp(tokenizer: PreTrainedTokenizerBase, path: Path) -> PreTrainedTokenizerBase:
    """A tokenizer that transformers made of a GGUF file, with spaces as llama.cpp puts them for a SentencePiece one.

    transformers puts one before a text's first word, llama.cpp before each piece of text that a special token ends.
    """
    fields = GGUFReader(path).fields
    pre = fields.get("tokenizer.ggml.pre")
    if pre and pre.contents() in DIGITS_APART:
        backend = tokenizer.backend_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), backend.pre_tokenizer])
    if fields["tokenizer.ggml.model"].contents() != "llama":
        return tokenizer
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    prefix = fields.get("tokenizer.ggml.add_space_prefix")
    steps: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    if prefix is None or prefix.contents():
        steps.insert(0, {"type": "Prepend", "prepend": "▁"})
    parts["normalizer"] = {"type": "Sequence", "normalizers": steps}
    parts["pre_tokenizer"] = None
    for token in parts["added_tokens"]:
        # it is looked for in the text as it stands, and not with a space before it
        token["normalized"] = False
    names = {f"{role}_token": getattr(tokenizer, f"{role}_token") for role in ("bos", "eos", "unk", "pad")}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), chat_template=tokenizer.chat_template, **names
    )
