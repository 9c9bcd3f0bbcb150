"""TRL's ``DPOTrainer`` on padded rows and on prefix forests, and which of the two a training takes."""

import copy
import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import DPOConfig, DPOTrainer

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.text import tell
from socratic_rl.models import processes
from socratic_rl.models.forest import ForestCollator, grow
from socratic_rl.models.forest_hooks import obstacle, reading_forests
from socratic_rl.models.tokens import pair_tokens
from socratic_rl.training.batches import ConversationSampler

WORTHWHILE = 1.25
"""How many times fewer tokens ``auto`` asks for: below that, wider attention eats up the saving."""


COUNTED_PAIRS = 512
"""From how many pairs, of the first batches, tokens are counted."""


COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
"""Where TRL looks for the reference's log-probabilities: one number a pair and column."""


class ReferenceTrainer(DPOTrainer):  # type: ignore[misc]
    """``DPOTrainer`` that computes neither tokens nor the reference's log-probabilities where its data set has them."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        tokenized = {"prompt_ids", "chosen_ids", "rejected_ids"} <= set(dataset.column_names)
        return dataset if tokenized else super()._prepare_dataset(dataset, *args, **kwargs)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # what TRL keeps is lost when the process ends, and found again only with the same first weights of an adapter
        computed = set(COLUMNS) <= set(dataset.column_names)
        return dataset if computed else super()._precompute_ref_logps(dataset, name, batch_size)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """TRL's step.

        Raises:
            UserError: Its loss is not a number: no later step could mend the weights.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise UserError(
                f"dpo.learning_rate: the loss became {loss.item()} in step {self.state.global_step + 1}; lower it or"
                " raise dpo.warmup_steps"
            )
        return loss


class RowTrainer(ReferenceTrainer):
    """``DPOTrainer`` whose steps hold the same pairs, however many processes share a step."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batches = self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroupedSampler(self.args.train_batch_size * batches, lengths=self.train_dataset["length"])


class ForestTrainer(ReferenceTrainer):
    """``DPOTrainer`` with a conversation's pairs in one batch and each batch read as a forest.

    The training set needs a column ``conversation_id``. Losses, metrics, evaluation, reference, accumulation and
    checkpoints are TRL's. The model's hooks stand only while TRL calls the model.
    """

    def __init__(self, **arguments: Any):
        """What ``DPOTrainer`` takes, by name."""
        args, tokenizer = arguments["args"], arguments["processing_class"]
        collator = ForestCollator(
            pad_token_id=tokenizer.pad_token_id,
            max_length=args.max_length,
            truncation_mode=args.truncation_mode,
            pad_to_multiple_of=args.pad_to_multiple_of,
        )
        super().__init__(data_collator=collator, **arguments)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, policy and reference reading the batch as a forest."""
        with reading_forests(self.model, self.ref_model):
            return super().compute_loss(*args, **kwargs)

    def compute_ref_log_probs(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's reference log-probabilities, the reference reading the batch as a forest."""
        with reading_forests(self.model, self.ref_model):
            return super().compute_ref_log_probs(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> ConversationSampler:  # noqa: ARG002
        conversations = self.train_dataset["conversation_id"]
        batch = self.args.train_batch_size
        step = batch * self.args.gradient_accumulation_steps * self.args.world_size
        return ConversationSampler(conversations, batch, step, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        # as they lie in their file, a conversation's pairs are neighbours
        return SequentialSampler(eval_dataset)


def forest_arguments(
    wanted: Literal["auto", True, False],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    args: DPOConfig,
) -> DPOConfig | None:
    """What to give to a ``ForestTrainer``, or None to train on padded rows; prints which, and the tokens of both.

    A step keeps its pairs. As a forest's pairs take fewer tokens, its batches are filled with as many as fit into the
    tokens of the largest padded batch, and fewer batches are accumulated.

    Args:
        wanted: ``auto`` wants a forest where it saves enough, True wherever the model can take it, False never.
        model: The base.
        tokenizer: With a chat template.
        pairs: What to train on.
        args: For padded rows.
    """
    if not wanted:
        return None
    reason = processes.from_main(lambda: training_obstacle(model, args))
    if reason is None:
        counted = count_tokens(pairs, tokenizer, args)
        if wanted is True or counted.padded >= WORTHWHILE * counted.forest:
            tell(f"forest: {counted}")
            filled = copy.copy(args)
            filled.per_device_train_batch_size = counted.batch
            filled.gradient_accumulation_steps = counted.accumulation
            return filled
        reason = f"it would save too little: {counted}"
    tell(f"forest: off, training on padded rows: {reason}")
    return None


class Tokens(NamedTuple):
    """How many tokens a model reads for the same pairs."""

    pairs: int
    padded: int
    """As padded rows, rows of like length together."""
    forest: int
    batch: int
    """Pairs in a batch of the forest."""
    accumulation: int
    """Batches of the forest in a step."""

    def __str__(self) -> str:
        return (
            f"the first {self.pairs} pairs take {self.padded:,} tokens as padded rows and {self.forest:,} as a forest,"
            f" {self.padded / self.forest:.1f} times fewer; batches of {self.batch} pairs, {self.accumulation} a step"
        )


def count_tokens(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, args: DPOConfig) -> Tokens:
    """Count the tokens of the first pairs, and fill the forest's batches up to those of the largest padded one."""
    conversations = [pair.conversation_id for pair in pairs]
    size, step = args.per_device_train_batch_size, args.per_device_train_batch_size * args.gradient_accumulation_steps

    @functools.cache
    def rows(index: int) -> list[list[int]]:
        tokens = pair_tokens(pairs[index], tokenizer)
        return [(tokens["prompt_ids"] + tokens[side])[: args.max_length] for side in ("chosen_ids", "rejected_ids")]

    def batches(order: Sequence[int], size: int) -> list[Sequence[int]]:
        return [order[first : first + size] for first in range(0, len(order), size)]

    # the largest batches first; those of the padded rows' size always fit
    for accumulation in range(1, args.gradient_accumulation_steps + 1):
        if step % accumulation:
            continue
        filled = step // accumulation
        order = list(ConversationSampler(conversations, filled, step * args.world_size, args.seed))[:COUNTED_PAIRS]
        grown = [grow([row for index in batch for row in rows(index)]) for batch in batches(order, filled)]
        forest = [sum(len(tree.ids) for tree in trees) for trees in grown]
        lengths = sorted(max(map(len, rows(index))) for index in order)
        padded = [2 * len(batch) * batch[-1] for batch in batches(lengths, size)]
        if max(forest) <= 2 * size * lengths[-1]:
            break
    return Tokens(len(order), sum(padded), sum(forest), filled, accumulation)


def training_obstacle(model: PreTrainedModel, args: DPOConfig) -> str | None:
    """Why this model cannot be trained on forests just as on padded rows, or None where it can."""
    config = model.config.get_text_config()
    if getattr(config, "router_aux_loss_coef", 0) and hasattr(config, "output_router_logits"):
        return f"{config.model_type} balances its experts over all tokens of padded rows"
    if not args.disable_dropout:
        return "dropout would be drawn once for all rows that share a token; dpo.disable_dropout=true allows it"
    return obstacle(model)
