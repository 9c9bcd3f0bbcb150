"""A LoRA adapter's folder, which may be anybody's: its settings typed, its weights whole, and put on a base."""

import re
from pathlib import Path
from typing import Annotated, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from socratic_rl.core.errors import UserError, in_short
from socratic_rl.core.files import read_model

SETTINGS = "adapter_config.json"
"""The settings in an adapter's folder, as PEFT writes them."""


WEIGHTS = "adapter_model.safetensors"
"""The weights in an adapter's folder."""


NAMED = 3
"""How many weights an error names."""


DAMAGED = (ValueError, RuntimeError, OSError, TypeError, AttributeError, LookupError, re.error)
"""What PEFT raises on settings and weights that it does not expect."""


class _Settings(BaseModel):
    """What an adapter's settings must hold, and be, to be handed to PEFT."""

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1, le=65_536)]
    lora_alpha: Annotated[float, Field(gt=0)]
    target_modules: str | list[str] | None
    bias: Literal["none", "all", "lora_only"]
    lora_dropout: Annotated[float, Field(ge=0, le=1)] = 0
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=65_536)]] | None = None
    alpha_pattern: dict[str, float] | None = None
    modules_to_save: list[str] | None = None
    target_parameters: list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    use_dora: bool = False
    use_rslora: bool = False


def adapter_settings(folder: Path) -> LoraConfig:
    """The settings of the adapter in a folder.

    Raises:
        UserError: They are damaged, or of another kind than LoRA.
    """
    try:
        read_model(_Settings, folder / SETTINGS)
        return LoraConfig.from_pretrained(str(folder))
    except UserError as error:
        raise UserError(f"adapter: {error}") from error
    except DAMAGED as error:
        raise UserError(f"adapter: {folder / SETTINGS}: {in_short(str(error))}") from error


def load_adapter(base: PreTrainedModel, folder: Path, trainable: bool = False) -> PreTrainedModel:
    """The tutor: the base with the LoRA adapter in ``folder`` on it, base weights shared.

    Args:
        base: The base; its layers are wrapped in place.
        folder: What ``train.py`` left.
        trainable: Whether the adapter is trained further.

    Raises:
        UserError: The folder holds no whole adapter as safetensors, or one of another model.
    """
    settings = adapter_settings(folder)
    if not (folder / WEIGHTS).exists():
        # PEFT would go on to adapter_model.bin, a pickle
        raise UserError(f"adapter: {folder}: no {WEIGHTS} in it; adapters are read from safetensors alone")
    settings.inference_mode = not trainable
    try:
        model = PeftModel.from_pretrained(base, str(folder), is_trainable=trainable, config=settings).eval()
        _hold_whole(model, "default", folder)
    except SafetensorError as error:
        raise UserError(f"adapter: {folder / WEIGHTS}: is damaged: {in_short(str(error))}") from error
    except torch.OutOfMemoryError:
        raise
    except DAMAGED as error:
        raise UserError(f"adapter: {folder}: does not fit the base model: {in_short(str(error))}") from error
    return model


def add_adapter(model: PeftModel, folder: Path, name: str) -> None:
    """Put another adapter beside those that a model has.

    Raises:
        UserError: As ``load_adapter``.
    """
    adapter_settings(folder)
    try:
        model.load_adapter(str(folder), adapter_name=name)
        _hold_whole(model, name, folder)
    except SafetensorError as error:
        raise UserError(f"adapter: {folder / WEIGHTS}: is damaged: {in_short(str(error))}") from error
    except DAMAGED as error:
        raise UserError(f"adapter: {folder}: does not fit the base model: {in_short(str(error))}") from error


def _hold_whole(model: PeftModel, name: str, folder: Path) -> None:
    """Refuse an adapter that lacks a layer, has one too many, or holds what is no number: PEFT only warns.

    Raises:
        UserError: It does.
    """
    wanted = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    with safe_open(str(folder / WEIGHTS), "pt") as file:
        names = set(file.keys())
    wrong = {
        "lacks": set(wanted) - names,
        "does not fit the base model in": {key for key in names - set(wanted) if "lora_" in key},
        "holds what is no number in": {key for key, weight in wanted.items() if not torch.isfinite(weight).all()},
    }
    for what, keys in wrong.items():
        if keys:
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            raise UserError(f"adapter: {folder / WEIGHTS}: {what} {', '.join(sorted(keys)[:NAMED])}{more}")
