"""A full disk is told in one line, whichever library met it."""

import errno
from pathlib import Path

import pytest
import torch

from socratic_rl.core.errors import explain_full_disk


def test_what_libraries_raise_on_a_full_disk_is_known():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(RuntimeError) as by_torch:
        torch.save({"x": torch.zeros(100_000)}, full)
    with full.open("wb", buffering=0) as file, pytest.raises(OSError, match="space") as by_python:
        file.write(b"x")
    outer = RuntimeError("could not save")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    # what safetensors says of it
    of_safetensors = Exception("Error while serializing: I/O error: No space left on device (os error 28)")
    for error in (by_torch.value, by_python.value, outer, of_safetensors):
        assert str(explain_full_disk(error)).startswith("no room left on the disk; what was finished is kept")


def test_other_errors_are_not():
    for error in (ValueError("no room in the context"), OSError(errno.EACCES, "Permission denied"), RuntimeError("x")):
        assert explain_full_disk(error) is None
