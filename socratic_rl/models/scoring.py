"""Log-probabilities of chosen and rejected turns under a model, and what DPO reads from them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.models import processes
from socratic_rl.models.forest import ForestCollator
from socratic_rl.models.forest_hooks import obstacle, reading_forests
from socratic_rl.models.tokens import pair_tokens

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairScores:
    """Summed log-probabilities (nats) and lengths (tokens) of both completions of n pairs; each of shape (n,)."""

    chosen: Floats
    rejected: Floats
    chosen_tokens: Floats
    rejected_tokens: Floats

    def likelier(self) -> Floats:
        """1 where the chosen turn is the likelier one per token, 0 where the rejected is, 0.5 for a tie.

        The mean is the ranking accuracy (Chen et al. 2024, "Preference Learning Algorithms Do Not Learn Preference
        Rankings"), per token as in SimPO (Meng et al. 2024), so that a short turn does not win for being short.
        """
        return _wins(self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens)


def reward_margins(policy: PairScores, reference: PairScores) -> Floats:
    """DPO's implicit reward of chosen over rejected before β (Rafailov et al. 2023, eq. 7); shape (n,)."""
    return (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)


def rewarded(policy: PairScores, reference: PairScores) -> Floats:
    """1 where DPO's implicit reward prefers the chosen turn, 0 where the rejected one, 0.5 for a tie.

    The mean is what TRL logs as ``rewards/accuracies``. A reference has no preference over itself: 0.5 throughout.
    """
    return _wins(reward_margins(policy, reference), np.zeros_like(policy.chosen))


def _wins(left: Floats, right: Floats) -> Floats:
    return np.where(left == right, 0.5, left > right)


@torch.no_grad()
def score_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    batch_size: int = 8,
    label: str = "scoring pairs",
    forward: Callable[..., Any] | None = None,
) -> PairScores:
    """Log-probabilities of every pair's chosen and rejected turn after its prompt.

    Several processes share the pairs, all must call this, and each gets all scores.

    Batches are read as prefix forests where the model can take them, else as padded rows of like length.

    Args:
        model: The policy or the reference.
        tokenizer: With a chat template.
        pairs: n pairs.
        batch_size: Pairs at once.
        label: What the progress bar says.
        forward: What calls the model where calling it itself would not do: the wrapper that gathers its weights.
    """
    if processes.count() > 1:
        mine = _score([pairs[row] for row in _share(len(pairs))], model, tokenizer, batch_size, label, forward)
        gathered = [vars(scores) for scores in gather_object([mine])]
        # the last shares may hold the last pair again
        return PairScores(**{k: np.concatenate([part[k] for part in gathered])[: len(pairs)] for k in gathered[0]})
    return _score(pairs, model, tokenizer, batch_size, label, forward)


def _share(pairs: int) -> list[int]:
    """This process's part of the pairs: neighbours, and as many on each process."""
    size = -(-pairs // processes.count())
    return [min(row, pairs - 1) for row in range(processes.rank() * size, (processes.rank() + 1) * size)]


def _score(
    pairs: Sequence[PreferencePair],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    label: str,
    forward: Callable[..., Any] | None,
) -> PairScores:
    rows = [pair_tokens(pair, tokenizer) for pair in pairs]
    forest = obstacle(model) is None
    collate = (ForestCollator if forest else DataCollatorForPreference)(pad_token_id=tokenizer.pad_token_id)
    # a conversation's pairs are neighbours in their file, which is what a forest wants
    order = (
        list(range(len(rows))) if forest else sorted(range(len(rows)), key=lambda row: -len(rows[row]["prompt_ids"]))
    )
    chosen, rejected = np.zeros(len(rows)), np.zeros(len(rows))
    model.eval()
    with _fused_head(model), reading_forests(model), tqdm(total=len(rows), desc=label, unit="pair", delay=2) as bar:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            inputs = {k: v.to(model.device) for k, v in collate([rows[row] for row in batch]).items()}
            read = inputs.pop("completion_mask")
            labels = inputs["input_ids"].masked_fill(read == 0, -100)
            log_probs = (forward or model)(**inputs, labels=labels, fused_lm_head=True, use_cache=False).log_probs
            sums = (log_probs.double() * read[:, 1:]).sum(1).cpu().numpy()
            chosen[batch], rejected[batch] = np.split(sums, 2)
            bar.update(len(batch))
    lengths = {side: np.array([len(row[f"{side}_ids"]) for row in rows], float) for side in ("chosen", "rejected")}
    return PairScores(chosen, rejected, lengths["chosen"], lengths["rejected"])


@contextmanager
def _fused_head(model: PreTrainedModel) -> Iterator[None]:
    """While it lasts, the model gives log-probabilities of labelled tokens, never logits of every token."""
    language_model = model.get_base_model() if hasattr(model, "get_base_model") else model
    forward = language_model.forward
    add_fused_lm_head(language_model)
    try:
        yield
    finally:
        language_model.forward = forward
