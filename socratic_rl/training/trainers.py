"""TRL's ``DPOTrainer`` on padded rows and on prefix forests, and which of the two a training takes."""

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.text import tell
from socratic_rl.models import processes
from socratic_rl.models.forest import ForestCollator, grow
from socratic_rl.models.forest_hooks import obstacle, reading_forests
from socratic_rl.models.tokens import pair_tokens
from socratic_rl.training.batches import StepSampler

WORTHWHILE = 1.25
"""How many times fewer tokens ``auto`` asks for: below that, wider attention eats up the saving."""


COUNTED_PAIRS = 512
"""From how many pairs, of the first batches, tokens are counted."""


BATCHWISE = {"aot", "aot_unpaired"}
"""The losses that are no mean over pairs: other batches give another loss."""


COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
"""Where TRL looks for the reference's log-probabilities: one number a pair and column."""


class StepTrainer(DPOTrainer):  # type: ignore[misc]
    """``DPOTrainer`` on padded rows, whose steps weigh all their pairs alike, however they are cut into batches.

    The training set needs the columns ``conversation_id`` and ``length``. Neither tokens nor the reference's
    log-probabilities are computed where a data set has them. Losses, metrics, evaluation, accumulation and checkpoints
    are TRL's.
    """

    loss_weights: list[float]
    counts: torch.Tensor | None = None
    """What the loss weighs in a batch of the step that is taken, on average: pairs, and tokens of chosen turns."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        tokenized = {"prompt_ids", "chosen_ids", "rejected_ids"} <= set(dataset.column_names)
        return dataset if tokenized else super()._prepare_dataset(dataset, *args, **kwargs)

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        # what TRL keeps is lost when the process ends, and found again only with the same first weights of an adapter
        computed = set(COLUMNS) <= set(dataset.column_names)
        return dataset if computed else super()._precompute_ref_logps(dataset, name, batch_size)

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:  # noqa: ARG002
        return self._sampler(self.train_dataset["length"])

    def _sampler(self, lengths: Sequence[int] | None) -> StepSampler:
        conversations = self.train_dataset["conversation_id"]
        # an epoch that has just begun is a whole number, but for what adding up its steps rounds away
        return StepSampler(conversations, self.args, lengths, lambda: int((self.state.epoch or 0) + 1e-6))

    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        # padded rows and forests in the same batches; as they lie in their file, a conversation's pairs are neighbours
        return SequentialSampler(eval_dataset)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of a step; what they hold is counted, over all processes."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        counts = torch.stack([_counts(batch) for batch in batches]).mean(0)
        self.counts = self.accelerator.reduce(counts, reduction="mean")
        return batches, items

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss; in training, a batch weighs as many times as it has pairs (for ``sft`` tokens) of its step's.

        TRL's mean over a batch would weigh the pairs of a smaller last batch, and the tokens of a batch with short
        turns, more than others.
        """
        if self.counts is None or not self.model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        pairs, tokens = (_counts(inputs) / self.counts).tolist()
        weights = self.loss_weights
        shares = [tokens if kind == "sft" else pairs for kind in self.loss_types]
        self.loss_weights = [weight * share for weight, share in zip(weights, shares, strict=True)]
        try:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        finally:
            self.loss_weights = weights
        for name, values in self._metrics["train"].items():
            if name.startswith(("rewards/", "logps/")):
                values[-1] *= pairs
        return loss

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


def _counts(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """How many pairs a batch has, and how many tokens of chosen turns TRL scores."""
    scored = batch["completion_mask"][:, 1:]
    pairs = len(scored) // 2
    return torch.stack([torch.tensor(float(pairs), device=scored.device), scored[:pairs].sum().float()])


class ForestTrainer(StepTrainer):
    """A ``StepTrainer`` with a conversation's pairs in one batch and each batch read as a forest.

    The model's hooks stand only while TRL calls the model.
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

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:  # noqa: ARG002
        return self._sampler(None)


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
        if counted.takes_forest(wanted):
            tell(f"forest: {counted}")
            return _filled(args, counted.batch, counted.accumulation)
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
    largest: tuple[int, int]
    """The most tokens in a batch of the forest, and of completions in one."""
    longest: int
    """Tokens of the longest row."""

    def takes_forest(self, wanted: Literal["auto", True, False]) -> bool:
        """Whether a forest is wanted: ``auto`` wants one where it saves enough."""
        return wanted is True or (wanted == "auto" and self.padded >= WORTHWHILE * self.forest)

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

    def completion(index: int) -> int:
        tokens = pair_tokens(pairs[index], tokenizer)
        return len(tokens["chosen_ids"]) + len(tokens["rejected_ids"])

    # the largest batches first; those of the padded rows' size always fit
    for accumulation in range(1, args.gradient_accumulation_steps + 1):
        if step % accumulation:
            continue
        steps = list(_counted(StepSampler(conversations, _filled(args, step // accumulation, accumulation))))
        grown = [grow([row for index in batch for row in rows(index)]) for batches in steps for batch in batches]
        forest = [sum(len(tree.ids) for tree in trees) for trees in grown]
        lengths = [sorted(max(map(len, rows(index))) for batch in batches for index in batch) for batches in steps]
        cut = [row[first : first + size] for row in lengths for first in range(0, len(row), size)]
        if max(forest) <= 2 * size * max(batch[-1] for batch in cut):
            break
    padded = sum(2 * len(batch) * batch[-1] for batch in cut)
    completions = max(sum(map(completion, batch)) for batches in steps for batch in batches)
    return Tokens(
        pairs=sum(map(len, cut)),
        padded=padded,
        forest=sum(forest),
        batch=step // accumulation,
        accumulation=accumulation,
        largest=(max(forest), completions),
        longest=max(batch[-1] for batch in cut),
    )


def _counted(sampler: StepSampler) -> Iterator[list[list[int]]]:
    """The batches of each of the first steps, all processes' together."""
    pairs = 0
    for step in sampler.steps(0):
        batches = [batch for slot in step for batch in slot]
        yield batches
        pairs += sum(map(len, batches))
        if pairs >= COUNTED_PAIRS:
            return


def _filled(args: DPOConfig, batch: int, accumulation: int) -> DPOConfig:
    """Arguments with other batches, a step of as many pairs."""
    filled = copy.copy(args)
    filled.per_device_train_batch_size = batch
    filled.gradient_accumulation_steps = accumulation
    return filled


def training_obstacle(model: PreTrainedModel, args: DPOConfig) -> str | None:
    """Why this model cannot be trained on forests just as on padded rows, or None where it can."""
    config = model.config.get_text_config()
    if getattr(config, "router_aux_loss_coef", 0) and hasattr(config, "output_router_logits"):
        return f"{config.model_type} balances its experts over all tokens of padded rows"
    if not args.disable_dropout:
        return "dropout would be drawn once for all rows that share a token; dpo.disable_dropout=true allows it"
    if args.neftune_noise_alpha:
        return "dpo.neftune_noise_alpha would be drawn once for all rows that share a token"
    if args.include_num_input_tokens_seen != "no":
        return "dpo.include_num_input_tokens_seen counts the tokens of padded rows"
    if batchwise := BATCHWISE & {*args.loss_type}:
        return f"the loss {', '.join(sorted(batchwise))} compares the pairs of a padded batch with each other"
    if args.use_weighting and "sft" in args.loss_type:
        return "dpo.use_weighting weighs the mean of a padded batch in the loss sft"
    return obstacle(model)
