"""How a model's attention reads a forest: every node attends to itself and the nodes above it."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

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
    place = torch.arange(width, device=ends.device)
    mask = attends(None, None, place[:, None], place)[None, None]
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


# without `query_spans` it is what it was
AttentionInterface.register("sdpa", attend)
