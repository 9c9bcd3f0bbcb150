"""What is checked of TRL's and PEFT's settings before these are imported (other fields pass through), and estimates."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from socratic_rl.core.component import Component, Real, Seed, Whole, bytes_of

LossType = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
"""What ``DPOConfig.loss_type`` may hold in TRL 1.16."""


SMOOTHED_LOSSES: tuple[LossType, ...] = ("robust", "exo_pair", "aot", "aot_unpaired")
"""The losses of TRL 1.16 that read ``label_smoothing``; sigmoid, which would make it cDPO, does not."""


Schedule = Literal[
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "reduce_lr_on_plateau", "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy",
]  # fmt: skip
"""``transformers.SchedulerType``."""


def _whole_from_one_on(steps: float) -> float:
    if steps >= 1 and steps != int(steps):
        raise ValueError(f"must be a share below 1, or a whole number of steps (got {steps:g})")
    return steps


Steps = Annotated[Real, Field(ge=0, le=10**9), AfterValidator(_whole_from_one_on)]
"""A number of steps; below 1 a share of all steps."""


Rows = Annotated[Whole, Field(ge=1, le=65_536)]
"""Rows at once."""


class ThirdParty(BaseModel):
    """A node whose class is another library's."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


class DpoSettings(ThirdParty):
    """What is checked of ``trl.DPOConfig``."""

    beta: Annotated[Real, Field(gt=0, le=10**6)]
    # above this the first update is past what float32 holds
    learning_rate: Annotated[Real, Field(gt=0, le=1e30)]
    lr_scheduler_type: Schedule
    num_train_epochs: Annotated[Real, Field(gt=0, le=10**6)]
    max_steps: Annotated[Whole, Field(ge=-1, le=10**9)]
    per_device_train_batch_size: Rows
    per_device_eval_batch_size: Rows
    gradient_accumulation_steps: Rows
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"]
    max_length: Annotated[Whole, Field(ge=16, le=2**24)]
    loss_type: Annotated[list[LossType], Field(min_length=1)]
    loss_weights: list[Annotated[Real, Field(ge=0, le=10**6)]] | None
    label_smoothing: Annotated[Real, Field(ge=0, lt=0.5)]
    weight_decay: Annotated[Real, Field(ge=0, le=10**6)]
    max_grad_norm: Annotated[Real, Field(ge=0, le=1e30)]
    warmup_steps: Steps
    logging_steps: Annotated[Steps, Field(gt=0)]
    save_steps: Annotated[Steps, Field(gt=0)]
    save_total_limit: Annotated[Whole, Field(ge=1, le=10**9)] | None
    seed: Seed
    precompute_ref_log_probs: bool | None
    gradient_checkpointing: Literal["auto", True, False]
    bf16: bool | None
    ddp_timeout: Annotated[Whole, Field(ge=1, le=10**7)]
    eval_strategy: Literal["no", "steps", "epoch"]

    @field_validator("max_steps")
    @classmethod
    def _ends_somewhere(cls, max_steps: int) -> int:
        if max_steps == 0:
            raise ValueError("must be -1, which ends after num_train_epochs, or at least 1 (got 0)")
        return max_steps

    @field_validator("loss_weights")
    @classmethod
    def _are_one_a_loss(cls, weights: list[float] | None, info: ValidationInfo) -> list[float] | None:
        losses = info.data.get("loss_type", weights) or ()
        if weights is not None and losses and len(weights) != len(losses):
            raise ValueError(f"{len(weights)} for the {len(losses)} losses of dpo.loss_type; give one each")
        return weights

    @field_validator("label_smoothing")
    @classmethod
    def _is_read_by_a_loss(cls, label_smoothing: float, info: ValidationInfo) -> float:
        losses = info.data.get("loss_type")
        if label_smoothing and losses and not set(losses) & set(SMOOTHED_LOSSES):
            raise ValueError(
                f"TRL's {', '.join(losses)} does not read it; dpo.loss_type=[robust] does, and so do"
                f" {', '.join(SMOOTHED_LOSSES[1:])}"
            )
        return label_smoothing


class LoraSettings(ThirdParty):
    """What is checked of ``peft.LoraConfig``."""

    r: Annotated[Whole, Field(ge=1, le=65_536)] = 8
    lora_alpha: Annotated[Real, Field(gt=0, le=10**6)] = 8
    lora_dropout: Annotated[Real, Field(ge=0, lt=1)] = 0
    bias: Literal["none", "all", "lora_only"] = "none"


UNREAD_BY_ESTIMATES = frozenset(("dataset", "rejection", "generator"))
"""What ``estimate.only=true`` does not look at."""


class EstimateSettings(Component):
    """What is asked of the memory that training takes."""

    only: bool
    gpu: str | None
    """Its memory, as text."""

    @field_validator("gpu", mode="before")
    @classmethod
    def _is_a_size(cls, gpu: Any, info: ValidationInfo) -> str | None:
        if gpu is not None:
            bytes_of(str(gpu))
            if info.data.get("only") is False:
                raise ValueError("is of a GPU that is not here, so nothing can be trained: estimate.only=true")
        return None if gpu is None else str(gpu)
