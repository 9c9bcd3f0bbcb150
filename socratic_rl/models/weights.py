"""Base weights (hub, folder, GGUF or the embedded model), tokenizers and adapters."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from gguf import GGUFReader
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTQConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from socratic_rl.core import embedded
from socratic_rl.core.component import EMBEDDED, ModelSettings
from socratic_rl.core.errors import UserError, in_short
from socratic_rl.core.files import refuse_pointer, whole_file
from socratic_rl.core.templates import with_arguments
from socratic_rl.core.text import tell
from socratic_rl.models import processes, tokenizers
from socratic_rl.models.checkpoints import own_quantization, quantization_from_node, refuse_damaged, refuse_gaps
from socratic_rl.models.tokens import chat_of, limit_rows

CHAT_TEMPLATE = Path(__file__).parent / "chat_template.jinja"
"""For a base model whose tokenizer has none."""


GGUF_COPIES = 1.9
"""How many times its float32 size transformers takes of memory to read a GGUF file, as measured."""


def weights_folder(settings: ModelSettings) -> str:
    """The hub id or folder that transformers loads; a GGUF file is turned into safetensors once and kept.

    Raises:
        UserError: The path is missing, is no GGUF file or is a folder without safetensors.
    """
    source = settings.pretrained
    if (file := gguf_of(settings)) is not None:
        if not file.is_file():
            raise UserError(f"model.pretrained: {source}: no such file")
        refuse_pointer(file, "model.pretrained")
        return str(_from_gguf(file))
    path = Path(source).expanduser()
    if path.is_dir():
        refuse_pointer(path, "model.pretrained")
        if not (path / "config.json").exists() or not any(path.glob("*.safetensors")):
            raise UserError(f"model.pretrained: {source}: no config.json with *.safetensors beside it in this folder")
        return str(path)
    if path.exists() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise UserError(f"model.pretrained: {source}: no such folder; a hub id, a folder, a .gguf file or {EMBEDDED!r}")
    return source


def gguf_of(settings: ModelSettings) -> Path | None:
    """The GGUF file that a base is read from; None where it is no such file."""
    if settings.pretrained == EMBEDDED:
        return embedded.gguf_path()
    path = Path(settings.pretrained).expanduser()
    return path if path.suffix == ".gguf" else None


def load_tokenizer(settings: ModelSettings) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, padding on the right as preference training wants it.

    Raises:
        UserError: As ``tokenizer_from`` does, or ``model.template_kwargs`` are not the chat template's.
    """
    source = weights_folder(settings)
    tokenizer = tokenizer_from(source, settings.revision, settings.template_kwargs)
    config = pretrained(AutoConfig, source, revision=settings.revision)
    limit_rows(tokenizer, config.get_text_config().vocab_size)
    if (path := gguf_of(settings)) is not None:
        tokenizers.hold_to_gguf(tokenizer, path, source)
    if chat_of(tokenizer).end is None:
        tell(f"{settings.name}: its chat template ends no reply, so {tokenizer.eos_token} is put behind each")
    return tokenizer


