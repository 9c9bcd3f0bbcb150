"""Hooks by which a model reads a batch as a prefix forest, and whether it can."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from socratic_rl.models import processes
from socratic_rl.models.forest import attend_by_spans, attention_masks, grow, query_spans

TOLERANCE = 0.06
"""How far a model's log-probabilities of a forest may be from those of its rows, relative to how they vary."""


@contextmanager
def reading_forests(*models: PreTrainedModel | None) -> Iterator[None]:
    """While this holds, the models read a ``ForestCollator``'s batches as forests.

    What TRL's fused head gets and gives back looks as for padded rows: log-probabilities of shape (rows, kept - 1).
    """
    attend_by_spans()
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
    forest_log_probs = log_probs(input_ids=ids, position_ids=depths, attention_mask=mask)
    for number, row in enumerate(rows):
        expected = log_probs(input_ids=torch.tensor([row], device=model.device))
        error = forest_log_probs[tree.paths[number]] - expected
        if error.norm() > TOLERANCE * (expected - expected.mean(0)).norm():
            return False
    return True
