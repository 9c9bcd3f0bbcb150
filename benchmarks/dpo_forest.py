"""DPO on prefix forests against TRL's padded rows: pairs per second and peak memory on the same pairs, side by side.

Both sides are TRL's trainer with LoRA on the same weights, timed from the batch to the optimisation step, policy and
reference passes included. The forest's memory is kept between steps, as train.py does; TRL's is as it comes. The
padded side has rows of like length together, no gradient checkpointing, and the batch size that is fastest here; the
forest's batches are filled to the tokens of its largest one, as in training. Batches are accumulated, so that both
sides take the same steps. Padded tokens divided by the forest's are the limit of what sharing prefixes can give.
"""

import argparse
import csv
import math
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from machine import Alone, Result, machine, peak_memory, write_results

from socratic_rl.core.dialogue import PreferencePair, Turn, merge_turns, parse_transcript

ROOT = Path(__file__).parents[1]
SEED_ROWS = ROOT.parent / "shared" / "data" / "seed_dataset.csv"
SENTENCE = "Sorry, I cannot help you with that."
"""What ``conf/rejection/constant.yaml`` rejects at every turn."""


@dataclass(frozen=True)
class Side:
    """What one process trains: a side of the comparison."""

    pairs: list[PreferencePair]
    model: str
    forest: bool
    batch: int
    """Pairs in a padded batch, by which the forest's are filled; batches are accumulated until a step has all pairs."""
    beforehand: bool
    """Whether the reference's pass is made before training and not timed."""


class Step(NamedTuple):
    """What one optimisation step took."""

    seconds: float
    kernel: float
    """The share of the processor time that the kernel took, nearly all of it to hand out fresh memory."""
    others: float
    """The share of the machine's processors that everything else took, the host of a virtual machine included."""


class End(NamedTuple):
    """What is known of a side when all its steps are done."""

    tokens: int
    """What a pass over the pairs reads, filling included."""
    batch: int
    """Pairs in a batch."""
    gigabytes: float
    """The most memory that was held, weights included."""


@dataclass(frozen=True)
class Speeds(Result):
    """One row of the results, and what explains it. The limit: tokens of the padded side over tokens of the forest."""

    pairs: int
    repeats: int
    tokens: dict[str, int]
    batch: dict[str, int]
    gigabytes: dict[str, float]
    seconds: dict[str, list[float]]
    kernel: dict[str, float]
    others: dict[str, float]


def conversations(path: Path) -> list[list[list[Turn]]]:
    """The seed's conversations, each the dialogues of its rows: a row ends with the teacher turn it was cut at."""
    found: list[list[list[Turn]]] = []
    last = ""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            prompt = row["Prompt"].rstrip()
            if not last or not prompt.startswith(last):
                found.append([])
            dialogue = merge_turns(parse_transcript(f"{prompt}\n{row['Good answer']}"))
            if len(dialogue) > 1 and dialogue[0].speaker == "student" and dialogue[-1].speaker == "teacher":
                found[-1].append(dialogue)
            last = prompt
    return [rows for rows in found if rows]