def tokenizer_from(
    source: str, revision: str | None = None, template_kwargs: Mapping[str, Any] | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or a folder, with our chat template where it has none of its own.

    Args:
        source: The hub id or folder.
        revision: The branch, tag or commit of a hub id.
        template_kwargs: What its chat template takes beside messages.

    Raises:
        UserError: There is none, its chat template fails, or it has no token that could end a turn.
    """
    tokenizer = _readable(source, lambda: tokenizers.load(source, revision))
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if tokenizer.chat_template is None:
        if tokenizer.eos_token is None:
            raise UserError(f"model.pretrained: {source}: its tokenizer has neither a chat template nor an end token")
        tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
    tokenizer.chat_template = with_arguments(tokenizer.chat_template, template_kwargs or {})
    try:
        end = chat_of(tokenizer).end
    except UserError as error:
        raise UserError(f"model.pretrained: {error}") from error
    if end is None and tokenizer.eos_token is None:
        raise UserError(
            f"model.pretrained: {source}: its chat template ends no reply, and its tokenizer has no end token to do so"
        )
    if tokenizer.pad_token is None:
        # padding is masked from the loss by length, not by token, so the end token can stand in
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(end)
    _readable(source, lambda: tokenizers.hold_to_files(tokenizer, source, revision))
    return tokenizer


def load_base(settings: ModelSettings) -> PreTrainedModel:
    """A base model as a policy, in its training precision, on the GPU where there is one.

    Raises:
        UserError: The weights cannot be found or read, or not be quantised as ``model.quantization`` says.
    """
    source = weights_folder(settings)
    own_method = pretrained_quantization(source, settings.revision)
    quantization = quantization_config(settings, own_method)
    if (own_method or quantization) and processes.sharded():
        raise UserError(
            "model.quantization: quantised weights are not sharded here; DDP trains a quantised base on several devices"
        )
    # handed on as None it would wipe what the checkpoint says of its own quantisation
    quantized_by = {"quantization_config": quantization} if quantization else {}
    model, loading = pretrained(
        AutoModelForCausalLM,
        source,
        revision=settings.revision,
        dtype=dtype_of(settings),
        attn_implementation=settings.attn_implementation,
        use_safetensors=True,
        # quantised weights are placed as they are read
        device_map={"": device()} if own_method or quantization else None,
        output_loading_info=True,
        **quantized_by,
    )
    refuse_gaps(source, loading)
    if processes.sharded():
        # the trainer places the shards
        return model
    if not own_method and quantization is None:
        model = model.to(device())
        refuse_damaged(source, model)
        return model
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # once bitsandbytes has packed a 4-bit layer for this kernel of some CPUs, no gradient passes through it
            module.support_avx512bf16_for_cpu = False
    # LLM.int8() says at every product of every layer that it rounds to 16 bits
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return model


def weights_identity(settings: ModelSettings) -> str:
    """What tells loaded weights from others: their files' place, a commit's on the hub, their sizes and times."""
    source = weights_folder(settings)
    folder = Path(source)
    if not folder.is_dir():
        folder = Path(str(try_to_load_from_cache(source, "config.json", revision=settings.revision))).parent
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safetensors"))]
    return json.dumps([str(folder.resolve()), files])


def pretrained_quantization(source: str, revision: str | None) -> str | None:
    """The method by which a hub id's or a folder's weights are quantised already; None where they are not.

    Raises:
        UserError: The source cannot be read.
    """
    return _readable(source, lambda: own_quantization(source, revision))  # type: ignore[no-any-return]


def quantization_config(settings: ModelSettings, own_method: str | None = None) -> Any:
    """What transformers quantises weights by as it reads them; None where it does not.

    Args:
        settings: The base model's.
        own_method: The method by which the checkpoint is quantised already.

    Raises:
        UserError: transformers refuses a value, or the checkpoint is quantised by another method.
    """
    node = settings.quantization
    if node is None:
        # the kernel that transformers would choose passes no gradient on a CPU
        return GPTQConfig(bits=4, backend="gptq_torch") if own_method == "gptq" else None
    name = "bnb_4bit_compute_dtype"
    values = {name: str(dtype_of(settings)).removeprefix("torch.")} if name in node and node[name] is None else {}
    config = quantization_from_node(node, **values)
    if own_method and str(config.quant_method.value) != own_method:
        raise UserError(
            f"model.quantization: {settings.pretrained} is quantised by {own_method} already and cannot be by"
            f" {config.quant_method.value} as well; leave it out: model.quantization=null"
        )
    return config


def has_adapter(folder: Path) -> bool:
    """Whether the folder holds a LoRA adapter, and not a whole model."""
    return (folder / "adapter_config.json").exists()


def context_length(config: PreTrainedConfig) -> int:
    """The most tokens that a model of this config can read."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 10**9))


def device() -> torch.device:
    """Where models run in this process."""
    return torch.device("cuda", processes.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def has_bf16() -> bool:
    """Whether this machine computes in bfloat16; CPUs do so far slower than in float32."""
    return half_precision() == torch.bfloat16


def half_precision() -> torch.dtype | None:
    """The 16 bits in which this machine computes fastest; None on a CPU, which does so far slower than in float32."""
    if not torch.cuda.is_available():
        return None
    # a T4 says yes when emulation counts, and is slower by it than in float16
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def dtype_of(settings: ModelSettings, trained: bool = False) -> torch.dtype:
    """The precision of a base's weights here.

    Args:
        settings: The base's.
        trained: Whether the weights themselves are trained, which float16 is too coarse for.
    """
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)  # type: ignore[no-any-return]
    half = half_precision()
    return torch.float32 if half is None or (trained and half == torch.float16) else half


def cache() -> Path:
    """The folder of the user's in which what takes long to make is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "socratic_rl"


def pretrained(kind: Any, source: str, **arguments: Any) -> Any:
    """What an Auto class of transformers reads from a folder or the hub, without running code that lies there.

    Raises:
        UserError: It cannot be read; names the source.
    """
    return _readable(source, lambda: kind.from_pretrained(source, trust_remote_code=False, **arguments))


def _readable(source: str, read: Callable[[], Any]) -> Any:
    """What ``read`` gives; what transformers raises on a source that it cannot read becomes one line."""
    try:
        return read()
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # on a damaged file its libraries raise whatever they meet, tokenizers an Exception itself
        speaks = isinstance(error, OSError | ValueError | ImportError | RuntimeError)
        reason = in_short(str(error) if speaks else f"{type(error).__name__}: {error}")
        if not isinstance(error, OSError) or Path(source).exists():
            raise UserError(f"model.pretrained: {source}: cannot be loaded: {reason}") from error
        raise UserError(
            f"model.pretrained: {source}: cannot be had from the hub ({reason.split('. ')[0].rstrip('.')}); "
            "a model whose licence must be accepted needs HF_TOKEN in the environment; a folder will do as well"
        ) from error


CONVERSION = 2
"""The version of what is kept of a GGUF file: an older one's tokenizer took other tokens than llama.cpp."""


def _from_gguf(path: Path) -> Path:
    """The folder with a GGUF file's weights as float32 safetensors, made when it is first asked for."""
    stat = path.stat()
    folder = cache() / f"{path.stem}-{_digest(path, stat.st_size, stat.st_mtime_ns)}-v{CONVERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            _convert(path, folder)
    return folder


@functools.cache
def _digest(path: Path, size: int, changed: int) -> str:  # noqa: ARG001  a file that changed is hashed anew
    """The start of a GGUF file's SHA-256; files of gigabytes are hashed once a process."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise UserError(f"model.pretrained: {path}: not a GGUF file")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _announce(path: Path, folder: Path) -> None:
    """Say what reading a GGUF file takes, before it begins; transformers shows a bar."""
    tensors = _readable(str(path), lambda: GGUFReader(path).tensors)
    disk = 4e-9 * sum(int(tensor.n_elements) for tensor in tensors)
    memory = GGUF_COPIES * disk
    digits = 1 if disk > 0.1 else 3
    tell(
        f"reading {path.name} as float32, once: about {memory:.{digits}f} GB of memory and {disk:.{digits}f} GB of disk"
        f" ({folder})"
    )


def _convert(path: Path, folder: Path) -> None:
    _announce(path, folder)
    with whole_file(folder) as temporary:
        read = {"gguf_file": path.name, "trust_remote_code": False}
        model, loading = _readable(
            str(path),
            lambda: AutoModelForCausalLM.from_pretrained(
                str(path.parent), dtype=torch.float32, output_loading_info=True, **read
            ),
        )
        refuse_gaps(str(path), loading)
        refuse_damaged(str(path), model)
        tokenizer = _readable(
            str(path),
            lambda: tokenizers.as_llama_cpp(AutoTokenizer.from_pretrained(str(path.parent), **read), path),
        )
        # the weights are plain floats by now, though transformers still marks them as quantised
        model.hf_quantizer = None
        model.is_quantized = False
        del model.config.quantization_config
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
