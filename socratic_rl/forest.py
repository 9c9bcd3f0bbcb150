"""A batch of dialogues as one prefix forest: every distinct token prefix is encoded once.

The pairs of a dialogue have nested prompts, each chosen turn is part of the next prompt, and chosen and rejected share
theirs. Padded rows encode all that again and again. Here a batch's rows become trees: a node is a token with
everything before it, and attends to its ancestors. Only identical prefixes are merged, so log-probabilities, losses
and gradients are those of the padded rows. Wang and Hegde 2024 ("Accelerating Direct Preference Optimization with
Prefix Sharing") share the prompt of one pair; this shares across all rows of a batch.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from trl.data_utils import common_prefix_length
from trl.trainer.dpo_trainer import DataCollatorForPreference

MIN_SHARED = 32
"""Rows that share fewer tokens, such as a template's head, grow trees of their own: a wide row costs attention."""

ATTENTION_WIDTH = 4096
"""About how wide a row is when attention over it costs as much as all matrix products with weights."""


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


def lay(trees: Sequence[Tree]) -> list[list[Tree]]:
    """Trees side by side in the rows of one tensor, as wide as costs least; first fit, the largest first."""
    sizes = sorted((len(tree.ids) for tree in trees), reverse=True)
    widths = {max(sizes[0], math.ceil(sum(sizes) / count)) for count in range(1, len(sizes) + 1)}

    def fill(width: int) -> list[list[Tree]]:
        rows: list[list[Tree]] = []
        for tree in sorted(trees, key=lambda tree: -len(tree.ids)):
            row = next((row for row in rows if _width([row]) + len(tree.ids) <= width), None)
            if row is None:
                rows.append(row := [])
            row.append(tree)
        return rows

    def cost(rows: list[list[Tree]]) -> float:
        return len(rows) * _width(rows) * (1 + _width(rows) / ATTENTION_WIDTH)

    return min(map(fill, sorted(widths)), key=cost)


def _width(layout: Sequence[Sequence[Tree]]) -> int:
    return max(sum(len(tree.ids) for tree in row) for row in layout)


def token_count(rows: Sequence[list[int]]) -> int:
    """How many tokens a model reads where these rows are laid out as a forest, filling included."""
    layout = lay(grow(rows))
    return len(layout) * _width(layout)


class ForestCollator(DataCollatorForPreference):  # type: ignore[misc]
    """TRL's collator, its batch then laid out as a forest.

    Of ``input_ids`` and ``completion_mask`` each row keeps what the loss reads: its completion and the token before.
    ``attention_mask`` stays, since TRL counts tokens by it. New are, for R rows of M nodes, n scored nodes, and N token
    rows of W kept tokens:

    - ``forest_ids``, ``forest_depths``, ``forest_ends``: (R, M)
    - ``forest_parents``: (1, n), where the states lie, in R·M, from which the scored nodes are predicted
    - ``forest_targets``: (1, n), the tokens of the scored nodes
    - ``forest_scores``: (N, W - 1), which of the n scores each kept token has; 0 where it has none
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate ``examples`` as TRL does and lay them out."""
        batch: dict[str, Any] = super().torch_call(examples)
        lengths = batch["attention_mask"].sum(1)
        rows = [ids[:length] for ids, length in zip(batch["input_ids"].tolist(), lengths.tolist(), strict=True)]
        forest, places = self._lay_out(rows)

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
            "forest_targets": forest["forest_ids"].flatten()[targets][None],
            "forest_scores": scores,
        }

    def _lay_out(self, rows: Sequence[list[int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The forest's tensors, and for each token of each row where in them it lies."""
        layout = lay(grow(rows))
        multiple = self.pad_to_multiple_of or 1
        width = math.ceil(_width(layout) / multiple) * multiple
        ids, depths = (torch.zeros(len(layout), width, dtype=torch.long) for _ in range(2))
        # what fills a row up attends to itself alone
        ends = torch.arange(1, width + 1).repeat(len(layout), 1)
        places = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for line, trees in enumerate(layout):
            start = 0
            for tree in trees:
                span = slice(start, start + len(tree.ids))
                ids[line, span] = torch.tensor(tree.ids)
                depths[line, span] = torch.tensor(tree.depths)
                ends[line, span] = torch.tensor(tree.ends) + start
                for row, path in tree.paths.items():
                    places[row, : len(path)] = torch.tensor(path) + line * width + start
                start = span.stop
        return {"forest_ids": ids, "forest_depths": depths, "forest_ends": ends}, places
