"""One step of a model's first layers without weights or contents, and the bytes that live in it.

PyTorch's fake tensors have shapes alone. On them runs what would run for real: transformers' layers, PEFT's adapter,
checkpointing, autograd. What lives at a time is added up.
"""

import copy
import dataclasses
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from trl.trainer.utils import disable_dropout_in_model

from socratic_rl.core.errors import UserError, in_short


class UntraceableError(UserError):
    """An architecture does on the way what needs contents."""


class Batch(NamedTuple):
    """Rows that a model reads together."""

    rows: int
    length: int
    scored: int
    """Tokens of all rows that go through the head."""

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return self.rows * self.length


@dataclass(frozen=True)
class Plan:
    """All that a training's memory depends on."""

    config: PreTrainedConfig
    quantization: Mapping[str, Any] | None
    """How the base is quantised, by transformers' keys; None for plain weights."""
    dtype: torch.dtype
    """Of the base's weights, where they are not quantised."""
    autocast: torch.dtype | None
    """In which products are computed; None as the weights are."""
    attention: str
    lora: LoraConfig | None
    batch: Batch
    """The largest in training."""
    scoring: Batch
    """The largest that is scored without gradients."""
    optim: str
    """The optimiser, by transformers' name."""
    reference: bool
    """Whether the reference is a second copy of all weights."""
    on_gpu: bool
    dropout: bool = False
    """Whether the model's own dropout is on, which keeps what it dropped."""
    shards: int = 1
    """Over how many devices weights, gradients and optimiser are spread."""


class Quantised(nn.Linear):
    """A frozen layer that stands for a quantised one: its weights are expanded for each product."""

    method: str

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """The product, holding what the method's kernel holds."""
        product: torch.Tensor = _Product.apply(states, self.weight, self.method)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, method: str) -> torch.Tensor:
        expanded = torch.empty(weight.shape, dtype=states.dtype)
        ctx.shape = weight.shape
        # LLM.int8() keeps its input; through GPT-QModel's kernel autograd keeps what it multiplies by
        ctx.save_for_backward(*{"8bit": (states,), "4bit": ()}.get(method, (expanded,)))
        return states @ expanded.T

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradient @ torch.empty(ctx.shape, dtype=gradient.dtype), None, None


def on_meta(plan: Plan, layers: int | None) -> PreTrainedModel:
    """The policy without contents, with so many layers; with None all of the base, without an adapter.

    Raises:
        UserError: PEFT refuses the adapter for this architecture.
    """
    config = copy.deepcopy(plan.config)
    if layers is not None:
        text = config.get_text_config()
        text.num_hidden_layers = min(layers, text.num_hidden_layers)
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:layers]
    # what is not masked in the same way is not installed everywhere, and holds as much
    attention = "eager" if plan.attention == "eager" else "sdpa"
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=plan.dtype, attn_implementation=attention)
        if plan.quantization is not None:
            _quantise(model, plan.quantization)
        if not plan.dropout:
            disable_dropout_in_model(model)
        if plan.lora is None or layers is None:
            return model
        # the adapter's first values may be taken out of the weights, which are not there
        lora = dataclasses.replace(plan.lora, init_lora_weights=False)
        try:
            return get_peft_model(model, lora, low_cpu_mem_usage=True)
        except ValueError as error:
            raise UserError(f"lora: {in_short(str(error))}") from error


def _quantise(model: PreTrainedModel, quantization: Mapping[str, Any]) -> None:
    head = model.get_output_embeddings()
    method = next((f"{bits}bit" for bits in (4, 8) if quantization.get(f"load_in_{bits}bit")), "other")
    for module in model.modules():
        if type(module) is nn.Linear and module is not head:
            module.__class__ = Quantised
            vars(module)["method"] = method
            module.weight.requires_grad_(False)


def trained_dtype(plan: Plan) -> torch.dtype:
    """TRL's choice for an adapter: bfloat16 on a base that bitsandbytes quantises, else PEFT's float32."""
    if plan.lora is None:
        return plan.dtype
    by_bitsandbytes = plan.quantization and (
        plan.quantization.get("load_in_4bit") or plan.quantization.get("load_in_8bit")
    )
    return torch.bfloat16 if by_bitsandbytes and plan.autocast == torch.bfloat16 else torch.float32


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that live while it holds."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.highest: int = 0
        self.storages: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        # the model's own are counted elsewhere
        for value in (*model.parameters(), *model.buffers()):
            self.storages[value.untyped_storage()] = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outcome):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.storages:
                self.now += storage.nbytes()
                self.highest = max(self.highest, self.now)
                self.storages[storage] = weakref.finalize(storage, self._ended, storage.nbytes())
        return outcome

    def _ended(self, size: int) -> None:
        self.now -= size

    def forget(self, value: nn.Parameter) -> None:
        """Count a gradient no longer: it is counted with what is trained."""
        gradient = value.grad
        if gradient is not None and (ended := self.storages.get(gradient.untyped_storage())):
            ended()


class Step(NamedTuple):
    """Bytes beside the weights."""

    kept: int
    """What the forward pass leaves for the backward pass."""
    highest: int


def traced_step(plan: Plan, model: PreTrainedModel, checkpointing: bool) -> Step:
    """Trace one forward and backward pass of the layers, without the head."""
    if checkpointing:
        model.gradient_checkpointing_enable()
        if plan.lora is not None:
            model.enable_input_require_grads()
    with FakeTensorMode():
        _fill(plan, model.train())
        with _Live(model) as live:
            for value in model.parameters():
                if value.requires_grad:
                    value.register_post_accumulate_grad_hook(live.forget)
            states = _states(plan, model, plan.batch)
            kept = live.now
            states.sum().backward()  # type: ignore[no-untyped-call]
    return Step(kept, live.highest)


def traced_scoring(plan: Plan, model: PreTrainedModel) -> int:
    """Bytes that a layer holds when pairs are only scored."""
    with FakeTensorMode(), torch.no_grad():
        _fill(plan, model.eval())
        with _Live(model) as live:
            _states(plan, model, plan.scoring)
    return int(live.highest)


def _fill(plan: Plan, model: PreTrainedModel) -> None:
    """Put fake tensors in place of those without a device; what is trained in its own precision."""
    fakes: dict[int, Any] = {}
    for module in model.modules():
        for values in (module._parameters, module._buffers):
            for name, value in values.items():
                if value is None:
                    continue
                if id(value) not in fakes:
                    trained = isinstance(value, nn.Parameter) and value.requires_grad
                    dtype = trained_dtype(plan) if trained else value.dtype
                    fake: torch.Tensor = torch.empty(value.shape, dtype=dtype, device="cpu")
                    fakes[id(value)] = nn.Parameter(fake, trained) if isinstance(value, nn.Parameter) else fake
                values[name] = fakes[id(value)]


def _states(plan: Plan, model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The last layer's states of a batch."""
    language_model = model.get_base_model() if plan.lora is not None else model
    ids = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    mask = torch.ones(batch.rows, 1, batch.length, batch.length, dtype=torch.bool)
    if plan.attention == "eager":
        mask = mask.to(plan.dtype)
    positions = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    mixed = nullcontext() if plan.autocast is None else torch.autocast("cpu", plan.autocast)
    with mixed:
        read = language_model.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    states: torch.Tensor = read.last_hidden_state
    return states
