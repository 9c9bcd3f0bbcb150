from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.models.scoring import PairScores, reward_margins, rewarded, score_pairs
from socratic_rl.models.tokens import token_ids
from socratic_rl.models.weights import tokenizer_from


def pairs() -> list[PreferencePair]:
    trace = {"conversation_id": "c", "problem_id": "p", "turn": 0, "rejection": "x", "split": "test"}
    short, long = Turn(speaker="student", text="2 + 2?"), Turn(speaker="student", text="What is two and two? " * 4)
    return [
        PreferencePair.of([short], "What is one more than 3?", "4", **trace),
        PreferencePair.of([long], "Why?", "It is 4, as everybody knows", **trace),
        PreferencePair.of([short], "same", "same", **trace),
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_log_probabilities_equal_those_of_each_row_alone(tiny_llama: Path, batch_size: int):
    tokenizer, model = tokenizer_from(str(tiny_llama)), AutoModelForCausalLM.from_pretrained(tiny_llama)
    scores = score_pairs(model, tokenizer, pairs(), batch_size)
    for number, pair in enumerate(pairs()):
        for answer, found in ((pair.chosen, scores.chosen), (pair.rejected, scores.rejected)):
            start = len(token_ids(tokenizer, pair.prompt, prompt=True))
            ids = torch.tensor([token_ids(tokenizer, [*pair.prompt, *answer])])
            with torch.no_grad():
                log_probs = model(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[start - 1 :, 0]
            assert found[number] == pytest.approx(log_probs.sum().item(), abs=1e-4)
    assert scores.chosen_tokens[1] == len("Why?") + 2  # a byte a token, the end of the turn and its newline


def test_a_preference_is_told_per_token_and_a_tie_counts_half(tiny_llama: Path):
    even = np.array([2.0, 2.0, 4.0])
    scores = PairScores(np.array([-4.0, -4.0, -4.0]), np.array([-5.0, -3.0, -2.0]), even, np.array([2.0, 2.0, 2.0]))
    assert scores.likelier().tolist() == [1.0, 0.0, 0.5]


def test_the_implicit_reward_is_what_the_policy_gained_over_the_reference():
    tokens = np.ones(2)
    policy = PairScores(np.array([-1.0, -3.0]), np.array([-4.0, -1.0]), tokens, tokens)
    reference = PairScores(np.array([-2.0, -2.0]), np.array([-2.0, -2.0]), tokens, tokens)
    assert reward_margins(policy, reference).tolist() == [3.0, -2.0]
    assert rewarded(policy, reference).tolist() == [1.0, 0.0]
    assert rewarded(reference, reference).tolist() == [0.5, 0.5]
