"""One plain call into TRL, and the score of what it made."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import get_available_reporting_integrations
from trl import DPOConfig, DPOTrainer

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.text import tell
from socratic_rl.models import policy, processes, weights
from socratic_rl.models.scoring import PairScores, reward_margins, rewarded, score_pairs
from socratic_rl.models.tokens import pair_tokens
from socratic_rl.training.checkpoints import find_checkpoint, train_from
from socratic_rl.training.fields import (
    DPO_REFUSED,
    DPO_REMOVED,
    named_mistake,
    refuse_fields,
    set_fields,
)
from socratic_rl.training.freed_memory import keep_freed_memory
from socratic_rl.training.memory import precision
from socratic_rl.training.reference import reference_model, reference_scores, saves_passes
from socratic_rl.training.trainers import COLUMNS, ForestTrainer, StepTrainer, forest_arguments

REFERENCE = "ref"
"""What TRL calls its copy of an adapter that is trained further."""


class RuinedError(UserError):
    """The weights are not worth keeping."""


@dataclass(frozen=True)
class Outcome:
    """What training left."""

    model: PreTrainedModel
    log: list[dict[str, Any]]
    """The trainer's ``log_history``: one row a logged step."""
    final_loss: float | None
    """Of the last logged step; None where none was logged. transformers' mean over a run is wrong after a resume."""
    steps: int
    seconds: float
    held_out: dict[str, float]
    """TRL's ``eval_…`` names over the held-out pairs, each pair counted once; empty where there are none."""
    weights: dict[str, torch.Tensor] | None
    """The weights, where the model itself holds a part of them alone; on the main process."""
    first: dict[str, torch.Tensor] | None
    """The adapter's weights before the first step, where they were taken out of the base's."""


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    held_out: Sequence[PreferencePair],
    args: DPOConfig,
    lora: LoraConfig | None,
    checkpoint: str | None,
    forest: Literal["auto", True, False] = "auto",
    identity: str | None = None,
    jobs: int = 1,
    keep: Callable[[Outcome], None] | None = None,
) -> Outcome:
    """Train a policy on preference pairs with DPO (Rafailov et al. 2023) through TRL.

    Args:
        model: The base, or a tutor of an earlier round. As it comes it is the reference too.
        tokenizer: With a chat template.
        pairs: What to train on, already fitted into ``args.max_length``.
        held_out: What to score the result on.
        args: TRL's own.
        lora: A new adapter; None trains the model as it is: the adapter that it has, else all weights.
        checkpoint: ``latest``, a checkpoint's folder, or None to start anew.
        forest: Whether batches are read as prefix forests; ``auto`` does so where it saves enough tokens.
        identity: What tells the model's weights from others, so that the reference's log-probabilities are kept for
            other jobs; None keeps none.
        jobs: How many jobs at least are trained on these pairs.
        keep: Saves what training left, before anything else is done with it; of the held-out pairs it knows nothing.

    Raises:
        RuinedError: The last step left weights that give no numbers.
        UserError: There is no such checkpoint, or the loss becomes no number.
    """
    _check_amounts(pairs, held_out, args)
    if model.device.type == "cpu":
        keep_freed_memory()
    adapter = lora or getattr(model, "peft_config", {}).get("default")
    changes_base = adapter is not None and not policy.keeps_base(adapter)
    if args.precompute_ref_log_probs is None:
        # else a copy of a base that changes would have to stay in memory
        args.precompute_ref_log_probs = (changes_base and not args.sync_ref_model) or saves_passes(
            args, len(pairs), jobs
        )
    references = _references(model, tokenizer, pairs, held_out, args, identity)
    reference = reference_model(model, lora, needed=changes_base and references.training is None)
    trainer = _trainer(model, tokenizer, pairs, held_out, args, lora, forest, references, reference)
    first = policy.adapter_weights(trainer.model) if adapter and policy.takes_from_base(adapter) else None
    seconds = train_from(trainer, find_checkpoint(checkpoint, Path(args.output_dir)))
    outcome = _outcome(trainer, seconds, first)
    if keep:
        keep(outcome)
    return replace(outcome, held_out=_score_held_out(trainer, tokenizer, held_out, references.held_out))


