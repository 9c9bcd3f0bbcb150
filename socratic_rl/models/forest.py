"""A batch of dialogues as one prefix forest: every distinct token prefix is encoded once.

The pairs of a dialogue have nested prompts, each chosen turn is part of the next prompt, and chosen and rejected share
theirs. Padded rows encode all that again and again. Here a batch's rows become trees: a node is a token with
everything before it, and attends to its ancestors. Only identical prefixes are merged, so log-probabilities, losses
and gradients are those of the padded rows. Wang and Hegde 2024 ("Accelerating Direct Preference Optimization with
Prefix Sharing") share the prompt of one pair; this shares across all rows of a batch.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl.data_utils import common_prefix_length
from trl.trainer.dpo_trainer import DataCollatorForPreference

MIN_SHARED = 32
"""Rows that share fewer tokens, such as a template's head, grow trees of their own: large trees cost attention."""


class Tree(NamedTuple):
    """Token rows that begin alike; nodes are numbered depth first, so ``k ≤ q < ends[k]`` where k is q or above it."""

    ids: list[int]
    depths: list[int]
    ends: list[int]
    paths: dict[int, list[int]]
    """The nodes of each row, by the row's number."""


def grow(rows: Sequence[list[int]]) -> list[Tree]:
    """Token rows as trees, every distinct prefix once."""
    trees: list[Tree] = []
    last: list[int] = []
    path: list[int] = []
    # sorted, rows with a common prefix are neighbours
    for number in sorted(range(len(rows)), key=rows.__getitem__):
        row = rows[number]
        shared = common_prefix_length(last, row)
        if shared < min(MIN_SHARED, len(row)):
            trees.append(Tree([], [], [], {}))
            shared = 0
        tree = trees[-1]
        path = path[:shared] + list(range(len(tree.ids), len(tree.ids) + len(row) - shared))
        tree.ids.extend(row[shared:])
        tree.depths.extend(range(shared, len(row)))
        tree.ends.extend([0] * (len(row) - shared))
        for node in path:
            tree.ends[node] = len(tree.ids)
        tree.paths[number] = path
        last = row
    return trees


class ForestCollator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's collator, its rows then grown into a forest.

    Of ``input_ids`` and ``completion_mask`` each row keeps what the loss reads: its completion and the token before.
    ``attention_mask`` stays, since TRL counts tokens by it. New are, for M nodes of which n are scored, and N rows of W
    kept tokens:

    - ``forest_ids``, ``forest_depths``, ``forest_ends``: (1, M), the trees one after the other
    - ``forest_parents``: (1, n), the nodes from whose states the scored ones are predicted
    - ``forest_targets``: (1, n), the tokens of the scored nodes
    - ``forest_scores``: (N, W - 1), which of the n scores each kept token has; 0 where it has none
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate ``examples`` as TRL does and grow the forest."""
        batch: dict[str, Any] = super().torch_call(examples)
        lengths = batch["attention_mask"].sum(1)
        rows = [ids[:length] for ids, length in zip(batch["input_ids"].tolist(), lengths.tolist(), strict=True)]
        forest, places = self._plant(rows)

        first = (batch["completion_mask"].argmax(1) - 1).clamp_min(0)
        columns = first[:, None] + torch.arange(int((lengths - first).max()))
        inside = columns < lengths[:, None]
        ids, completion, nodes = (
            tensor.gather(1, columns * inside) for tensor in (batch["input_ids"], batch["completion_mask"], places)
        )
        batch["input_ids"] = ids.masked_fill(~inside, self.pad_token_id)
        batch["completion_mask"] = completion * inside

        scored = batch["completion_mask"][:, 1:].bool()
        targets, number = nodes[:, 1:][scored].unique(return_inverse=True)
        # a node has one parent, whichever row it is reached by
        parents = torch.empty_like(targets).index_copy_(0, number, nodes[:, :-1][scored])
        scores = torch.zeros_like(nodes[:, 1:]).masked_scatter_(scored, number)
        return {
            **batch,
            **forest,
            "forest_parents": parents[None],
            "forest_targets": forest["forest_ids"][:, targets],
            "forest_scores": scores,
        }

    def _plant(self, rows: Sequence[list[int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The forest's tensors, and for each token of each row which node it is."""
        trees = grow(rows)
        if filling := -sum(len(tree.ids) for tree in trees) % (self.pad_to_multiple_of or 1):
            trees.append(Tree([0] * filling, list(range(filling)), [filling] * filling, {}))
        ids: list[int] = []
        depths: list[int] = []
        ends: list[int] = []
        places = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for tree in trees:
            start = len(ids)
            ids += tree.ids
            depths += tree.depths
            ends += [start + end for end in tree.ends]
            for row, path in tree.paths.items():
                places[row, : len(path)] = torch.tensor(path) + start
        tensors = {"forest_ids": ids, "forest_depths": depths, "forest_ends": ends}
        return {name: torch.tensor([values]) for name, values in tensors.items()}, places


