"""What a checkpoint brings of its own: how its weights are quantised, and whether each of them finds its layer."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
from transformers import AutoConfig, AwqConfig, BitsAndBytesConfig, GPTQConfig, PreTrainedModel

from socratic_rl.core.errors import UserError

QUANTIZATIONS = {f"transformers.{kind.__name__}": kind for kind in (BitsAndBytesConfig, GPTQConfig, AwqConfig)}
"""The classes that ``model.quantization`` may name. A tutor's folder brings this node too, so nothing else is made."""

NAMED = 3
"""How many weights an error names."""


def quantization_from_node(node: Mapping[str, Any], **values: Any) -> Any:
    """Transformers' settings of a ``model.quantization`` node, made without importing what the node names.

    Raises:
        UserError: The node names another class, or transformers refuses a value.
    """
    name = node.get("_target_")
    if not isinstance(name, str) or name not in QUANTIZATIONS:
        raise UserError(f"model.quantization._target_: {name!r} is none of {', '.join(QUANTIZATIONS)}")
    plain = {key: value for key, value in (dict(node) | values).items() if not key.startswith("_")}
    try:
        return QUANTIZATIONS[name](**plain)
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise UserError(f"model.quantization: {' '.join(str(error).split())}") from error


def own_quantization(source: str, revision: str | None) -> str | None:
    """The method that a checkpoint says its weights are quantised by, such as ``gptq``; None where they are not.

    Raises:
        OSError, ValueError: The checkpoint's ``config.json`` cannot be read.
    """
    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return None
    settings = settings if isinstance(settings, Mapping) else settings.to_dict()
    if method := settings.get("quant_method"):
        return str(method.value if isinstance(method, Enum) else method)
    # bitsandbytes wrote no method in its first checkpoints
    return "bitsandbytes" if settings.get("load_in_4bit") or settings.get("load_in_8bit") else "an unnamed method"


def refuse_gaps(source: str, loading: Mapping[str, Any]) -> None:
    """Refuse a model some of whose weights did not come from the checkpoint: transformers draws those at random.

    Args:
        source: The checkpoint.
        loading: What ``from_pretrained(…, output_loading_info=True)`` reports.

    Raises:
        UserError: Weights are missing, unexpected or of another shape; names the first.
    """
    gaps = []
    for kind in ("missing", "unexpected", "mismatched"):
        entries = loading.get(f"{kind}_keys") or ()
        names = sorted(entry if isinstance(entry, str) else str(entry[0]) for entry in entries)
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            gaps.append(f"{kind} {', '.join(names[:NAMED])}{more}")
    if gaps:
        raise UserError(f"model.pretrained: {source}: its weights do not fit its config.json: {'; '.join(gaps)}")


def refuse_damaged(source: str, model: PreTrainedModel) -> None:
    """Refuse weights that no training leaves: what is no number, or a matrix of zeros, as in half a download.

    Args:
        source: The checkpoint.
        model: Read from it, not quantised.

    Raises:
        UserError: There are such; names the first.
    """
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise UserError(f"model.pretrained: {source}: is damaged: {name} holds what is no number")
        if weight.ndim > 1 and not weight.any():
            raise UserError(f"model.pretrained: {source}: is damaged: {name} holds nothing but zeros")
