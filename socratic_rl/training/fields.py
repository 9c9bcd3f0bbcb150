"""Which fields of TRL's ``DPOConfig`` and PEFT's ``LoraConfig`` can be set, and what stands in place of the others."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from peft import LoraConfig

from socratic_rl.core.errors import UserError

HUB = "a tutor is pushed by hub.push=true hub.repo_id=OWNER/NAME"
MODEL = "the group model says how weights are read, such as model.dtype"
LAUNCHER = (
    "what several processes do is said to their launcher: accelerate launch --config_file conf/accelerate/ddp.yaml"
)
UNREAD = "DPO does not read it"


DPO_REFUSED = {
    "output_dir": "checkpoints go where everything goes: output_dir=FOLDER",
    "run_name": "a run is named by wandb.name=NAME",
    "resume_from_checkpoint": "a training goes on by checkpoint=latest or checkpoint=FOLDER",
    "auto_find_batch_size": "it would change which pairs a step takes; lower dpo.per_device_train_batch_size, and raise"
    " dpo.gradient_accumulation_steps by as much",
    "dataloader_in_order": "batches out of order would be another training each time",
    "length_column_name": "lengths are counted here; dpo.train_sampling_strategy=group_by_length groups by them",
    "pad_token": "padding has the tokenizer's own token, and no loss reads it",
    "padding_free": "TRL 1.16 has switched it off; forest=true reads no padding either",
    "label_smoothing_factor": f"{UNREAD}; dpo.label_smoothing is read by dpo.loss_type=[robust]",
    "label_names": UNREAD,
    "do_train": UNREAD,
    "do_eval": f"{UNREAD}; dpo.eval_strategy=epoch scores held-out pairs while training",
    "do_predict": UNREAD,
    "model_init_kwargs": MODEL,
    "trust_remote_code": "code that comes with weights is never run",
    "torch_compile": "a compiled model does not read TRL's fused head",
    "torch_compile_backend": "it would switch dpo.torch_compile on, which TRL's fused head does not go with",
    "torch_compile_mode": "it would switch dpo.torch_compile on, which TRL's fused head does not go with",
    **dict.fromkeys(
        ("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_always_push", "hub_revision"), HUB
    ),
    "hub_strategy": HUB,
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config", "accelerator_config"), LAUNCHER),
    "local_rank": LAUNCHER,
    "ddp_backend": LAUNCHER,
}
"""Fields of ``DPOConfig`` that can only stay as TRL has them, each with what is meant instead."""


DPO_REMOVED = {
    "max_prompt_length": "prompts are shortened at a turn's edge until prompt and answer fit into dpo.max_length",
    "max_completion_length": "answers are never cut; dpo.max_length counts prompt and answer together",
    "max_target_length": "answers are never cut; dpo.max_length counts prompt and answer together",
    "rpo_alpha": "it is now a loss with a weight: 'dpo.loss_type=[sigmoid,sft]' 'dpo.loss_weights=[1,ALPHA]'",
    "label_pad_token_id": "TRL masks what is no answer by itself",
    "padding_value": "padding has the tokenizer's own token",
    "reference_free": "there always is a reference; TRL's reference-free losses are another trainer's (CPO)",
    "force_use_ref_model": "the reference is what training begins with, adapter or not",
    "model_adapter_name": "the reference is what training begins with, adapter or not",
    "ref_adapter_name": "the reference is what training begins with, adapter or not",
    "ref_model_init_kwargs": MODEL,
    "use_logits_to_keep": "logits are only computed where the loss reads them",
    "use_num_logits_to_keep": "logits are only computed where the loss reads them",
    "generate_during_eval": "replies are logged after training: samples=4",
    "is_encoder_decoder": "only causal language models are trained",
    "base_model_attribute_name": "it is found by itself",
    "tools": "dialogues have no tools",
    "dataset_text_field": "pairs are chat messages: dataset=hf dataset.path=FILE",
    "warmup_ratio": "dpo.warmup_steps below 1 is a share of all steps",
    "evaluation_strategy": "it is called dpo.eval_strategy",
    "group_by_length": "dpo.train_sampling_strategy=group_by_length, which is the default",
    "per_gpu_train_batch_size": "it is called dpo.per_device_train_batch_size",
    "per_gpu_eval_batch_size": "it is called dpo.per_device_eval_batch_size",
    "logging_dir": "logs go where everything goes: output_dir=FOLDER",
    "overwrite_output_dir": "output_dir=FOLDER is another folder",
    "save_safetensors": "weights are always saved as safetensors",
    "no_cuda": "the environment hides GPUs: CUDA_VISIBLE_DEVICES=",
    "use_mps_device": "a device is found by itself",
    "adafactor": "dpo.optim=adafactor",
    "push_to_hub_model_id": HUB,
    "push_to_hub_token": HUB,
    "push_to_hub_organization": HUB,
    "dispatch_batches": LAUNCHER,
    "split_batches": LAUNCHER,
    "include_tokens_per_second": "training_log.jsonl has num_tokens a row",
    "half_precision_backend": "dpo.bf16 says whether training computes in bfloat16",
    "fp16_backend": "dpo.bf16 says whether training computes in bfloat16",
    "torchdynamo": "compiling does not go with TRL's fused head",
    "jit_mode_eval": "compiling does not go with TRL's fused head",
}
"""Fields that earlier versions of TRL and transformers had, each with what is in its place."""


WRITTEN = "PEFT writes it when an adapter is saved"


PREPARED = "such first weights are prepared in Python, before training"


FIRST_WEIGHTS = "lora.init_lora_weights can be true, gaussian, orthogonal, mica, pissa, pissa_niter_N or olora"


LORA_REFUSED = {
    "task_type": "a tutor is a causal language model",
    "peft_type": "it is LoRA",
    "auto_mapping": WRITTEN,
    "peft_version": WRITTEN,
    "base_model_name_or_path": f"{WRITTEN}; the base is model.pretrained",
    "revision": f"{WRITTEN}; the base's is model.revision",
    "inference_mode": "an adapter that is not trained would stay as it is",
    "layer_replication": "a base with repeated layers is no reference for what begins with it",
    "kasa_config": "it cuts the base's weights for good, and its losses are not in DPO's",
    "alora_invocation_tokens": "no template writes such tokens before an answer, so that nothing would be trained",
    "use_qalora": "it was never tried with GPTQ weights here, and other weights know nothing of it",
    "qalora_group_size": "use_qalora reads it, which cannot be set here",
    "velora_config": "it changes gradients, and was never tried here",
    "monteclora_config": "it draws weights at random in each step, the first too",
    "arrow_config": "it joins tutors that are trained already",
    "megatron_config": "models are transformers'",
    "megatron_core": "models are transformers'",
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config"), f"{PREPARED}; {FIRST_WEIGHTS}"),
}
"""Fields of ``LoraConfig`` that can only stay as PEFT has them, each with the reason."""


def refuse_fields(
    group: str, node: Mapping[str, Any], kind: type, refused: Mapping[str, str], removed: Mapping[str, str]
) -> None:
    """Refuse what a node sets that its class does not have or that cannot be meant; tells all at once.

    Args:
        group: ``dpo`` or ``lora``.
        node: The config's node, resolved.
        kind: The dataclass that it describes.
        refused: Fields that can only have their default, and why.
        removed: Fields that the class once had, and what is in their place.

    Raises:
        UserError: One line for each such field.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    lines = []
    for key, value in node.items():
        if key.startswith("_"):
            continue
        if key in removed and key not in defaults:
            lines.append(f"{group}.{key}: {kind.__name__} has it no longer; {removed[key]}")
        elif key not in defaults:
            close = difflib.get_close_matches(key, defaults, n=1)
            meant = f"; did you mean {group}.{close[0]}?" if close else ""
            lines.append(f"{group}.{key}: is no field of {kind.__name__}{meant}")
        elif key in refused and value is not None and value != defaults[key]:
            lines.append(f"{group}.{key}: cannot be set here: {refused[key]}")
    if lines:
        raise UserError("\n".join(lines))


