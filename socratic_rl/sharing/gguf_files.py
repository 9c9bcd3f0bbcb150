"""GGUF files, which llama.cpp reads: a LoRA adapter alone, or all weights of a model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from socratic_rl.core.errors import UserError, in_short
from socratic_rl.models.tokens import chat_of
from socratic_rl.sharing import gguf_metadata

Array = NDArray[np.float32]


TYPES = {
    "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "float16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
"""What a precision is called in a tensor and in a file."""


NAMES = {"mistral": "llama", "gemma3_text": "gemma3"}
"""What the gguf library calls the architectures that transformers calls otherwise."""


NEIGHBOURS = {"llama", "arcee", "granite", "granitemoe", "olmo", "smollm3"}
"""Architectures whose rotary embedding turns a head's halves in transformers and neighbours in llama.cpp."""


TESTED = {"llama", "arcee", "granite", "olmo", "smollm3", "cohere2", "glm4", "gpt2", "gemma", "gemma2", "gemma3"} | {
    *("olmo2", "phi3", "qwen2", "qwen3", "stablelm", "starcoder2")
}
"""Architectures whose files the tests hold against transformers."""


ZERO_CENTRED = {"gemma", "gemma2", "gemma3"}
"""Architectures whose norms transformers keeps without the 1 that llama.cpp's files hold with them."""


MERGE = "format=merged_gguf puts it into the weights"


T = TypeVar("T")


