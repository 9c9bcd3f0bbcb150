"""TRL's ``DPOTrainer`` on batches laid out as forests, where the model can take them and they save enough."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from socratic_rl.batches import ConversationSampler
from socratic_rl.dialogue import PreferencePair
from socratic_rl.forest import ForestCollator, grow
from socratic_rl.forest_attention import attention_masks, query_spans
from socratic_rl.tokens import pair_tokens

WORTHWHILE = 1.25
"""How many times fewer tokens ``auto`` asks for: below that, wider attention eats up the saving."""

TOLERANCE = 0.06
"""How far a model's log-probabilities of a forest may be from those of its rows, relative to how they vary."""

COUNTED_BATCHES = 64
"""From how many batches of the first epoch the saving is estimated."""


class ForestTrainer(DPOTrainer):  # type: ignore[misc]
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
        return ConversationSampler(conversations, self.args.train_batch_size, self.args.seed)

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


def use_forest(
    wanted: Literal["auto", True, False],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    args: DPOConfig,
) -> bool:
    """Whether to train with ``ForestTrainer``; prints why, and how many tokens a forest saves.

    Args:
        wanted: ``auto`` wants a forest where it saves enough, True wherever the model can take it, False never.
        model: The base.
        tokenizer: With a chat template.
        pairs: What to train on.
        args: TRL's own.
    """
    if not wanted:
        return False
    reason = training_obstacle(model, args)
    if reason is None:
        saved = saving(pairs, tokenizer, args)
        if wanted is True or saved.factor >= WORTHWHILE:
            print(f"forest: {saved}")
            return True
        reason = f"it would save too little: {saved}"
    print(f"forest: off, training on padded rows: {reason}")
    return False


class Saving(NamedTuple):
    """Tokens that a model reads for the same pairs of an epoch."""

    pairs: int
    padded: int
    """As padded rows, rows of like length together."""
    forest: int

    @property
    def factor(self) -> float:
        """How many times fewer tokens a forest has."""
        return self.padded / self.forest

    def __str__(self) -> str:
        return (
            f"the first {self.pairs} pairs take {self.padded:,} tokens as padded rows and {self.forest:,} as a forest,"
            f" {self.factor:.1f} times fewer"
        )


def saving(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, args: DPOConfig) -> Saving:
    """Count the tokens of the first batches of the first epoch."""
    size = args.train_batch_size
    order = list(ConversationSampler([pair.conversation_id for pair in pairs], size, args.seed))
    tokens = [pair_tokens(pairs[index], tokenizer) for index in order[: COUNTED_BATCHES * size]]
    rows = [
        [(pair["prompt_ids"] + pair[side])[: args.max_length] for side in ("chosen_ids", "rejected_ids")]
        for pair in tokens
    ]
    batches = [range(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
    lengths = sorted(max(map(len, pair)) for pair in rows)
    return Saving(
        pairs=len(rows),
        padded=sum(2 * len(batch) * lengths[batch[-1]] for batch in batches),
        forest=sum(len(tree.ids) for batch in batches for tree in grow([row for n in batch for row in rows[n]])),
    )


def obstacle(model: PreTrainedModel) -> str | None:
    """Why this model cannot read forests, or None where it can."""
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