def starter_conversations() -> list[list[list[Turn]]]:
    """The starter problems, taught step by step; three rows each: cut at the first, the middle and the last step."""
    from socratic_rl.conversations.problems import Starter

    found = []
    for problem in Starter(name="starter").read():
        turns = [Turn(speaker="student", text=problem.question)]
        cuts = []
        for step in problem.steps:
            turns.append(Turn(speaker="teacher", text=step.question or step.work))
            cuts.append(list(turns))
            turns.append(Turn(speaker="student", text=step.reply or step.work))
        found.append([cuts[0], cuts[len(cuts) // 2], cuts[-1]])
    return found


def every_turn(rows: Sequence[list[Turn]]) -> list[list[Turn]]:
    """A conversation cut at every teacher turn."""
    longest = max(rows, key=len)
    return [longest[: end + 1] for end, turn in enumerate(longest) if turn.speaker == "teacher" and end]


def its_rows(rows: Sequence[list[Turn]]) -> list[list[Turn]]:
    """A conversation cut where its rows are, equal ones once."""
    return [row for number, row in enumerate(rows) if row not in rows[:number]]


CUTS = {"dpo_every_turn": every_turn, "dpo_three_rows": its_rows}


def make_pairs(
    found: Sequence[list[list[Turn]]], cut: Callable[[list[list[Turn]]], list[list[Turn]]], rejected: str
) -> list[list[PreferencePair]]:
    """Each conversation's pairs; rejected is one sentence for all, as in the seed's scripts, or any teacher turn."""
    draw = random.Random(0)
    cuts = [rows for rows in map(cut, found) if rows]
    teacher_turns = [row[-1].text for rows in cuts for row in rows]
    return [
        [
            PreferencePair.of(
                row[:-1],
                row[-1].text,
                SENTENCE if rejected == "constant" else draw.choice(teacher_turns),
                conversation_id=str(number),
                problem_id=str(number),
                turn=turn,
                rejection=rejected,
                split="train",
            )
            for turn, row in enumerate(rows)
        ]
        for number, rows in enumerate(cuts)
    ]


def saving(conversations: Sequence[Sequence[PreferencePair]]) -> float:
    """How many times fewer characters the pairs have as trees, one a conversation, than as rows padded pair by pair."""
    rows = trees = 0
    for pairs in conversations:
        chosen, rejected = (
            [sum(len(message["content"]) for message in (*pair.prompt, *getattr(pair, side))) for pair in pairs]
            for side in ("chosen", "rejected")
        )
        rows += 2 * sum(map(max, chosen, rejected))
        trees += max(chosen) + sum(len(pair.rejected[0]["content"]) for pair in pairs)
    return rows / trees


def sample(conversations: Sequence[list[PreferencePair]], count: int) -> list[list[PreferencePair]]:
    """Conversations from little to much saved, at equal steps: one is the median; of those around, the shortest."""
    by_saving = sorted(conversations, key=lambda pairs: saving([pairs]))
    places = ((2 * step + 1) * len(by_saving) // (2 * count) for step in range(count))
    around = len(by_saving) // (20 * count)
    return [min(by_saving[place - around : place + around + 1], key=characters) for place in places]


def characters(pairs: Sequence[PreferencePair]) -> int:
    """How long a conversation's pairs are."""
    return sum(len(message["content"]) for pair in pairs for message in pair.prompt)


def make_trainer(side: Side) -> Any:
    """TRL's trainer over one step's pairs."""
    import torch
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import PrinterCallback, set_seed
    from transformers.utils import logging
    from trl import DPOConfig, DPOTrainer

    from socratic_rl.core.component import ModelSettings
    from socratic_rl.models import weights
    from socratic_rl.models.tokens import pair_tokens
    from socratic_rl.training.freed_memory import keep_freed_memory
    from socratic_rl.training.trainers import ForestTrainer, forest_arguments

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    settings = ModelSettings(
        name="model", pretrained=side.model, revision=None, dtype="auto", attn_implementation="sdpa"
    )
    set_seed(0)
    args = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=side.batch,
        gradient_accumulation_steps=math.ceil(len(side.pairs) / side.batch),
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        num_train_epochs=1,
        max_length=None,
        precompute_ref_log_probs=side.beforehand,
        gradient_checkpointing=False,
        bf16=weights.has_bf16(),
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    tokenizer, model = weights.load_tokenizer(settings), weights.load_base(settings)

    def columns(pair: PreferencePair) -> dict[str, Any]:
        tokens = pair_tokens(pair, tokenizer)
        longer = max(len(tokens["chosen_ids"]), len(tokens["rejected_ids"]))
        return {
            "prompt": pair.prompt,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "conversation_id": pair.conversation_id,
            # by which rows are grouped
            "length": len(tokens["prompt_ids"]) + longer,
        }

    if side.forest:
        keep_freed_memory()
        args = forest_arguments(True, model, tokenizer, side.pairs, args)
    trainer = (ForestTrainer if side.forest else DPOTrainer)(
        model=model,
        args=args,
        train_dataset=Dataset.from_list([columns(pair) for pair in side.pairs]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def ready(side: Side) -> Any:
    """A side's trainer; what reading the weights took of memory does not count."""
    trainer = make_trainer(side)
    Path("/proc/self/clear_refs").write_text("5")
    return trainer


def step(trainer: Any) -> Step:
    """Time one step."""
    before, busy, start = resource.getrusage(resource.RUSAGE_SELF), _busy(), time.perf_counter()
    trainer.train()
    seconds, busy, after = time.perf_counter() - start, _busy() - busy, resource.getrusage(resource.RUSAGE_SELF)
    kernel = after.ru_stime - before.ru_stime
    own = kernel + after.ru_utime - before.ru_utime
    return Step(seconds, kernel / own, max(busy - own, 0) / (seconds * (os.cpu_count() or 1)))


def end(trainer: Any) -> End:
    """What is known when all steps are done."""
    import torch

    batches = trainer.get_train_dataloader()
    tokens = sum(batch.get("forest_ids", batch["input_ids"]).numel() for batch in batches)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory()
    return End(tokens, trainer.args.per_device_train_batch_size, peak / 1e9)


def _busy() -> float:
    """Seconds that all processors together have not been idle."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def compare(name: str, pairs: list[PreferencePair], options: argparse.Namespace, beforehand: bool) -> Speeds:
    """Both sides on the same pairs, taking turns; the padded side with the batch size that was fastest."""

    def start(forest: bool, batch: int) -> Alone:
        return Alone(ready, Side(pairs, options.model, forest, batch, beforehand))

    trials = {batch: start(False, batch) for batch in options.padded_batches}
    fastest, *slower = trials
    if slower:
        for trial in trials.values():
            trial.wait()
        fastest, *slower = sorted(trials, key=lambda batch: trials[batch].ask(step).seconds)
    for batch in slower:
        trials[batch].end()
    workers = {"padded": trials[fastest], "forest": start(True, fastest)}
    for worker in workers.values():
        worker.wait()
    for worker in workers.values():
        # what the first step alone takes does not count
        worker.ask(step)
    steps: dict[str, list[Step]] = {name: [] for name in workers}
    for _ in range(options.repeats):
        for who, worker in workers.items():
            steps[who].append(worker.ask(step))
    speed = {who: len(pairs) / median(one.seconds for one in steps[who]) for who in workers}
    ends = {who: worker.ask(end) for who, worker in workers.items()}
    for worker in workers.values():
        worker.end()
    return Speeds(
        name=name,
        ours=speed["forest"],
        theirs=speed["padded"],
        unit="pairs/s",
        limit=ends["padded"].tokens / ends["forest"].tokens,
        pairs=len(pairs),
        repeats=options.repeats,
        tokens={who: last.tokens for who, last in ends.items()},
        batch={who: last.batch for who, last in ends.items()},
        gigabytes={who: last.gigabytes for who, last in ends.items()},
        seconds={who: [one.seconds for one in steps[who]] for who in workers},
        kernel={who: median(one.kernel for one in steps[who]) for who in workers},
        others={who: median(one.others for one in steps[who]) for who in workers},
    )


def report(result: Speeds) -> str:
    """A result in words."""
    lines = [
        f"{result.pairs} pairs a step, median of {result.repeats} steps",
        f"{'':8} {'pairs/s':>8} {'seconds a step':>15} {'tokens':>8} {'peak GB':>8} {'batch':>6} {'kernel':>7}"
        f" {'others':>7}",
    ]
    for side, speed in {"forest": result.ours, "padded": result.theirs}.items():
        seconds = f"{min(result.seconds[side]):.1f} to {max(result.seconds[side]):.1f}"
        lines.append(
            f"{side:8} {speed:8.3f} {seconds:>15} {result.tokens[side]:8,} {result.gigabytes[side]:8.2f}"
            f" {result.batch[side]:6} {result.kernel[side]:7.0%} {result.others[side]:7.0%}"
        )
    return "\n".join([*lines, f"{'ratio':8} {result.ratio:8.2f} {'':15} {result.limit:8.2f}", ""])


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=SEED_ROWS if SEED_ROWS.exists() else None,
        help="a CSV of Prompt and Good answer, several rows a conversation; without one, the starter problems",
    )
    parser.add_argument("--model", default="embedded", help="a hub id, a folder, a .gguf file or `embedded`")
    parser.add_argument(
        "--benchmarks", nargs="+", choices=list(CUTS), default=list(CUTS), help="which pairs to make of a conversation"
    )
    parser.add_argument(
        "--rejected",
        choices=("constant", "other"),
        default="constant",
        help="one sentence everywhere, as the seed's scripts had it, or any teacher turn, which saves less",
    )
    parser.add_argument("--conversations", type=int, default=1, help="whose pairs make a step")
    parser.add_argument(
        "--padded-batches",
        type=int,
        nargs="+",
        default=[1],
        help="batch sizes that the padded side may choose from by trying each",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each side, taking turns")
    parser.add_argument(
        "--reference",
        choices=("step", "beforehand", "both"),
        default="step",
        help="the reference's pass in every step, or before training and not timed",
    )
    parser.add_argument("--json", type=Path, help="where the results go as a list of records")
    options = parser.parse_args()

    found = conversations(options.data) if options.data else starter_conversations()
    print(f"{machine()}; {options.data or 'starter problems'}", flush=True)
    results = []
    for beforehand in {"step": [False], "beforehand": [True], "both": [False, True]}[options.reference]:
        for name in options.benchmarks:
            full_name = f"{name}_reference_beforehand" if beforehand else name
            paired = make_pairs(found, CUTS[name], options.rejected)
            chosen = sample(paired, options.conversations)
            print(
                f"{full_name}: {len(chosen)} of {len(paired)} conversations, by their characters {saving(chosen):.1f}"
                f" times fewer as trees; all conversations {saving(paired):.1f} times",
                flush=True,
            )
            results.append(compare(full_name, [*chain(*chosen)], options, beforehand))
            print(report(results[-1]), flush=True)
    if options.json:
        write_results(options.json, results)


if __name__ == "__main__":
    main()
