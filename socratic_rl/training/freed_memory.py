"""What becomes of freed memory: kept for the next step, given back before the next job."""

import ctypes
import gc
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's ``mallopt``, from malloc.h."""


def keep_freed_memory() -> None:
    """Have glibc keep up to a gigabyte of freed memory for the next buffers: a step's are else fresh pages each time.

    Of a forest's step on two cores the kernel took a sixth for that. Elsewhere than under glibc nothing happens.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 1 << 30)):
            mallopt(option, value)


def free_memory() -> None:
    """Give back what a job held, before the next job of a multirun starts."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