def _outcome(trainer: Any, seconds: float, first: Any) -> Outcome:
    """What training left, not yet scored on held-out pairs."""
    if REFERENCE in getattr(trainer.model, "peft_config", {}):
        trainer.model.delete_adapter(REFERENCE)
    return Outcome(
        model=trainer.model,
        log=trainer.state.log_history,
        final_loss=next((row["loss"] for row in reversed(trainer.state.log_history) if "loss" in row), None),
        steps=trainer.state.global_step,
        seconds=seconds,
        held_out={},
        weights=trainer.accelerator.get_state_dict(trainer.model_wrapped) if processes.sharded() else None,
        first=first,
    )


def _check_amounts(pairs: Sequence[PreferencePair], held_out: Sequence[PreferencePair], args: DPOConfig) -> None:
    if not held_out and (args.eval_strategy != "no" or args.eval_on_start):
        raise UserError("dpo.eval_strategy: there are no held-out pairs to score; dpo.eval_strategy=no")
    step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.dataloader_drop_last and len(pairs) < step:
        raise UserError(f"dpo.dataloader_drop_last: the {len(pairs)} pairs do not fill a step of {step}")


class References(NamedTuple):
    """The reference's log-probabilities of the pairs of both sides; None where none are known before training."""

    training: PairScores | None
    held_out: PairScores | None


def _references(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    held_out: Sequence[PreferencePair],
    args: DPOConfig,
    identity: str | None,
) -> References:
    """What is known of the reference before training: until then the policy is the reference, whatever is trained."""
    if processes.sharded():
        return References(None, None)
    score = functools.partial(reference_scores, model, tokenizer, args=args, identity=identity)
    of_held_out = score(held_out, label="held-out pairs") if held_out else None
    precomputed = args.precompute_ref_log_probs and args.ld_alpha is None
    return References(score(pairs, label="training pairs") if precomputed else None, of_held_out)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    held_out: Sequence[PreferencePair],
    args: DPOConfig,
    lora: LoraConfig | None,
    forest: Literal["auto", True, False],
    references: References,
    reference: PreTrainedModel | None,
) -> DPOTrainer:
    """TRL's trainer on the pairs, which reads them as forests or as padded rows.

    Raises:
        UserError: TRL or PEFT refuses a setting that only the model shows to be wrong.
    """
    forest_args = forest_arguments(forest, model, tokenizer, pairs, args)
    evaluates = args.eval_strategy != "no" or args.eval_on_start
    peft_config = lora and policy.with_targets(lora, model)
    try:
        trainer = (ForestTrainer if forest_args else StepTrainer)(
            model=model,
            ref_model=reference,
            args=forest_args or args,
            train_dataset=_dataset(pairs, tokenizer, references.training),
            eval_dataset=_dataset(held_out, tokenizer, references.training and references.held_out)
            if evaluates
            else None,
            processing_class=tokenizer,
            peft_config=peft_config,
        )
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        keys = [*set_fields("dpo", args), *(set_fields("lora", peft_config) if peft_config else ())]
        raise named_mistake(error, keys, "dpo and lora") from error
    if getattr(model, "is_quantized", False) and not args.bf16:
        # TRL makes the adapter of a quantised base bfloat16, which costs precision and, on a CPU, much time
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return trainer


def _score_held_out(
    trainer: DPOTrainer,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[PreferencePair],
    reference: PairScores | None,
) -> dict[str, float]:
    """The held-out figures of the trained policy, which are logged too; none where the reference's are not known.

    Raises:
        RuinedError: They are no numbers, as after a last step that ruined the weights.
    """
    score = functools.partial(
        score_pairs, tokenizer=tokenizer, pairs=held_out, batch_size=trainer.args.per_device_eval_batch_size
    )
    if held_out and processes.sharded():
        reference = _sharded_reference(trainer, score)
    if reference is None:
        return {}
    policy = score(trainer.model, label="held-out pairs after training", forward=trainer.model_wrapped)
    figures = held_out_figures(policy, reference, trainer.args.beta)
    if not all(map(math.isfinite, figures.values())):
        raise RuinedError(
            "dpo.learning_rate: after the last step the log-probabilities of held-out pairs are no numbers; lower it"
        )
    trainer.log(dict(figures))
    return figures