def refuse_first_weights(name: object) -> None:
    """Refuse a value of ``lora.init_lora_weights`` by which a tutor does not begin as its base.

    Raises:
        UserError: It is none of those that do.
    """
    if name is True or re.fullmatch(r"gaussian|orthogonal|mica|pissa|pissa_niter_[1-9]\d*|olora", str(name).lower()):
        return
    reason = "the tutor would not begin as its base" if name is False else PREPARED
    raise UserError(f"lora.init_lora_weights: {str(name).lower()}: {reason}; {FIRST_WEIGHTS}")


def named_mistake(reason: BaseException | str, keys: Iterable[str], default: str) -> UserError:
    """What a library refused, in its words, under the key that it names.

    Args:
        reason: The library's error.
        keys: ``dpo.beta``, …: those that may be meant, the likeliest last.
        default: What is named where the error names none of them.
    """
    text = " ".join(str(reason).split())
    words, spoken = set(re.findall(r"\w+", text)), text.lower()
    fields = {key: key.rpartition(".")[2] for key in keys}
    mentioned = [
        key for key, name in fields.items() if name in words or ("_" in name and name.replace("_", " ") in spoken)
    ]
    return UserError(f"{mentioned[-1] if mentioned else default}: {text}")


def set_fields(group: str, settings: Any) -> list[str]:
    """The fields of a dataclass's object that are not as the class has them, as dotted keys."""
    return [
        f"{group}.{field.name}"
        for field in dataclasses.fields(settings)
        if getattr(settings, field.name) != field.default
    ]


def lora_config(node: DictConfig) -> LoraConfig:
    """PEFT's ``LoraConfig`` of a config node, for a causal language model.

    Raises:
        UserError: It has no such field, or refuses a value; one line for each.
    """
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    refuse_fields("lora", values, LoraConfig, LORA_REFUSED, {})
    refuse_first_weights(values.get("init_lora_weights", True))
    try:
        return instantiate(node, task_type="CAUSAL_LM")
    except InstantiationException as error:
        raise named_mistake(error.__cause__ or error, (f"lora.{key}" for key in values), "lora") from error