def read_gguf(path: Path, key: str, read: Callable[[gguf.GGUFReader], T]) -> T:
    """What is read of a GGUF file, which may be damaged.

    Args:
        path: The file.
        key: Of the config, that named it.
        read: Takes what is wanted from the open file.

    Raises:
        UserError: It is missing or damaged; names the key and the file.
    """
    try:
        return read(gguf.GGUFReader(path))
    except OSError as error:
        raise UserError(f"{key}: {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        raise UserError(f"{key}: {path}: is damaged, or no GGUF file: {in_short(str(error))}") from error


def is_adapter(reader: gguf.GGUFReader) -> bool:
    """Whether a file is one of an adapter; what says nothing is a model."""
    kind = reader.fields.get("general.type")
    return bool(kind) and kind.contents() == gguf.GGUFType.ADAPTER


def architecture(config: PreTrainedConfig) -> str:
    """What the gguf library calls a model's architecture, where it knows it."""
    return NAMES.get(config.model_type) or str(config.model_type).replace("_", "")


class Layout:
    """How llama.cpp names and orders the weights of a model.

    Args:
        config: Of the model.

    Raises:
        UserError: The gguf library knows no such architecture.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        self.config = config
        self.architecture = architecture(config)
        architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
        if self.architecture not in architectures:
            raise UserError(f"adapter: the gguf library knows no architecture {config.model_type!r}")
        self._names = gguf.get_tensor_name_map(architectures[self.architecture], config.num_hidden_layers)

    def name(self, parameter: str) -> str:
        """What a weight is called: ``blk.0.attn_q.weight`` for ``model.layers.0.self_attn.q_proj.weight``.

        Raises:
            UserError: The gguf library has no name for it.
        """
        name = self._names.get_name(parameter, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(f"adapter: {parameter}: the gguf library has no name for it in {self.architecture!r}")
        return str(name)

    def rows(self, weight: Array, name: str) -> Array:
        """The rows of a weight or bias in their order there.

        Where its rotary embedding turns neighbours, the halves of each head of queries and keys alternate.
        """
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(name.split(".")[-2])
        if heads is None or self.architecture not in NEIGHBOURS:
            return weight
        halves = weight.reshape(getattr(self.config, heads), 2, -1, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)


def write_adapter(tutor: PeftModel, chat_template: str, path: Path, title: str, adds_bos: bool | None = None) -> None:
    """A LoRA adapter in float32; any file of its base takes it, however quantised.

    llama.cpp scales each update by ``alpha / rank``. What else PEFT's scale holds (rsLoRA's root, a layer's own alpha)
    goes into B.

    Args:
        tutor: The base with the adapter on it.
        chat_template: Goes along, since a base may have none.
        path: The file to make.
        title: What the file calls itself.
        adds_bos: Whether a prompt begins with BOS, since the base's file may say otherwise; None leaves it to that.

    Raises:
        UserError: llama.cpp has no way to apply what was trained.
    """
    settings = tutor.peft_config["default"]
    base: PreTrainedModel = tutor.get_base_model()
    layers = {layer_path: layer for layer_path, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    _refuse_more_than_lora(settings, layers)
    layout = Layout(base.config)
    writer = gguf.GGUFWriter(path, layout.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(title)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, settings.lora_alpha)
    writer.add_chat_template(chat_template)
    if adds_bos is not None:
        writer.add_add_bos_token(adds_bos)
    for layer_path, layer in layers.items():
        if layer is base.get_output_embeddings() and base.config.tie_word_embeddings:
            raise UserError(f"adapter: {layer_path}: is also the embedding, which llama.cpp does not adapt")
        name = layout.name(f"{layer_path}.weight")
        a, b = (_array(part["default"].weight) for part in (layer.lora_A, layer.lora_B))
        writer.add_tensor(f"{name}.lora_a", a)
        folded = layer.scaling["default"] * len(a) / settings.lora_alpha
        writer.add_tensor(f"{name}.lora_b", folded * layout.rows(b, name))
    _finish(writer)


def _refuse_more_than_lora(settings: Any, layers: dict[str, Any]) -> None:
    """Refuse what an adapter of llama.cpp cannot hold, by the name that PEFT has for it."""
    more = {
        "bias": settings.bias != "none" or settings.lora_bias,
        "modules_to_save": settings.modules_to_save,
        "target_parameters": settings.target_parameters,
        "trainable_token_indices": settings.trainable_token_indices,
        "layer_replication": settings.layer_replication,
        "use_dora": settings.use_dora,
    }
    refused = [f"lora.{name}" for name, used in more.items() if used]
    # other variants, and embeddings
    refused += [
        path for path, layer in layers.items() if layer.lora_embedding_A or (layer.lora_variant and not refused)
    ]
    if refused:
        raise UserError(f"adapter: {', '.join(refused)}: an adapter of llama.cpp cannot hold this; {MERGE}")


def write_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, title: str, dtype: str, base: Path | None
) -> None:
    """All weights of a model, its vocabulary and its chat template; norms and biases stay float32.

    Args:
        model: Without an adapter on it.
        tokenizer: Its tokenizer.
        path: The file to make.
        title: What the file calls itself.
        dtype: Precision of the weights: float32, float16 or bfloat16.
        base: A file of a model of the same sizes and vocabulary, whose metadata is taken over; None makes it from
            config and tokenizer.

    Raises:
        UserError: The metadata cannot be made, or a weight has no place in such a file.
    """
    layout = Layout(model.config)
    kind, file_type = TYPES[dtype]
    writer = gguf.GGUFWriter(path, layout.architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(title)
    writer.add_file_type(file_type)
    writer.add_chat_template(tokenizer.chat_template)
    if base:
        read_gguf(base, "base_gguf", lambda reader: gguf_metadata.take_over(reader, writer))
    else:
        gguf_metadata.describe(model.config, layout.architecture, writer)
        gguf_metadata.add_vocabulary(tokenizer, model.config.vocab_size, writer)
    # as its template writes it, whatever the tokenizer puts before other texts, or the base's file says
    writer.add_add_bos_token(chat_of(tokenizer).begins_with_bos)
    # kept as (inputs, outputs)
    turned = {f"{layer_path}.weight" for layer_path, layer in model.named_modules() if isinstance(layer, Conv1D)}
    written = set()
    for parameter, weight in model.state_dict().items():
        if weight.data_ptr() in written:
            # the head, where it is the embedding
            continue
        written.add(weight.data_ptr())
        name = layout.name(parameter)
        rows = layout.rows(_array(weight.T if parameter in turned else weight), name)
        if layout.architecture in ZERO_CENTRED and name.endswith("norm.weight"):
            rows = rows + 1
        exact = rows.ndim == 1 or name.startswith("position_embd")
        its_kind = gguf.GGMLQuantizationType.F32 if exact else kind
        writer.add_tensor(name, gguf.quantize(rows, its_kind), raw_dtype=its_kind)
    _finish(writer)


def _array(weight: torch.Tensor) -> Array:
    array: Array = weight.detach().float().cpu().contiguous().numpy()
    return array


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
