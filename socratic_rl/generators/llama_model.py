"""Talks decoded together by llama.cpp: a batch with a sequence for each, whose cache is kept from turn to turn."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import llama_cpp

GGML_LOG_LEVEL_ERROR = 4
"""As in ggml.h."""


def _text(reads: Callable[..., int], of: Any, key: str) -> str | None:
    """A text that llama.cpp writes into a buffer."""
    size = 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = reads(of, key.encode(), buffer, size)
        if length < size:
            return buffer.value.decode() if length >= 0 else None
        size = length + 1


def _free(batch: Any, context: Any, model: Any) -> None:
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


@cache
def quiet_log() -> tuple[list[str], Any]:
    """The errors that llama.cpp told of, as it writes nothing to stderr from here on; and the hook that keeps them.

    llama.cpp goes on calling the hook, so it must not be freed: the cache holds it.
    """
    errors: list[str] = []

    def keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if level == GGML_LOG_LEVEL_ERROR:
            errors.append(text.decode(errors="replace").strip())

    hook = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(hook, ctypes.c_void_p(0))
    return errors, hook
