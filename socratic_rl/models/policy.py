"""A base model to train: of its own, or around weights that are read once a process."""

import copy
import dataclasses
from typing import Any

import torch
from peft import LoraConfig
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
    if lora is not None and _leaves_base(lora) and not processes.sharded():
        return SHARED_BASE.load(settings)
    SHARED_BASE.release()
    model = weights.load_base(settings)
    if lora is None and getattr(model, "is_quantized", False):
        raise UserError(f"lora: {settings.name} is quantised, so only an adapter can be trained: lora=default")
    return model


def _leaves_base(lora: LoraConfig) -> bool:
    """Whether PEFT neither trains the base's biases nor takes the adapter's first weights out of the base's."""
    return lora.bias == "none" and lora.init_lora_weights in (True, False, "gaussian")


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
