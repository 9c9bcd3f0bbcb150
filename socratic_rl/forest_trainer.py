"""TRL's ``DPOTrainer`` on batches laid out as forests, where the model can take them and they save enough."""

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig

from socratic_rl import processes
from socratic_rl.batches import ConversationSampler
from socratic_rl.dialogue import PreferencePair
from socratic_rl.forest import ForestCollator, grow
from socratic_rl.forest_attention import attention_masks, query_spans
from socratic_rl.reference_trainer import ReferenceTrainer
from socratic_rl.tokens import pair_tokens

WORTHWHILE = 1.25
"""How many times fewer tokens ``auto`` asks for: below that, wider attention eats up the saving."""

TOLERANCE = 0.06
"""How far a model's log-probabilities of a forest may be from those of its rows, relative to how they vary."""

COUNTED_PAIRS = 512
"""From how many pairs, of the first batches, tokens are counted."""


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


@contextmanager
def reading_forests(*models: PreTrainedModel | None) -> Iterator[None]:
    """While this holds, the models read a ``ForestCollator``'s batches as forests.

    What TRL's fused head gets and gives back looks as for padded rows: log-probabilities of shape (rows, kept - 1).
    """
    handles = [handle for model in models if model is not None for handle in _hook(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(model: PreTrainedModel) -> list[RemovableHandle]:
    language_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    batch: dict[str, torch.Tensor] = {}

    def swap(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The forest instead of the padded rows."""
        batch.clear()
        batch.update({key: kwargs.pop(key) for key in list(kwargs) if key.startswith("forest_")})
        if batch:
            if not kwargs.get("fused_lm_head"):
                raise ValueError("a forest has log-probabilities of its completions, not logits")
            batch["scored"] = kwargs.pop("labels")[:, 1:] != -100
            depths, ends = batch["forest_depths"], batch["forest_ends"]
            kwargs["input_ids"] = batch["forest_ids"]
            kwargs["position_ids"] = depths
            kwargs["attention_mask"] = attention_masks(language_model.config, depths, ends, language_model.dtype)
            kwargs["query_spans"] = query_spans(depths)
            kwargs["shift_labels"] = batch["forest_targets"]
        return args, kwargs

    def gather(_: nn.Module, __: Any, output: Any) -> None:
        """Only the states from which a scored token is predicted go on to the head."""
        if batch:
            output.last_hidden_state = output.last_hidden_state[0, batch["forest_parents"]]

    def spread(_: nn.Module, __: Any, output: Any) -> None:
        """Each row's scores in its place."""
        if batch:
            for name, value in list(output.items()):
                if value.shape == batch["forest_targets"].shape:
                    output[name] = value[0, batch["forest_scores"]] * batch["scored"]
            batch.clear()

    return [
        model.register_forward_pre_hook(swap, with_kwargs=True),
        language_model.base_model.register_forward_hook(gather),
        model.register_forward_hook(spread),
    ]


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
            print(f"forest: {counted}")
            filled = copy.copy(args)
            filled.per_device_train_batch_size = counted.batch
            filled.gradient_accumulation_steps = counted.accumulation
            return filled
        reason = f"it would save too little: {counted}"
    print(f"forest: off, training on padded rows: {reason}")
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


def obstacle(model: PreTrainedModel) -> str | None:
    """Why this model cannot read forests, or None where it can."""
    if processes.sharded():
        return "no process holds all weights"
    config = model.config.get_text_config()
    attention = config._attn_implementation
    unknown = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if attention not in ("sdpa", "eager", "flex_attention"):
        return f"{attention} takes no mask of ours; model.attn_implementation=sdpa does"
    if model._is_stateful or not model._supports_attention_backend or unknown:
        return f"{config.model_type} does not read its context by causal attention alone"
    if not reads_forests(model):
        return f"{config.model_type} does not give a forest the log-probabilities of its rows"
    return None


def training_obstacle(model: PreTrainedModel, args: DPOConfig) -> str | None:
    """Why this model cannot be trained on forests just as on padded rows, or None where it can."""
    config = model.config.get_text_config()
    if getattr(config, "router_aux_loss_coef", 0) and hasattr(config, "output_router_logits"):
        return f"{config.model_type} balances its experts over all tokens of padded rows"
    if not args.disable_dropout:
        return "dropout would be drawn once for all rows that share a token; dpo.disable_dropout=true allows it"
    return obstacle(model)


@torch.no_grad()
def reads_forests(model: PreTrainedModel) -> bool:
    """Whether a model gives a small forest the log-probabilities that it gives the forest's rows one by one.

    A safeguard against models whose positions or attention we do not know: bfloat16 stays within a third of the
    tolerance, a token that attends to another row's goes far beyond it.
    """
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(model.config.get_text_config().vocab_size, (112,), generator=draw).tolist()
    stem, left, right = words[:40], words[40:88], words[88:]
    rows = [stem + left, stem + right]
    (tree,) = grow(rows)
    ids, depths, ends = (torch.tensor([values], device=model.device) for values in (tree.ids, tree.depths, tree.ends))
    mask = attention_masks(model.config, depths, ends, model.dtype)

    def log_probs(**inputs: torch.Tensor) -> torch.Tensor:
        return model(**inputs, use_cache=False).logits[0].float().log_softmax(-1)  # type: ignore[no-any-return]

    model.eval()
    found = log_probs(input_ids=ids, position_ids=depths, attention_mask=mask)
    for number, row in enumerate(rows):
        expected = log_probs(input_ids=torch.tensor([row], device=model.device))
        error = found[tree.paths[number]] - expected
        if error.norm() > TOLERANCE * (expected - expected.mean(0)).norm():
            return False
    return True
