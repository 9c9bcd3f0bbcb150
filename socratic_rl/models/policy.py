"""A base model to train: of its own, or around weights that are read once a process; and what adapters do to it."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from transformers import PreTrainedModel

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.models import processes, weights


class SharedBase:
    """At most one base, itself never called or changed, for the jobs of a sweep that train adapters on it."""

    def __init__(self) -> None:
        self.settings: ModelSettings | None = None
        self.model: PreTrainedModel | None = None

    def release(self) -> None:
        """Let go of the base."""
        self.settings = self.model = None

    def load(self, settings: ModelSettings) -> PreTrainedModel:
        """A model of its own around the base's weights, which are read where they are not held."""
        if settings != self.settings:
            # before the next is read, so that memory never holds two
            self.release()
        if self.model is None:
            model = weights.load_base(settings)
            if getattr(model, "quantization_method", None) == "gptq":
                # its layers hold kernels of their own
                return model
            self.settings, self.model = settings, model
        return _around_its_weights(self.model)


SHARED_BASE = SharedBase()
"""The one of this process, which runs one job after the other."""


def load_policy(settings: ModelSettings, lora: LoraConfig | None) -> PreTrainedModel:
    """A base to train. Below an adapter its weights stay as they are, so the jobs of a process share them.

    Raises:
        UserError: As ``weights.load_base`` does, or quantised weights are to be trained themselves.
    """
    if lora is not None and keeps_base(lora) and not processes.sharded():
        return SHARED_BASE.load(settings)
    SHARED_BASE.release()
    if lora is None:
        settings = settings.model_copy(update={"dtype": str(weights.dtype_of(settings, trained=True))[len("torch.") :]})
    model = weights.load_base(settings)
    if lora is None and getattr(model, "is_quantized", False):
        raise UserError(f"lora: {settings.name} is quantised, so only an adapter can be trained: lora=default")
    return model


def keeps_base(lora: LoraConfig) -> bool:
    """Whether switching the adapter off gives the base back: PEFT neither trains nor rewrites the base's weights."""
    return lora.bias == "none" and not takes_from_base(lora)


def takes_from_base(lora: LoraConfig) -> bool:
    """Whether the adapter's first weights are taken out of the base's: PiSSA and OLoRA."""
    return str(lora.init_lora_weights).lower().startswith(("pissa", "olora"))


def adapter_weights(
    model: PreTrainedModel, gathered: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """The weights of a model's adapter under the names of its file.

    Args:
        model: With an adapter.
        gathered: The model's weights, where it does not hold them all itself.
    """
    state = get_peft_model_state_dict(model, state_dict=gathered and dict(gathered))
    return {name: weight.detach().cpu().clone() for name, weight in state.items()}


def as_plain_lora(
    lora: LoraConfig, first: Mapping[str, torch.Tensor], last: Mapping[str, torch.Tensor]
) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
    """An adapter whose first weights were taken out of the base as one of twice the rank for the base as it is.

    Such a layer computes W - s B₀A₀ + s BA, which is W + s [B, -B₀] [A; A₀]: it is read without knowing how it began.

    Args:
        lora: As it was trained.
        first: The adapter's weights before the first step.
        last: After the last one.
    """
    weights = {}
    for name, weight in last.items():
        if "lora_A" in name or "lora_embedding_A" in name:
            weights[name] = torch.cat([weight, first[name]], dim=0)
        elif "lora_B" in name or "lora_embedding_B" in name:
            weights[name] = torch.cat([weight, -first[name]], dim=1)
        else:
            weights[name] = weight
    # what keeps alpha / r, or alpha / √r
    factor = math.sqrt(2) if lora.use_rslora else 2
    plain = dataclasses.replace(
        lora,
        init_lora_weights=True,
        r=2 * lora.r,
        lora_alpha=factor * lora.lora_alpha,
        rank_pattern={name: 2 * rank for name, rank in (lora.rank_pattern or {}).items()},
        alpha_pattern={name: factor * alpha for name, alpha in (lora.alpha_pattern or {}).items()},
    )
    return plain, weights


def _around_its_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy in everything but the memory that the weights lie in: no hook or flag of one is seen by the other."""
    twins: dict[int, Any] = {}
    for weight in model.parameters():
        twin = torch.Tensor._make_subclass(type(weight), weight.data, weight.requires_grad)
        # what bitsandbytes keeps at its weights
        vars(twin).update(vars(weight))
        twins[id(weight)] = twin
    return copy.deepcopy(model, twins)


def with_targets(lora: LoraConfig, model: PreTrainedModel) -> LoraConfig:
    """An adapter's settings for a model; PEFT's ``all-linear`` does not find the layers of a GPTQ checkpoint."""
    if lora.target_modules != "all-linear" or getattr(model, "quantization_method", None) != "gptq":
        return lora
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, BaseQuantLinear)}
    return dataclasses.replace(lora, target_modules=sorted(names))
