"""``train.py``: load a base, train it on preference pairs, score the held-out ones, save the tutor."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from socratic_rl.commands import cli
from socratic_rl.core.errors import UserError
from socratic_rl.pages import console

if TYPE_CHECKING:
    from socratic_rl.commands.settings import TrainSettings


def run(settings: "TrainSettings", cfg: DictConfig) -> float | None:
    """Check the config, train, score the held-out pairs and return that figure, so that a sweep can rank."""
    from socratic_rl.core import provenance
    from socratic_rl.models import policy, processes
    from socratic_rl.sharing import hub, model_card

    place = cli.job_place(cfg)
    folder = place["folder"]
    processes.meet(settings.dpo.ddp_timeout)
    processes.from_main(lambda: hub.check(settings.hub))
    # a sweep that goes on finds the checkpoints of a job that was stopped
    checkpoint = settings.checkpoint or ("latest" if settings.sweep else None)
    if settings.adapter and processes.sharded():
        raise UserError("adapter: a tutor is not trained further with sharded weights; DDP does so on several devices")
    if checkpoint is not None and processes.is_main():
        # another config is refused before anything is written over
        provenance.remember(folder / "train_config.json", cfg)
    dataset, told = processes.from_main(
        lambda: settings.dataset.prepare(folder, settings.rejection, settings.generator, settings.seed)
    )
    # what wrote bad answers makes room for what is trained
    data_source = settings.dataset.model_dump()
    settings = settings.model_copy(update={"generator": None, "dataset": dataset})
    pairs = dataset.read()
    training_pairs = [pair for pair in pairs if pair.split == "train"]
    held_out = [pair for pair in pairs if pair.split == "validation"]
    if not training_pairs:
        raise UserError(f"dataset.path: {dataset.path}: none of its {len(pairs)} pairs is for training")

    # the heavy imports wait until the config is known to be right
    from socratic_rl.commands import tracking
    from socratic_rl.core import provenance
    from socratic_rl.core.files import write_jsonl
    from socratic_rl.evaluation import comparison
    from socratic_rl.models import weights as weights_module
    from socratic_rl.models.record import VERSION, TutorRecord
    from socratic_rl.models.tokens import fit_pairs
    from socratic_rl.models.tutor import Tutor
    from socratic_rl.pairs.dataset import counts
    from socratic_rl.training import dpo

    args = dpo.arguments(cfg.dpo, folder / "checkpoints", tracked=settings.wandb.mode != "disabled")
    lora = dpo.lora_config(cfg.lora) if settings.lora else None
    if processes.is_main():
        if checkpoint is None:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / "train_config.json").unlink(missing_ok=True)
        provenance.remember(folder / "train_config.json", cfg)

    with tracking.track(settings.wandb, "train", provenance.resolved(cfg), **place) as run:
        if dataset.model_dump() != data_source and processes.is_main():
            tracking.log_artifact(run, provenance.artifact_name("pairs", [dataset.file]), "dataset", [dataset.file])
        if settings.model is None:
            tutor = Tutor(Path(str(settings.adapter)))
            base, tokenizer, model, weights = tutor.settings, tutor.tokenizer, tutor.policy(), tutor.weights_identity()
            of_tutor = {
                "lora": tutor.record.lora,
                "previous": {"adapter": settings.adapter, "sha256": tutor.digest},
            }
        else:
            base, of_tutor = settings.model, {}
            tokenizer, model = weights_module.load_tokenizer(base), policy.load_policy(base, lora)
            weights = weights_module.weights_identity(base)
        length = dpo.check_length(args.max_length, weights_module.context_length(model))
        fitted, fitted_held_out = (fit_pairs(side, tokenizer, length) for side in (training_pairs, held_out))
        outcome = dpo.train(
            model,
            tokenizer,
            fitted.pairs,
            fitted_held_out.pairs,
            args,
            lora,
            checkpoint,
            settings.forest,
            weights,
            jobs=2 if cli.in_multirun() else 1,
        )
        if not processes.is_main():
            return None
        adapter = folder / "adapter"
        made_from = {
            "version": VERSION,
            "model": base.model_dump(),
            "dataset": dataset.model_dump(),
            "data_source": data_source,
            "dataset_artifact": provenance.artifact_name("pairs", [dataset.file]),
            "dpo": provenance.resolved(cfg)["dpo"],
            "lora": provenance.resolved(cfg)["lora"],
            **of_tutor,
            "seed": settings.seed,
            "trained_on": {
                "pairs": len(fitted.pairs),
                "problems": len({pair.problem_id for pair in fitted.pairs}),
                "rejected by": counts(pair.rejection for pair in fitted.pairs),
            },
            "held_out": outcome.held_out,
            "versions": provenance.versions(),
        }
        record = TutorRecord.model_validate(made_from)
        dpo.save(outcome.model, tokenizer, adapter, record, outcome.weights, model_card.write_card)
        write_jsonl(folder / "training_log.jsonl", outcome.log)
        # sharded weights cannot write on one process alone
        samples = [] if processes.sharded() else fitted_held_out.pairs[: settings.samples]
        said = comparison.sample_replies(outcome.model, tokenizer, samples, settings.sampling, settings.seed)
        write_jsonl(folder / "samples.jsonl", said)
        tracking.log_table(run, "replies", [{key: row[key] for key in ("student", "reply", "teacher")} for row in said])
        tracking.log_artifact(
            run, provenance.artifact_name("adapter", [adapter]), "model", [adapter], [record.dataset_artifact]
        )
        address = hub.push(adapter, settings.hub, f"Tutor trained from {base.name}")

    score = outcome.held_out.get("eval_rewards/accuracies")
    console.closing_table(
        "Training",
        {
            **told,
            "pairs": f"{len(fitted.pairs)} trained on, {len(fitted_held_out.pairs)} held out"
            f" ({len(fitted.dropped) + len(fitted_held_out.dropped)} too long and left out)",
            "prompts shortened": fitted.shortened + fitted_held_out.shortened,
            "steps": f"{outcome.steps} in {outcome.seconds:.0f} s",
            "final loss": "not logged" if outcome.final_loss is None else f"{outcome.final_loss:.4f}",
            **{f"held-out {name.removeprefix('eval_')}": f"{value:.4g}" for name, value in outcome.held_out.items()},
            "adapter": adapter,
            **({"hub": address} if address else {}),
            "next": f"python evaluate.py adapter={adapter}",
        },
    )
    dpo.free_memory()
    return score
