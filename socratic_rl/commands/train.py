"""``train.py``: load a base, train it on preference pairs, score the held-out ones, save the tutor."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import wandb
from omegaconf import DictConfig
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOConfig

from socratic_rl.commands import cli, memory, tracking
from socratic_rl.commands.settings import TrainSettings
from socratic_rl.core import provenance
from socratic_rl.core.component import ModelSettings
from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import read_model, write_jsonl
from socratic_rl.evaluation.held_out import sample_replies
from socratic_rl.models import policy, processes, weights
from socratic_rl.models.record import VERSION, TutorRecord
from socratic_rl.models.tokens import Fitted, fit_pairs
from socratic_rl.models.tutor import Tutor
from socratic_rl.pages import console
from socratic_rl.pairs.dataset import SocraticPairs, counts
from socratic_rl.sharing import hub, model_card
from socratic_rl.training import dpo, fields, freed_memory, saving
from socratic_rl.training.checkpoints import find_checkpoint


@dataclass(frozen=True)
class Data:
    """The pairs of a training."""

    dataset: SocraticPairs
    source: dict[str, Any]
    """The settings of the data set that the pairs were made from."""
    training: list[PreferencePair]
    held_out: list[PreferencePair]
    closing_rows: dict[str, object]
    """What the closing table says of how they were made."""


@dataclass(frozen=True)
class Start:
    """What a training begins with: a base, or a tutor that is trained further."""

    base: ModelSettings
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    weights: str
    """What tells its weights from others."""
    record: dict[str, Any] = field(default_factory=dict)
    """What the new tutor's record says of the one that is trained further."""


def run(settings: TrainSettings, cfg: DictConfig) -> float | None:
    """Load, train, save; returns the share of held-out pairs that are ranked rightly, by which a sweep ranks."""
    if settings.estimate.only:
        memory.print_estimate(settings, fields.lora_config(cfg.lora) if settings.lora else None)
        return None
    processes.meet(settings.dpo.ddp_timeout)
    # the default folder's name is the main process's time
    tracked_as = processes.from_main(lambda: cli.job_place(cfg))
    folder = tracked_as["folder"]
    if processes.from_main(lambda: provenance.is_trained(folder, cfg)):
        return tell_finished(folder / "adapter", settings)
    processes.from_main(lambda: hub.check(settings.hub))
    if settings.adapter and processes.sharded():
        raise UserError("adapter: a tutor is not trained further with sharded weights; DDP does so on several devices")
    checkpoints = folder / "checkpoints"
    checkpoint = goes_on_from(settings, checkpoints)
    if checkpoint and processes.is_main():
        # another config is refused before anything is written over
        provenance.remember(folder / "train_config.json", cfg)
    args = dpo.arguments(cfg.dpo, checkpoints, tracked=settings.wandb.mode != "disabled")
    lora = fields.lora_config(cfg.lora) if settings.lora else None
    data = load_pairs(settings, folder)
    # what wrote bad answers makes room for what is trained
    settings = settings.model_copy(update={"generator": None, "dataset": data.dataset})
    if processes.is_main():
        if checkpoint is None:
            (folder / "train_config.json").unlink(missing_ok=True)
        provenance.remember(folder / "train_config.json", cfg)

    with tracking.track(settings.wandb, "train", provenance.resolved(cfg), **tracked_as) as tracked:
        if checkpoint:
            tracked.config["goes_on_from"] = checkpoint
        if data.dataset.model_dump() != data.source and processes.is_main():
            file = data.dataset.file
            tracking.log_artifact(tracked, provenance.artifact_name("pairs", [file]), "dataset", [file])
        tokenizer = load_tokenizer(settings)
        what = memory.trained(settings, lora, weights.weights_folder)
        length = dpo.check_length(args.max_length, weights.context_length(what.config))
        fitted, held_out = (fit_pairs(pairs, tokenizer, length) for pairs in (data.training, data.held_out))
        jobs = 2 if cli.in_multirun() else 1
        pairs = (fitted.pairs, held_out.pairs)
        args.gradient_checkpointing = processes.from_main(
            lambda: memory.checkpointing(settings, what, tokenizer, *pairs, args, jobs)
        )
        start = load_start(settings, lora, tokenizer)

        def keep(outcome: dpo.Outcome) -> None:
            if processes.is_main():
                save(outcome, start.tokenizer, record_of(start, data, fitted, outcome, cfg), folder)

        outcome = train(start, pairs, args, lora, checkpoint, settings, folder, keep)
        if not processes.is_main():
            return None
        record = record_of(start, data, fitted, outcome, cfg)
        finish(outcome, start.tokenizer, record, folder, held_out.pairs, settings, tracked)
        address = hub.push(folder / "adapter", settings.hub, f"Tutor trained from {start.base.name}")
    print_closing_table(data.closing_rows, fitted, held_out, outcome, folder / "adapter", address)
    freed_memory.free_memory()
    return outcome.held_out.get("eval_rewards/accuracies")


