"""Forests and padded rows, in batches of any size, take the same steps: the same losses, the same adapter."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.models.weights import tokenizer_from
from socratic_rl.training import dpo
from socratic_rl.training.settings import LossType
from tests.unit.training.test_dpo import node

BATCHES = {"forest": (2, 3, True), "rows": (2, 3, False), "one batch": (6, 1, False), "single rows": (1, 6, False)}


def dialogues(count: int = 8) -> list[PreferencePair]:
    """Dialogues of one to four turns of unlike length; the last of their steps holds fewer pairs."""
    made = []
    for number in range(count):
        dialogue = [Turn(speaker="student", text=f"Problem {number}: what is {number} and 7?")]
        for turn in range(1 + number % 4):
            trace = {"conversation_id": f"c{number}", "problem_id": f"p{number}", "turn": turn}
            question = f"What do you get when you count {'on and ' * turn}on?"
            answer = f"It is {number + 7}{', of course' * (number % 3)}."
            made.append(
                PreferencePair.of(dialogue, question, answer, **trace, rejection="direct_answer", split="train")
            )
            reply = Turn(speaker="student", text=f"Is it {number + turn}?")
            dialogue = [*dialogue, Turn(speaker="teacher", text=question), reply]
    return made


def train(model_folder: Path, folder: Path, batches: str, held_out: int = 0, **changes: Any) -> dpo.Outcome:
    batch, accumulation, forest = BATCHES[batches]
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    args = dpo.arguments(node(**{"save_strategy": "no"} | sizes | changes), folder, tracked=False)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    pairs = dialogues()
    return dpo.train(model, tokenizer_from(str(model_folder)), pairs, pairs[:held_out], args, lora, None, forest=forest)


def losses(outcome: dpo.Outcome) -> list[float]:
    return [row["loss"] for row in outcome.log if "loss" in row]


def movement(outcome: dpo.Outcome) -> torch.Tensor:
    """What the adapter does to the weights, all in one row."""
    weights = {name: value for name, value in outcome.model.state_dict().items() if "lora_" in name}
    return torch.cat(
        [
            (weights[name.replace("lora_A", "lora_B")] @ value).flatten()
            for name, value in weights.items()
            if "lora_A" in name
        ]
    )


EVERY_DAY = (["sigmoid", "sft"], ["aot"])
LOSSES = [*EVERY_DAY, *([kind] for kind in get_args(LossType) if [kind] not in EVERY_DAY)]


@pytest.mark.parametrize(
    "loss",
    # four trainings each
    [pytest.param(loss, marks=() if loss in EVERY_DAY else pytest.mark.slow) for loss in LOSSES],
    ids="+".join,
)
def test_every_loss_takes_the_same_steps_whatever_the_batches(
    tiny_llama: Path, tmp_path: Path, loss: list[str], capsys: pytest.CaptureFixture[str]
):
    changes = {"loss_type": loss, "label_smoothing": 0.1 if loss == ["exo_pair"] else 0.0}
    compared = {"aot", "aot_unpaired"} & {*loss}
    kinds = ["forest", "rows"] if compared else [*BATCHES]
    outcomes = {kind: train(tiny_llama, tmp_path / kind, kind, **changes) for kind in kinds}
    assert ("forest: off" in capsys.readouterr().out) == bool(compared)
    curve = losses(outcomes["rows"])
    # 20 pairs in steps of 6
    assert len(curve) == 4
    assert len({round(loss, 4) for loss in curve}) > 2, "nothing was learned that could differ"
    moved = movement(outcomes["rows"])
    for outcome in outcomes.values():
        assert losses(outcome) == pytest.approx(curve, rel=1e-5, abs=1e-5)
        assert (movement(outcome) - moved).norm() < 1e-3 * moved.norm()
