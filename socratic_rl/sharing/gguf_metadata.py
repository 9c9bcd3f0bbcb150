"""What a GGUF file says of its model beside the weights: made of config and tokenizer, or taken over from a base's."""

import json
import re
from collections.abc import Mapping
from typing import Any

import gguf
import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from socratic_rl.core.errors import UserError
from socratic_rl.models.tokens import chat_of

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


SPLITS = {
    ("ByteLevel",): "gpt-2",
    ("Digits", "ByteLevel"): "smollm",
    (_WORDS % r"\p{N}{1,3}", "ByteLevel"): "llama-bpe",
    (_WORDS % r"\p{N}", "ByteLevel"): "qwen2",
}
"""What llama.cpp calls the way in which a tokenizer splits text before it merges: its steps, or their patterns."""


NEEDS_BASE = "a GGUF file of the base is needed, whose metadata is taken over: base_gguf=FILE"


def take_over(base: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    """The base's sizes and vocabulary, and by how much it scales each frequency of its rotary embedding."""
    for key, field in base.fields.items():
        if not key.startswith(("GGUF.", "general.", "tokenizer.chat_template", gguf.Keys.Tokenizer.ADD_BOS)):
            kind, *inner = field.types
            writer.add_key_value(key, field.contents(), kind, inner[0] if inner else None)
    for tensor in base.tensors:
        if tensor.name.startswith("rope_"):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)


def describe(config: PreTrainedConfig, architecture: str, writer: gguf.GGUFWriter) -> None:
    """The sizes of a model, for the architectures whose files the tests hold against transformers.

    Raises:
        UserError: It is of another architecture, or scales its rotary embedding.
    """
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    match architecture:
        case "llama" | "qwen2" | "qwen3":
            rope = config.rope_parameters
            if rope["rope_type"] == "llama3":
                # by how much each frequency is lowered, as llama.cpp's own files of Llama 3.1 hold it
                lowered, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
                steps = torch.arange(0, 2 * len(lowered), 2) / (2 * len(lowered))
                writer.add_tensor("rope_freqs.weight", (rope["rope_theta"] ** -steps / lowered).float().numpy())
            elif rope["rope_type"] != "default":
                raise UserError(f"base_gguf: for a rotary embedding of type {rope['rope_type']!r} {NEEDS_BASE}")
            head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            # llama.cpp's Llama knows no window: past it, it would read what the model never did
            window = getattr(config, "sliding_window", None) or config.max_position_embeddings
            writer.add_context_length(min(config.max_position_embeddings, window))
            writer.add_feed_forward_length(config.intermediate_size)
            writer.add_head_count_kv(config.num_key_value_heads)
            writer.add_key_length(head)
            writer.add_value_length(head)
            writer.add_rope_dimension_count(head)
            writer.add_rope_freq_base(rope["rope_theta"])
            writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        case "gemma" | "gemma2" | "gemma3":
            _describe_gemma(config, architecture, writer)
        case "gpt2":
            writer.add_context_length(config.n_positions)
            writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
            writer.add_layer_norm_eps(config.layer_norm_epsilon)
        case other:
            raise UserError(f"base_gguf: for the architecture {other!r} {NEEDS_BASE}")


WINDOWED = {"gemma": 0, "gemma2": 2, "gemma3": 6}
"""Of how many layers the last sees everything, and the others a window; none has one in the first."""


def _describe_gemma(config: PreTrainedConfig, architecture: str, writer: gguf.GGUFWriter) -> None:
    """What llama.cpp asks of a Gemma; the rest it takes for given.

    Raises:
        UserError: Something that it takes for given is otherwise.
    """
    every = WINDOWED[architecture]
    layers = range(1, config.num_hidden_layers + 1)
    kinds = ["sliding_attention" if every and number % every else "full_attention" for number in layers]
    ropes = config.rope_parameters
    full, window = ropes.get("full_attention", ropes), ropes.get("sliding_attention", ropes)
    scale = getattr(config, "query_pre_attn_scalar", config.head_dim)
    fields = {
        "rope_type": {full["rope_type"], window["rope_type"]} == {"default"},
        "rope_theta": architecture != "gemma3" or window["rope_theta"] == 10_000,
        "query_pre_attn_scalar": scale == config.head_dim,
        "layer_types": list(getattr(config, "layer_types", kinds)) == kinds or not every,
        "use_bidirectional_attention": not getattr(config, "use_bidirectional_attention", False),
    }
    if unlike := [name for name, is_given in fields.items() if not is_given]:
        raise UserError(f"base_gguf: for a {architecture} with {', '.join(unlike)} of its own {NEEDS_BASE}")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(full["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if every:
        writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def add_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int, writer: gguf.GGUFWriter) -> None:
    """The vocabulary of a tokenizer that merges pairs of bytes or, as Llama 2's, of characters.

    Raises:
        UserError: It is another kind.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    model, split = parts["model"], parts["pre_tokenizer"] or {}
    steps = tuple(map(_step, filter(None, split.get("pretokenizers", [split]))))
    # llama.cpp ends the process at a character that it has no bytes for
    characters = model.get("byte_fallback", False) and "<0x00>" in model["vocab"]
    if model["type"] != "BPE" or not (characters or steps in SPLITS):
        raise UserError(f"base_gguf: for a tokenizer of kind {model['type']}, {'+'.join(steps)}, {NEEDS_BASE}")
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    # Gemma 3 has one token more than rows
    vocabulary = {text: number for text, number in tokenizer.get_vocab().items() if number < size}
    for text, number in vocabulary.items():
        is_byte = characters and re.fullmatch("<0x[0-9A-F]{2}>", text)
        tokens[number], kinds[number] = text, gguf.TokenType.BYTE if is_byte else gguf.TokenType.NORMAL
    for number in tokenizer.added_tokens_decoder.keys() & vocabulary.values():
        token = tokenizer.added_tokens_decoder[number]
        kinds[number] = gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    if characters:
        writer.add_tokenizer_model("llama")
        # of the pairs that could be merged llama.cpp takes the one with the highest score
        first = {"".join(pair): -number for number, pair in reversed(list(enumerate(merges, 1)))}
        writer.add_token_scores([float(first.get(text, 0)) for text in tokens])
        steps_before = (parts["normalizer"] or {}).get("normalizers", [])
        # "first" puts a space only where a text begins, which in a dialogue is BOS
        always = any(step["type"] == "Prepend" for step in steps_before) or split.get("prepend_scheme") == "always"
        writer.add_add_space_prefix(always)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(SPLITS[steps])
        writer.add_token_merges([" ".join(pair) for pair in merges])
    for role in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{role}_token_id")) is not None:
            getattr(writer, f"add_{role}_token_id")(number)
    if (end := chat_of(tokenizer).end) is not None and end != tokenizer.eos_token_id:
        writer.add_eot_token_id(end)


def _step(step: Mapping[str, Any]) -> str:
    """What tells a step of splitting from others: the pattern of one that splits by it, else its kind."""
    return str(step["pattern"].get("Regex", step["type"]) if step["type"] == "Split" else step["type"])