SPAN = 256
"""Nodes of a tree that attend together; fewer save more of what a mask would strike out, and take more calls."""


def attention_masks(config: PreTrainedConfig, depths: torch.Tensor, ends: torch.Tensor, dtype: torch.dtype) -> Any:
    """The mask of a forest as a model's attention takes it.

    Args:
        config: The model's.
        depths: How many nodes stand above each, (1, M); a sliding window counts by them.
        ends: The first node after each one's subtree, (1, M).
        dtype: In which ``eager`` attention adds the mask to its scores.

    Returns:
        For one kind of layer: a bool (1, 1, M, M) under ``sdpa``, a ``dtype`` one under ``eager``, a ``BlockMask``
        under ``flex_attention``; where full and sliding layers alternate, a dict of both.
    """
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if kinds == {"full_attention", "sliding_attention"}:
        return {
            "full_attention": _mask(config._attn_implementation, depths, ends, dtype, None),
            "sliding_attention": _mask(config._attn_implementation, depths, ends, dtype, window),
        }
    return _mask(config._attn_implementation, depths, ends, dtype, None if kinds == {"full_attention"} else window)


def _mask(attention: str, depths: torch.Tensor, ends: torch.Tensor, dtype: torch.dtype, window: int | None) -> Any:
    width = ends.shape[1]

    def attends(_: Any, __: Any, query: Any, key: Any) -> Any:
        above = (key <= query) & (query < ends[0, key])
        return above if window is None else above & (depths[0, query] - depths[0, key] < window)

    if attention == "flex_attention":
        from torch.nn.attention.flex_attention import create_block_mask

        return create_block_mask(attends, None, None, width, width, device=ends.device)
    index = torch.arange(width, device=ends.device)
    mask = attends(None, None, index[:, None], index)[None, None]
    if attention == "eager":
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
    return mask


def query_spans(depths: torch.Tensor) -> list[tuple[int, int, int]]:
    """Which nodes attend together, and from where on: ``(root, first, end)``, nodes first to end among root to end."""
    roots = (depths[0] == 0).nonzero().flatten().tolist()
    return [
        (root, first, min(first + SPAN, end))
        for root, end in pairwise([*roots, depths.shape[1]])
        for first in range(root, end, SPAN)
    ]


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    query_spans: list[tuple[int, int, int]] | None = None,
    **arguments: Any,
) -> Any:
    """Transformers' ``sdpa`` attention, span by span: a node attends to nothing in other trees nor further on."""
    if query_spans is None or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    attended = [
        sdpa_attention_forward(
            module,
            query[:, :, first:end],
            key[:, :, root:end],
            value[:, :, root:end],
            attention_mask[:, :, first:end, root:end],
            **arguments,
        )[0]
        for root, first, end in query_spans
    ]
    return torch.cat(attended, dim=1), None


def attend_by_spans() -> None:
    """Have transformers' ``sdpa`` attend by spans where a call brings ``query_spans``; other calls are as before.

    It stays: gradient checkpointing calls the layers once more in the backward pass, when no hook stands any longer.
    """
    AttentionInterface.register("sdpa", attend)
