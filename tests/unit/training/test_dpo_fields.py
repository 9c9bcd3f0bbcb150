"""Every field of ``DPOConfig`` means the same to a forest as to padded rows, or is refused by its name."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import DPOConfig

from socratic_rl.core.errors import UserError
from socratic_rl.training import dpo
from socratic_rl.training.fields import DPO_REFUSED, DPO_REMOVED
from tests.unit.training.test_dpo import node
from tests.unit.training.test_same_steps import losses, movement, train

WORKER = {"dataloader_num_workers": 1}
EPOCHS = {"eval_strategy": "epoch"}

AGREE: dict[str, dict[str, Any]] = {
    "per_device_train_batch_size": {"per_device_train_batch_size": 3},
    "num_train_epochs": {"num_train_epochs": 2},
    "max_steps": {"max_steps": 3},
    "learning_rate": {"learning_rate": 1e-3},
    "lr_scheduler_type": {"lr_scheduler_type": "cosine"},
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}},
    "warmup_steps": {"warmup_steps": 2},
    "optim": {"optim": "sgd", "learning_rate": 1},
    "optim_args": {"optim": "adamw_torch", "optim_args": ""},
    "optim_target_modules": {"optim_target_modules": ["q_proj"]},
    "weight_decay": {"weight_decay": 0.3},
    "adam_beta1": {"adam_beta1": 0.5},
    "adam_beta2": {"adam_beta2": 0.5},
    "adam_epsilon": {"adam_epsilon": 1e-3},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "average_tokens_across_devices": {"average_tokens_across_devices": False},
    "max_grad_norm": {"max_grad_norm": 0.01},
    "bf16": {"bf16": True},
    "bf16_full_eval": {"bf16_full_eval": True},
    "fp16_full_eval": {"fp16_full_eval": True},
    "activation_checkpointing": {"activation_checkpointing": True},
    "activation_checkpointing_kwargs": {
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
    },
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "gradient_checkpointing_kwargs": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
    },
    "liger_kernel_config": {"liger_kernel_config": {"rope": False}},
    "use_cache": {"use_cache": True},
    "torch_empty_cache_steps": {"torch_empty_cache_steps": 1},
    "logging_strategy": {"logging_strategy": "epoch"},
    "logging_steps": {"logging_steps": 2},
    "logging_first_step": {"logging_first_step": True, "logging_steps": 2},
    "log_on_each_node": {"log_on_each_node": False},
    "logging_nan_inf_filter": {"logging_nan_inf_filter": True},
    "log_level": {"log_level": "error"},
    "log_level_replica": {"log_level_replica": "error"},
    "disable_tqdm": {"disable_tqdm": True},
    "report_to": {"report_to": "none"},
    "project": {"project": "x"},
    "trackio_space_id": {"trackio_space_id": "x"},
    "trackio_bucket_id": {"trackio_bucket_id": "x"},
    "trackio_static_space_id": {"trackio_static_space_id": "x"},
    "eval_strategy": EPOCHS,
    "eval_steps": {"eval_strategy": "steps", "eval_steps": 2},
    "eval_delay": EPOCHS | {"eval_delay": 1},
    "per_device_eval_batch_size": EPOCHS | {"per_device_eval_batch_size": 3},
    "prediction_loss_only": EPOCHS | {"prediction_loss_only": True},
    "eval_on_start": {"eval_on_start": True},
    "eval_do_concat_batches": EPOCHS | {"eval_do_concat_batches": False},
    "eval_use_gather_object": EPOCHS | {"eval_use_gather_object": True},
    "eval_accumulation_steps": EPOCHS | {"eval_accumulation_steps": 1},
    "include_for_metrics": EPOCHS | {"include_for_metrics": ["inputs"]},
    "batch_eval_metrics": {"batch_eval_metrics": True},
    "save_only_model": {"save_strategy": "steps", "save_only_model": True},
    "save_strategy": {"save_strategy": "epoch"},
    "save_steps": {"save_strategy": "steps", "save_steps": 2},
    "save_on_each_node": {"save_strategy": "steps", "save_on_each_node": True},
    "save_total_limit": {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1},
    "load_best_model_at_end": EPOCHS | {"save_strategy": "epoch", "load_best_model_at_end": True},
    "metric_for_best_model": EPOCHS
    | {"save_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "rewards/margins"},
    "greater_is_better": EPOCHS
    | {"save_strategy": "epoch", "load_best_model_at_end": True, "greater_is_better": False},
    "ignore_data_skip": {"ignore_data_skip": True},
    "restore_callback_states_from_checkpoint": {"restore_callback_states_from_checkpoint": True},
    "full_determinism": {"full_determinism": True},
    "seed": {"seed": 3},
    "data_seed": {"data_seed": 3},
    "use_cpu": {"use_cpu": True},
    "dataloader_drop_last": {"dataloader_drop_last": True},
    "dataloader_num_workers": WORKER,
    "dataloader_pin_memory": {"dataloader_pin_memory": False},
    "dataloader_persistent_workers": WORKER | {"dataloader_persistent_workers": True},
    "dataloader_prefetch_factor": WORKER | {"dataloader_prefetch_factor": 3},
    "dataloader_multiprocessing_context": WORKER | {"dataloader_multiprocessing_context": "fork"},
    "remove_unused_columns": {"remove_unused_columns": True},
    "train_sampling_strategy": {"train_sampling_strategy": "sequential"},
    "ddp_find_unused_parameters": {"ddp_find_unused_parameters": True},
    "ddp_bucket_cap_mb": {"ddp_bucket_cap_mb": 1},
    "ddp_broadcast_buffers": {"ddp_broadcast_buffers": False},
    "ddp_static_graph": {"ddp_static_graph": True},
    "ddp_timeout": {"ddp_timeout": 60},
    "debug": {"debug": "underflow_overflow"},
    "skip_memory_metrics": {"skip_memory_metrics": False},
    "dataset_num_proc": {"dataset_num_proc": 2},
    "max_length": {"max_length": 150},
    "truncation_mode": {"truncation_mode": "keep_end", "max_length": 150},
    "pad_to_multiple_of": {"pad_to_multiple_of": 16},
    "precompute_ref_log_probs": {"precompute_ref_log_probs": True},
    "precompute_ref_batch_size": {"precompute_ref_log_probs": True, "precompute_ref_batch_size": 3},
    "loss_type": {"loss_type": ["hinge"]},
    "loss_weights": {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.3, 2.0]},
    "ld_alpha": {"ld_alpha": 0.5},
    "f_divergence_type": {"f_divergence_type": "js_divergence"},
    "f_alpha_divergence_coef": {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
    "label_smoothing": {"loss_type": ["robust"], "label_smoothing": 0.2},
    "beta": {"beta": 0.5},
    "use_weighting": {"use_weighting": True},
    "discopop_tau": {"loss_type": ["discopop"], "discopop_tau": 0.5},
    "ref_model_mixup_alpha": {"ref_model_mixup_alpha": 0.1},
    "ref_model_sync_steps": {"ref_model_sync_steps": 1},
    "enable_jit_checkpoint": {"enable_jit_checkpoint": False},
}
ON_ROWS: dict[str, dict[str, Any]] = {
    "disable_dropout": {"disable_dropout": False},
    "neftune_noise_alpha": {"neftune_noise_alpha": 5.0},
    "include_num_input_tokens_seen": {"include_num_input_tokens_seen": "all"},
}
"""What a forest cannot mean: training takes padded rows, and says so."""

OF_THE_MACHINE: dict[str, dict[str, Any]] = {
    "fp16": {"fp16": True},
    "tf32": {"tf32": True},
    "use_liger_kernel": {"use_liger_kernel": True},
    "activation_offloading": {"activation_offloading": True},
    "sync_ref_model": {"sync_ref_model": True},
    "router_aux_loss_coef": {"router_aux_loss_coef": 0.1},
}
"""What is refused for want of a GPU, or for what is trained here."""

EVERY_DAY = ("data_seed", "dataloader_drop_last", "train_sampling_strategy", "use_weighting")


def test_each_field_agrees_or_is_refused():
    assert {field.name for field in dataclasses.fields(DPOConfig)} == {*AGREE, *ON_ROWS, *OF_THE_MACHINE, *DPO_REFUSED}
    assert not {*DPO_REMOVED} & {field.name for field in dataclasses.fields(DPOConfig)}


@pytest.mark.parametrize(
    "field",
    # two trainings each
    [pytest.param(field, marks=() if field in EVERY_DAY else pytest.mark.slow) for field in AGREE],
)
def test_a_field_means_the_same_to_a_forest(tiny_llama: Path, tmp_path: Path, field: str):
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        outcomes = {
            kind: train(tiny_llama, tmp_path / kind, kind, held_out=5, **AGREE[field]) for kind in ("forest", "rows")
        }
    finally:
        torch.use_deterministic_algorithms(deterministic)
    # bfloat16 has three digits
    near = 0.02 if field == "bf16" else 1e-5
    assert losses(outcomes["forest"])
    assert losses(outcomes["forest"]) == pytest.approx(losses(outcomes["rows"]), rel=near, abs=near)
    evaluated = [[row["eval_loss"] for row in outcome.log if "eval_loss" in row] for outcome in outcomes.values()]
    assert evaluated[0] == pytest.approx(evaluated[1], abs=max(near, 1e-4 if "eval" not in field else 0.02))
    moved = movement(outcomes["rows"])
    assert moved.norm() > 0
    assert (movement(outcomes["forest"]) - moved).norm() < max(1e-3, 10 * near) * moved.norm()


@pytest.mark.parametrize("field", [pytest.param(field, marks=pytest.mark.slow) for field in ON_ROWS])
def test_what_a_forest_cannot_mean_is_trained_on_rows(
    tiny_llama: Path, tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
):
    train(tiny_llama, tmp_path, "forest", **ON_ROWS[field])
    assert "forest: off, training on padded rows: " in capsys.readouterr().out


@pytest.mark.parametrize("field", OF_THE_MACHINE)
def test_what_cannot_be_here_is_refused_in_one_line(tiny_llama: Path, tmp_path: Path, field: str):
    if torch.cuda.is_available() and field not in ("sync_ref_model", "router_aux_loss_coef"):
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=rf"^dpo\.{field}: ") as error:
        train(tiny_llama, tmp_path, "rows", **OF_THE_MACHINE[field])
    assert "\n" not in str(error.value)


OTHER_VALUES: dict[str, Any] = {"dataloader_in_order": False, "hub_strategy": "end", "length_column_name": "size"}


@pytest.mark.parametrize("field", DPO_REFUSED)
def test_what_is_said_elsewhere_is_refused_with_the_place(tmp_path: Path, field: str):
    value = OTHER_VALUES.get(field, True)
    with pytest.raises(UserError, match=rf"^dpo\.{field}: cannot be set here: \S") as error:
        dpo.arguments(node(**{field: value}), tmp_path, tracked=False)
    assert "\n" not in str(error.value)


def test_a_refused_field_may_have_the_value_that_it_has_anyway(tmp_path: Path):
    default = {field.name: field.default for field in dataclasses.fields(DPOConfig)}
    dpo.arguments(node(**{name: default[name] for name in DPO_REFUSED}), tmp_path, tracked=False)


@pytest.mark.parametrize("field", DPO_REMOVED)
def test_a_removed_field_is_told_with_what_replaced_it(tmp_path: Path, field: str):
    with pytest.raises(UserError, match=rf"^dpo\.{field}: DPOConfig has it no longer; \S"):
        dpo.arguments(node(**{field: 1}), tmp_path, tracked=False)


def test_all_fields_that_are_wrong_are_told_at_once(tmp_path: Path):
    with pytest.raises(UserError) as error:
        dpo.arguments(node(max_prompt_length=256, rpo_alpha=1, bta=2, output_dir="x"), tmp_path, tracked=False)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "dpo.max_prompt_length", "dpo.rpo_alpha", "dpo.bta", "dpo.output_dir",
    ]  # fmt: skip
    assert "dpo.loss_type=[sigmoid,sft]" in lines[1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"eval_strategy": "epoch"}, r"^dpo\.eval_strategy: there are no held-out pairs"),
        ({"eval_on_start": True}, r"^dpo\.eval_strategy: there are no held-out pairs"),
        (
            {"dataloader_drop_last": True, "gradient_accumulation_steps": 99},
            r"^dpo\.dataloader_drop_last: the 20 pairs",
        ),
        ({"report_to": "comet_ml"}, r"^dpo\.report_to: comet_ml is not installed"),
        ({"report_to": ["wandb", "nonsense"]}, r"^dpo\.report_to: nonsense is not installed, or unknown"),
        ({"optim": "galore_adamw", "optim_target_modules": ["q_proj"]}, r"^dpo\.optim: "),
    ],
)
def test_what_only_the_data_or_the_machine_show_is_told_by_its_key(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, Any], told: str
):
    with pytest.raises(UserError, match=told):
        train(tiny_llama, tmp_path, "rows", **changes)


def test_a_training_without_a_log_ends_well(tiny_llama: Path, tmp_path: Path):
    outcome = train(tiny_llama, tmp_path, "forest", held_out=3, logging_strategy="no")
    assert outcome.final_loss is None
    assert outcome.held_out["eval_n"] == 3