def _sharded_reference(trainer: DPOTrainer, score: Callable[..., PairScores]) -> PairScores | None:
    """The reference's scores after training: the first moment at which sharded weights can be called."""
    label = "held-out pairs under the reference"
    if is_peft_model(trainer.model) and trainer.ref_model is None:
        with trainer.model.disable_adapter():
            return score(trainer.model, label=label, forward=trainer.model_wrapped)
    if trainer.ref_model is None:
        tell("held-out pairs are not scored: with dpo.precompute_ref_log_probs no reference is left after training")
        return None
    return score(trainer.accelerator.unwrap_model(trainer.ref_model), label=label, forward=trainer.ref_model)


def _dataset(
    pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, reference: PairScores | None
) -> Dataset:
    """The columns that TRL reads, with the token ids, and what pairs are grouped by: conversation, prompt's length."""
    rows = []
    for pair in pairs:
        tokens = pair_tokens(pair, tokenizer)
        row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
        grouped_by = {"conversation_id": pair.conversation_id, "length": len(tokens["prompt_ids"])}
        rows.append(row | tokens | grouped_by)
    dataset = Dataset.from_list(rows)
    if reference:
        for column, values in zip(COLUMNS, (reference.chosen, reference.rejected), strict=True):
            dataset = dataset.add_column(column, values)
    return dataset


def held_out_figures(policy: PairScores, reference: PairScores, beta: float) -> dict[str, float]:
    """The held-out figures under TRL's names; TRL's own means weigh a short last batch like a full one."""
    return {
        "eval_rewards/accuracies": float(rewarded(policy, reference).mean()),
        "eval_rewards/margins": float(beta * reward_margins(policy, reference).mean()),
        "eval_ranking_accuracy": float(policy.likelier().mean()),
        "eval_logps/chosen": float(policy.chosen.mean()),
        "eval_logps/rejected": float(policy.rejected.mean()),
        "eval_n": len(policy.chosen),
    }


NEEDED = {
    # the batches are made by columns that the model itself does not read
    "remove_unused_columns": False,
    # every weight takes part in every step, and looking for one that does not takes time
    "ddp_find_unused_parameters": False,
    # it logs a loss that is not a number as 0
    "logging_nan_inf_filter": False,
}
"""What training here needs of ``DPOConfig``; a command line may still say otherwise by a plus."""


NEED_A_GPU = ("use_liger_kernel", "activation_offloading", "fp16")
"""Switches of ``DPOConfig`` that fail on a CPU after the weights are loaded."""


def arguments(node: DictConfig, folder: Path, tracked: bool) -> DPOConfig:
    """TRL's ``DPOConfig`` of a config node, with what depends on this machine filled in.

    Gradient checkpointing that is left to the memory (``auto``) is off.

    Raises:
        UserError: It has no such field, or refuses a value; one line for each.
    """
    values: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    refuse_fields("dpo", values, DPOConfig, DPO_REFUSED, DPO_REMOVED)
    on_cpu = {"use_cpu": True} if weights.device().type == "cpu" else {}
    here = {
        "report_to": ["wandb"] if tracked else [],
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    fixed = {key: value for key, value in (NEEDED | here).items() if key not in node}
    try:
        args = instantiate(
            node,
            output_dir=str(folder),
            gradient_checkpointing=node.gradient_checkpointing is True,
            **precision(node),
            **on_cpu,
            **fixed,
        )
    except InstantiationException as error:
        raise named_mistake(error.__cause__ or error, (f"dpo.{key}" for key in values), "dpo") from error
    for field in filter(args.__getattribute__, NEED_A_GPU if on_cpu else ()):
        raise UserError(f"dpo.{field}: needs a GPU, and there is none here")
    if args.use_liger_kernel and not find_spec("liger_kernel"):
        raise UserError("dpo.use_liger_kernel: needs a package that is not installed: pip install liger-kernel")
    if absent := {*args.report_to} - {*get_available_reporting_integrations()}:
        raise UserError(f"dpo.report_to: {', '.join(sorted(absent))} is not installed, or unknown to transformers")
    if args.n_gpu > 1:
        # torch.nn.DataParallel, which a single process would use, cuts a forest apart
        tell(f"training on one of {args.n_gpu} GPUs; accelerate launch uses them all")
        args._n_gpu = 1
    # the clock may have moved on between the processes
    args.output_dir = processes.from_main(lambda: args.output_dir)
    return args


def check_length(max_length: int, context: int) -> int:
    """``dpo.max_length``, which must not exceed what the model can read.

    Raises:
        UserError: It does.
    """
    if max_length > context:
        raise UserError(f"dpo.max_length: {max_length} tokens are more than the model can read; at most {context}")
    return max_length
