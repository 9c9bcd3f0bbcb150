"""Train a model with random weights for two steps; print the memory that it took and the estimate. A process."""

import gc
import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM
from trl import DPOConfig

from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.models.tokens import pair_tokens
from socratic_rl.training import dpo
from socratic_rl.training.memory import estimate
from socratic_rl.training.tracing import Batch, Plan
from tests.conftest import CHAT_TEMPLATE, _byte_tokenizer

PAIRS = 2


def resident(name: str) -> int:
    """A line of ``/proc/self/status``, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def pair(number: int, letters: int) -> PreferencePair:
    turn = Turn(speaker="student", text=f"{number}" + "a" * letters)
    named = {"conversation_id": f"c{number}", "problem_id": f"p{number}", "turn": 1}
    return PreferencePair.of([turn], "g" * 60, "b" * 60, **named, rejection="direct_answer", split="train")


def measure(case: dict, folder: Path) -> dict[str, float]:
    tokenizer = _byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(**case["config"], **ends)
    length, checkpointing = case["length"], case.get("checkpointing", False)
    spare = length - sum(map(len, list(pair_tokens(pair(0, 0), tokenizer).values())[:2]))
    # the second of each two is shorter, so that rows are padded
    pairs = [pair(number, spare - number % 2) for number in range(PAIRS)]
    lora = LoraConfig(task_type="CAUSAL_LM", **case["lora"]) if "lora" in case else None
    args = DPOConfig(
        output_dir=str(folder), bf16=False, use_cpu=True, max_steps=2, max_length=length, report_to=[],
        per_device_train_batch_size=PAIRS, per_device_eval_batch_size=1, gradient_accumulation_steps=1,
        gradient_checkpointing=checkpointing, precompute_ref_log_probs=True, save_strategy="no",
        remove_unused_columns=False,
    )  # fmt: skip
    rows = 2 * PAIRS
    plan = Plan(
        config=config, quantization=None, dtype=torch.float32, autocast=None, attention="sdpa", lora=lora,
        batch=Batch(rows, length, rows * length), scoring=Batch(2, length, 2 * length), optim="adamw_torch_fused",
        reference=False, on_gpu=False,
    )  # fmt: skip
    needed = estimate(plan, checkpointing)
    # what the C library keeps of freed memory is not the training's
    dpo.keep_freed_memory = lambda: None
    gc.collect()
    before = resident("VmRSS")
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    # reset the peak
    Path("/proc/self/clear_refs").write_text("5")
    dpo.train(model, tokenizer, pairs, [], args, lora, None, forest=False)
    return {"estimated": needed.total, "measured": resident("VmHWM") - before}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]), Path(sys.argv[2]))))
