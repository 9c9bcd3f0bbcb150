"""A GGUF file in llama.cpp, one sequence of tokens at a time."""

from pathlib import Path

import llama_cpp
import torch

from socratic_rl.errors import UserError
from socratic_rl.generators.decoding import quiet_log


def load(model: Path, adapter: Path | None, n_ctx: int, *, every_token: bool = False) -> llama_cpp.Llama:
    """Load a GGUF file, with a LoRA adapter on it where one is given.

    Args:
        model: The file.
        adapter: One that ``export.py`` wrote.
        n_ctx: The most tokens of a sequence.
        every_token: Whether logits are kept for every token, all of a sequence read at once, or for the last one only.

    Raises:
        UserError: llama.cpp does not load it; says why.
    """
    threads = torch.get_num_threads()
    errors, _ = quiet_log()
    errors.clear()
    try:
        loaded = llama_cpp.Llama(
            str(model),
            lora_path=str(adapter) if adapter else None,
            n_ctx=n_ctx,
            n_batch=n_ctx if every_token else 512,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=-1,
            logits_all=every_token,
            verbose=False,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"llama.cpp does not load {adapter or model}: {errors[0] if errors else error}") from error
    if adapter and not loaded._lora_adapter:
        # the library takes a null pointer for an adapter
        raise UserError(f"llama.cpp does not put {adapter} on {model}: {errors[0] if errors else 'unknown reason'}")
    return loaded
