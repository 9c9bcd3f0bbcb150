"""Log-probabilities of chosen and rejected turns under a model, and what DPO reads from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from socratic_rl.dialogue import Message, PreferencePair

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairScores:
    """Summed log-probabilities (nats) and lengths (tokens) of both completions of n pairs; each of shape (n,)."""

    chosen: Floats
    rejected: Floats
    chosen_tokens: Floats
    rejected_tokens: Floats

    def preferred(self) -> Floats:
        """1 where the chosen turn is the likelier one per token, 0 where the rejected is, 0.5 for a tie.

        The mean is the ranking accuracy (Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference
        Rankings"), per token as in SimPO (Meng et al. 2024), so that a short turn does not win for being short.
        """
        return _wins(self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens)


def reward_margins(policy: PairScores, reference: PairScores) -> Floats:
    """DPO's implicit reward of chosen over rejected before β (Rafailov et al. 2023, eq. 7); shape (n,)."""
    return (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)


def rewarded(policy: PairScores, reference: PairScores) -> Floats:
    """1 where the implicit reward prefers the chosen turn, 0 where it does not, 0.5 for a tie."""
    return _wins(reward_margins(policy, reference), np.zeros_like(policy.chosen))


def _wins(left: Floats, right: Floats) -> Floats:
    return np.where(left == right, 0.5, left > right)


def token_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool = False) -> list[int]:
    """Messages as token ids by the chat template; a prompt ends where the teacher's turn would begin."""
    encoded = tokenizer.apply_chat_template(
        list(messages), tokenize=True, add_generation_prompt=prompt, return_dict=True
    )
    return list(encoded["input_ids"])


@torch.no_grad()
def score_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    batch_size: int = 8,
    label: str = "scoring pairs",
) -> PairScores:
    """Log-probabilities of every pair's chosen and rejected turn after its prompt.

    Args:
        model: The policy or the reference.
        tokenizer: With a chat template.
        pairs: n pairs.
        batch_size: Rows at once; a pair has two.
        label: What the progress bar says.
    """
    rows: list[tuple[list[int], int]] = []
    for pair in pairs:
        prompt = token_ids(tokenizer, pair.prompt, prompt=True)
        for completion in (pair.chosen, pair.rejected):
            ids = token_ids(tokenizer, [*pair.prompt, *completion])
            start = next((i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt))
            rows.append((ids, start))
    sums = np.zeros(len(rows))
    # rows of like length together, the longest first, so that little is padding and memory is asked for once
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row][0]))
    model.eval()
    with tqdm(total=len(pairs), desc=label, unit="pair", delay=2) as bar:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            sums[batch] = _completion_log_probs(model, [rows[row] for row in batch])
            bar.update(len(batch) / 2)
    lengths = np.array([len(ids) - start for ids, start in rows], dtype=np.float64)
    return PairScores(sums[0::2], sums[1::2], lengths[0::2], lengths[1::2])


def _completion_log_probs(model: PreTrainedModel, rows: Sequence[tuple[list[int], int]]) -> Floats:
    width = max(len(ids) for ids, _ in rows)
    keep = min(start for _, start in rows) - 1
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    read = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (tokens, start) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        read[row, start : len(tokens)] = True
    ids, mask, read = (tensor.to(model.device) for tensor in (ids, mask, read))
    places = torch.arange(keep, width - 1, device=model.device)
    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=places, use_cache=False).logits
    read = read[:, keep + 1 :]
    flat = torch.nn.functional.cross_entropy(logits[read].float(), ids[:, keep + 1 :][read], reduction="none")
    sums = torch.zeros(read.shape, device=flat.device, dtype=flat.dtype).masked_scatter(read, -flat).sum(1)
    return sums.double().cpu().numpy()