def goes_on_from(settings: TrainSettings, checkpoints: Path) -> str | None:
    """The checkpoint to begin with: the same command goes on where a stopped one was, but for ``overwrite=true``."""
    if settings.overwrite:
        processes.from_main(lambda: shutil.rmtree(checkpoints, ignore_errors=True))
    return find_checkpoint(settings.checkpoint or "latest", checkpoints)


def tell_finished(adapter: Path, settings: TrainSettings) -> float | None:
    """Say that the tutor was trained before, and push it where that is asked for; returns its score."""
    if not processes.is_main():
        return None
    file = adapter / provenance.MADE_FROM
    record = read_model(TutorRecord, file)
    ended = datetime.fromtimestamp(file.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    address = hub.push(adapter, settings.hub, f"Tutor trained from {record.model.name}")
    rows = {"finished": f"on {ended}; overwrite=true trains anew", "adapter": adapter}
    rows |= {"hub": address} if address else {}
    console.closing_table("Training", {**rows, "next": shell_command("evaluate", f"adapter={adapter}")})
    return record.held_out.get("eval_rewards/accuracies")


def train(
    start: Start,
    pairs: tuple[Sequence[PreferencePair], Sequence[PreferencePair]],
    args: DPOConfig,
    lora: LoraConfig | None,
    checkpoint: str | None,
    settings: TrainSettings,
    folder: Path,
    keep: Callable[[dpo.Outcome], None],
) -> dpo.Outcome:
    """Train on pairs, those held out beside them; an adapter whose weights turn out to be no numbers does not stay."""
    jobs = 2 if cli.in_multirun() else 1
    try:
        return dpo.train(
            *(start.model, start.tokenizer, *pairs, args, lora, checkpoint, settings.forest, start.weights, jobs, keep)
        )
    except dpo.RuinedError:
        if processes.is_main():
            shutil.rmtree(folder / "adapter", ignore_errors=True)
        raise


def load_pairs(settings: TrainSettings, folder: Path) -> Data:
    """The pairs to train on and those held out, made first where the data set makes its own.

    Raises:
        UserError: None of them is for training.
    """
    dataset, closing_rows = processes.from_main(
        lambda: settings.dataset.prepare(folder, settings.rejection, settings.generator, settings.seed)
    )
    pairs = dataset.read()
    training = [pair for pair in pairs if pair.split == "train"]
    held_out = [pair for pair in pairs if pair.split == "validation"]
    if not training:
        raise UserError(f"dataset.path: {dataset.path}: none of its {len(pairs)} pairs is for training")
    return Data(dataset, settings.dataset.model_dump(), training, held_out, closing_rows)


def load_tokenizer(settings: TrainSettings) -> PreTrainedTokenizerBase:
    """The tokenizer of the base, or of the tutor that is trained further."""
    if settings.model is not None:
        return weights.load_tokenizer(settings.model)
    return Tutor(Path(str(settings.adapter))).tokenizer


def load_start(settings: TrainSettings, lora: LoraConfig | None, tokenizer: PreTrainedTokenizerBase) -> Start:
    """The base with a fresh adapter, or the tutor that is trained further."""
    if settings.model is not None:
        base = settings.model
        return Start(base, tokenizer, policy.load_policy(base, lora), weights.weights_identity(base))
    tutor = Tutor(Path(str(settings.adapter)))
    record = {"lora": tutor.record.lora, "previous": {"adapter": settings.adapter, "sha256": tutor.digest}}
    return Start(tutor.settings, tokenizer, tutor.policy(), tutor.weights_identity(), record)


def record_of(start: Start, data: Data, fitted: Fitted, outcome: dpo.Outcome, cfg: DictConfig) -> TutorRecord:
    """What the tutor was made from."""
    config = provenance.resolved(cfg)
    made_from = {
        "version": VERSION,
        "model": start.base.model_dump(),
        "dataset": data.dataset.model_dump(),
        "data_source": data.source,
        "dataset_artifact": provenance.artifact_name("pairs", [data.dataset.file]),
        "dpo": config["dpo"],
        "lora": config["lora"],
        **start.record,
        "seed": cfg.seed,
        "trained_on": {
            "pairs": len(fitted.pairs),
            "problems": len({pair.problem_id for pair in fitted.pairs}),
            "rejected by": counts(pair.rejection for pair in fitted.pairs),
        },
        "held_out": outcome.held_out,
        "versions": provenance.versions(),
    }
    return TutorRecord.model_validate(made_from)


def save(outcome: dpo.Outcome, tokenizer: PreTrainedTokenizerBase, record: TutorRecord, folder: Path) -> None:
    """Write the tutor and the training log."""
    card = model_card.write_card
    saving.save(outcome.model, tokenizer, folder / "adapter", record, outcome.weights, outcome.first, card)
    write_jsonl(folder / "training_log.jsonl", outcome.log)


def finish(
    outcome: dpo.Outcome,
    tokenizer: PreTrainedTokenizerBase,
    record: TutorRecord,
    folder: Path,
    held_out: Sequence[PreferencePair],
    settings: TrainSettings,
    tracked: wandb.Run,
) -> None:
    """Write what the held-out pairs gave and some replies to their prompts, and log all."""
    adapter = folder / "adapter"
    saving.update(adapter, record, model_card.write_card)
    write_jsonl(folder / "training_log.jsonl", outcome.log)
    # sharded weights cannot write on one process alone
    samples = [] if processes.sharded() else held_out[: settings.samples]
    replies = sample_replies(outcome.model, tokenizer, samples, settings.sampling, settings.seed)
    write_jsonl(folder / "samples.jsonl", replies)
    columns = ("student", "reply", "teacher")
    tracking.log_table(tracked, "replies", [{key: row[key] for key in columns} for row in replies])
    name = provenance.artifact_name("adapter", [adapter])
    tracking.log_artifact(tracked, name, "model", [adapter], [record.dataset_artifact])


def print_closing_table(
    first_rows: dict[str, object],
    fitted: Fitted,
    held_out: Fitted,
    outcome: dpo.Outcome,
    adapter: Path,
    address: str | None,
) -> None:
    """Print what was trained on, what came out and what to do next."""
    broken = len(fitted.broken) + len(held_out.broken)
    no_prefix = f", {broken} that the chat template does not begin as their prompt" if broken else ""
    console.closing_table(
        "Training",
        {
            **first_rows,
            "pairs": f"{len(fitted.pairs)} trained on, {len(held_out.pairs)} held out"
            f" ({len(fitted.dropped) + len(held_out.dropped)} too long{no_prefix} and left out)",
            "prompts shortened": fitted.shortened + held_out.shortened,
            "steps": f"{outcome.steps} in {outcome.seconds:.0f} s",
            "final loss": "not logged" if outcome.final_loss is None else f"{outcome.final_loss:.4f}",
            **{f"held-out {name.removeprefix('eval_')}": f"{value:.4g}" for name, value in outcome.held_out.items()},
            "adapter": adapter,
            **({"hub": address} if address else {}),
            "next": shell_command("evaluate", f"adapter={adapter}"),
        },
    )
