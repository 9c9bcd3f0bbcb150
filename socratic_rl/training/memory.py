"""What a training takes of a device's memory, estimated before any weights are loaded, and its precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from omegaconf import DictConfig
from torch import nn
from transformers import PreTrainedModel

from socratic_rl.core.text import tell
from socratic_rl.models import weights
from socratic_rl.training.tracing import (
    Plan,
    Quantised,
    UntraceableError,
    on_meta,
    traced_scoring,
    traced_step,
    trained_dtype,
)

DRIVER = 600_000_000
"""Bytes that CUDA and its libraries take of a GPU before anything is computed."""

TILE = (4096, 32768)
"""Tokens and words whose logits TRL's head computes at once."""

TORCH_BUFFERS = 8
"""Float32 buffers of a tile's size that TRL's head holds beside it in its backward pass where Triton does not run."""


@dataclass(frozen=True)
class Estimate:
    """Bytes at the highest moment of a training."""

    weights: float
    trained: float
    """What is trained, with gradients and the optimiser's state; of a full training without the weights themselves."""
    activations: float
    """What a step keeps for its backward pass."""
    layer: float
    """What one layer holds beside that in its backward pass, weights that a quantiser expands among it."""
    logits: float
    """What the head holds; never at the moment of a layer's backward pass."""
    scoring: float
    """What scoring pairs holds beside the weights, in place of a step's."""
    driver: float
    tokens: int
    """Of the largest batch."""

    @property
    def total(self) -> float:
        """Bytes at the highest moment."""
        step = self.activations + max(self.layer, self.logits)
        return self.weights + self.trained + max(step, self.scoring) + self.driver

    def line(self) -> str:
        """The parts, in a line."""
        parts = {
            "weights": self.weights,
            "trained part": self.trained,
            f"activations of {self.tokens:,} tokens": self.activations,
            "logits": self.logits,
            "a layer's buffers": self.layer,
        }
        named = ", ".join(f"{name} {gigabytes(size)}" for name, size in parts.items())
        return f"{gigabytes(self.total)} ({named})"

    def rows(self) -> dict[str, str]:
        """The parts, for a table."""
        a_token = self.activations / self.tokens / 1e6
        return {
            "weights": gigabytes(self.weights),
            "trained part": f"{gigabytes(self.trained)}, with gradients and optimiser",
            "activations": f"{gigabytes(self.activations)}: {a_token:.2f} MB a token × {self.tokens:,} tokens",
            "at once beside": f"{gigabytes(max(self.layer, self.logits))}: the logits ({gigabytes(self.logits)}) or a"
            f" layer's backward pass with what a quantiser expands ({gigabytes(self.layer)})",
            "scoring": f"{gigabytes(self.scoring)}, in place of the two above",
            **({"driver": gigabytes(self.driver)} if self.driver else {}),
        }


def gigabytes(size: float) -> str:
    """Bytes for people, in units of a thousand millions: ``7.3 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 50e6 else f"{size / 1e9:.3f} GB"


def estimate(plan: Plan, checkpointing: bool) -> Estimate:
    """The memory that a training takes at its highest.

    Args:
        plan: The training.
        checkpointing: Whether a layer's activations are computed once more in the backward pass.

    Raises:
        UntraceableError: The architecture does what needs contents.
        UserError: PEFT refuses the adapter for it.
    """
    try:
        base, first, both = (on_meta(plan, layers) for layers in (None, 1, 2))
        trained = [_trained_bytes(plan, model) for model in (first, both)]
        first_step, two = (traced_step(plan, model, checkpointing) for model in (first, both))
        scoring = traced_scoring(plan, on_meta(plan, 1))
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UntraceableError(f"estimate: {plan.config.model_type} cannot be traced: {reason}") from error
    more = plan.config.get_text_config().num_hidden_layers - 1
    return Estimate(
        weights=_weight_bytes(plan, base) * (2 if plan.reference else 1) / plan.shards,
        trained=(trained[0] + more * (trained[1] - trained[0])) / plan.shards,
        activations=first_step.kept + more * (two.kept - first_step.kept),
        layer=two.highest - two.kept,
        logits=_logit_bytes(plan, plan.batch.scored, backward=True),
        scoring=max(scoring, _logit_bytes(plan, plan.scoring.scored, backward=False)),
        driver=DRIVER if plan.on_gpu else 0,
        tokens=plan.batch.tokens,
    )


def device_memory() -> int:
    """Bytes that this process may take here: of its GPU, or of the machine where there is none."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


def precision(node: DictConfig) -> dict[str, bool]:
    """In which 16 bits is computed, as ``DPOConfig`` takes it: ``bf16``, and ``fp16``, which brings a loss scaler."""
    half = weights.half_precision()
    if node.get("fp16") is not None:
        return {"bf16": bool(node.bf16), "fp16": bool(node.fp16)}
    if node.bf16 is not None:
        return {"bf16": node.bf16, "fp16": False}
    if half == torch.float16:
        tell("this GPU has no bfloat16: computing in float16, with a loss scaler")
    return {"bf16": half == torch.bfloat16, "fp16": half == torch.float16}


def _bytes_a_weight(quantization: Mapping[str, Any]) -> float:
    """With the scales: of bitsandbytes' blocks of 64, or of GPTQ's groups."""
    if quantization.get("load_in_8bit"):
        return 1
    if quantization.get("load_in_4bit"):
        return 0.5 + (1 / 64 + 4 / 64 / 256 if quantization.get("bnb_4bit_use_double_quant") else 4 / 64)
    bits, group = int(quantization.get("bits") or 4), int(quantization.get("group_size") or 128)
    return bits / 8 + (bits / 8 + 2) / max(group, 32)


def _weight_bytes(plan: Plan, base: PreTrainedModel) -> float:
    sizes: dict[nn.Parameter, float] = {}
    for module in base.modules():
        for name, value in module.named_parameters(recurse=False):
            quantised = isinstance(module, Quantised) and name == "weight"
            size = _bytes_a_weight(plan.quantization or {}) if quantised else value.element_size()
            sizes[value] = value.numel() * size
    return sum(sizes.values())


def _trained_bytes(plan: Plan, model: PreTrainedModel) -> float:
    """Gradients and the optimiser's moments; with an adapter its weights too."""
    size: int = trained_dtype(plan).itemsize
    moments = 0 if plan.optim in ("sgd", "adafactor") else 2 if "8bit" in plan.optim else 2 * size
    of_each = size + moments + (size if plan.lora else 0)
    return float(of_each * sum(value.numel() for value in model.parameters() if value.requires_grad))


def _logit_bytes(plan: Plan, tokens: int, backward: bool) -> float:
    """What TRL's head holds: a tile of logits, in torch's own operations its buffers too, and the states' gradient."""
    config = plan.config.get_text_config()
    words, width = config.vocab_size, config.hidden_size
    size: int = (plan.autocast or plan.dtype).itemsize
    tile = min(tokens, TILE[0]) * min(words, TILE[1])
    buffers = 0 if plan.on_gpu else (TORCH_BUFFERS if backward else 3)
    head_gradient = words * width * 4 if backward and plan.lora is None else 0
    return float(tile * (size + 4 * buffers) + (tokens * width * 4 if backward else 0) + head_gradient)
