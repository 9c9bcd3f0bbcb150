"""The estimate of a training's memory: told before weights are loaded, or alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase
from trl import DPOConfig

from socratic_rl.commands.settings import TrainSettings
from socratic_rl.core import embedded
from socratic_rl.core.component import EMBEDDED, ModelSettings, bytes_of
from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.core.errors import UserError
from socratic_rl.core.text import tell
from socratic_rl.models import processes, weights
from socratic_rl.models.forest import grow
from socratic_rl.models.record import TutorRecord
from socratic_rl.models.tokens import pair_tokens
from socratic_rl.pages import console
from socratic_rl.training import dpo
from socratic_rl.training.memory import Estimate, device_memory, estimate, gigabytes
from socratic_rl.training.reference import saves_passes
from socratic_rl.training.tracing import Batch, Plan, UntraceableError
from socratic_rl.training.trainers import COUNTED_PAIRS, count_tokens

SMALLER = "dpo.per_device_train_batch_size, dpo.per_device_eval_batch_size, dpo.max_length, or a model in 4 bits"
"""What takes less memory."""


@dataclass(frozen=True)
class Trained:
    """What is trained, as far as its files tell without weights."""

    base: ModelSettings
    config: PreTrainedConfig
    lora: LoraConfig | None


def trained(
    settings: TrainSettings, lora: LoraConfig | None, folder_of: Callable[[ModelSettings], str] | None = None
) -> Trained:
    """The base, its shape and the adapter on it; those of a tutor that is trained further come from its folder.

    Args:
        settings: The training's.
        lora: A new adapter.
        folder_of: Where a base's config.json lies, which may take reading the base; None reads none.

    Raises:
        UserError: The shape is not known: it is no preset's, and there is no config.json.
    """
    if settings.model is not None:
        return Trained(settings.model, shape_of(settings.model, folder_of), lora)
    folder = Path(str(settings.adapter))
    base = TutorRecord.read(folder).model
    if not weights.has_adapter(folder):
        base = base.model_copy(update={"pretrained": str(folder), "revision": None})
        return Trained(base, shape_of(base, folder_of), None)
    return Trained(base, shape_of(base, folder_of), LoraConfig.from_pretrained(str(folder)))


def shape_of(base: ModelSettings, folder_of: Callable[[ModelSettings], str] | None) -> PreTrainedConfig:
    """Layers, widths, heads and vocabulary: a preset's own, else from a folder, a GGUF file or the hub.

    Raises:
        UserError: They cannot be read.
    """
    if base.shape and base.shape.get("of") == base.pretrained:
        values = {key: value for key, value in base.shape.items() if key != "of"}
        try:
            return AutoConfig.for_model(**values)
        except (ValueError, TypeError) as error:
            raise UserError(f"model.shape: {' '.join(str(error).split())[:200]}") from error
    path = embedded.gguf_path() if base.pretrained == EMBEDDED else Path(base.pretrained).expanduser()
    if folder_of is None and path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"model.pretrained: {path}: no such file")
        return weights.pretrained(AutoConfig, str(path.parent), gguf_file=path.name)
    source = str(path) if folder_of is None and path.is_dir() else (folder_of or weights.weights_folder)(base)
    return weights.pretrained(AutoConfig, source, revision=base.revision)


def plan_of(
    settings: TrainSettings, what: Trained, largest: Batch, scoring: Batch, reference: bool, on_gpu: bool
) -> Plan:
    """What an estimate depends on.

    Args:
        settings: The training's.
        what: What is trained.
        largest: The largest batch in training.
        scoring: The largest that is scored without gradients.
        reference: Whether the reference is a copy of all weights.
        on_gpu: Whether it is for a GPU; one that is not here has bfloat16.
    """
    here = on_gpu == torch.cuda.is_available()
    half = weights.half_precision() if here else torch.bfloat16
    dtype = weights.dtype_of(what.base, trained=what.lora is None)
    if not here and what.base.dtype == "auto":
        dtype = torch.bfloat16
    bf16, extra = settings.dpo.bf16, settings.dpo.model_extra or {}
    autocast = torch.float16 if extra.get("fp16") else {None: half, True: torch.bfloat16, False: None}[bf16]
    quantization = what.base.quantization or getattr(what.config, "quantization_config", None)
    if quantization is not None and not isinstance(quantization, dict):
        quantization = quantization.to_dict()
    return Plan(
        config=what.config,
        quantization=quantization,
        dtype=dtype,
        autocast=autocast,
        attention=what.base.attn_implementation,
        lora=what.lora,
        batch=largest,
        scoring=scoring,
        optim=str(extra.get("optim", "adamw_torch_fused")),
        reference=reference,
        on_gpu=on_gpu,
        dropout=extra.get("disable_dropout") is False,
        shards=processes.count() if processes.sharded() else 1,
    )


def print_estimate(settings: TrainSettings, lora: LoraConfig | None) -> None:
    """Print what training takes with and without gradient checkpointing, batches counted at their full length.

    Raises:
        UserError: The model's shape is not known, or cannot be traced.
    """
    what, gpu = trained(settings, lora), settings.estimate.gpu
    on_gpu = gpu is not None or torch.cuda.is_available()
    length = dpo.check_length(settings.dpo.max_length, weights.context_length(what.config))
    rows = [2 * size for size in (settings.dpo.per_device_train_batch_size, settings.dpo.per_device_eval_batch_size)]
    largest, scoring = (Batch(count, length, count * length) for count in rows)
    # a part of an epoch may not be worth a pass over all pairs, how many there are is not known
    precomputes = settings.dpo.precompute_ref_log_probs
    reference = what.lora is None and not (settings.dpo.max_steps < 0 if precomputes is None else precomputes)
    plan = plan_of(settings, what, largest, scoring, reference, on_gpu)
    room = bytes_of(gpu) if gpu else device_memory()
    kept_all, again = estimate(plan, False), estimate(plan, True)
    console.closing_table(
        f"Memory of training {what.base.name}, estimated",
        {
            "there is": f"{gigabytes(room)} {'on such a GPU' if gpu else place(on_gpu)}",
            "a step reads": f"{largest.rows} rows of {length} tokens at most",
            "training takes": f"{gigabytes(kept_all.total)}: {fits(kept_all, room)}",
            **kept_all.rows(),
            "with checkpointing": f"{gigabytes(again.total)}: {fits(again, room)}"
            f" (dpo.gradient_checkpointing={str(settings.dpo.gradient_checkpointing).lower()})",
        },
    )


def fits(needed: Estimate, room: int) -> str:
    """In a word."""
    return "fits" if needed.total <= room else "does not fit"


def place(on_gpu: bool) -> str:
    """Where the memory is."""
    return "on this GPU" if on_gpu else "on this machine"


def checkpointing(
    settings: TrainSettings,
    what: Trained,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    held_out: Sequence[PreferencePair],
    args: DPOConfig,
    jobs: int,
) -> bool:
    """Whether activations are computed once more, after the memory that training takes is told beside what there is.

    Args:
        settings: The training's; ``dpo.gradient_checkpointing=auto`` leaves it to the memory.
        what: What is trained.
        tokenizer: With a chat template.
        pairs: What is trained on.
        held_out: What is scored.
        args: TRL's own.
        jobs: How many jobs at least are trained on these pairs.
    """
    wanted, room, on_gpu = settings.dpo.gradient_checkpointing, device_memory(), torch.cuda.is_available()
    precomputes = args.precompute_ref_log_probs
    precomputes = saves_passes(args, len(pairs), jobs) if precomputes is None else precomputes
    counted = count_tokens(pairs, tokenizer, args)
    size, longest = 2 * args.per_device_train_batch_size, counted.longest
    forest = counted.takes_forest(settings.forest) and not processes.sharded()
    largest = Batch(1, *counted.largest) if forest else Batch(size, longest, size * longest)
    scored = [*held_out, *(pairs[:COUNTED_PAIRS] if precomputes else ())]
    scoring = largest_scored(scored, tokenizer, args.per_device_eval_batch_size) if scored else Batch(1, 1, 1)
    plan = plan_of(settings, what, largest, scoring, what.lora is None and not precomputes, on_gpu)
    try:
        needed = estimate(plan, wanted is True)
        tell(f"memory, estimated: {needed.line()}; there is {gigabytes(room)} {place(on_gpu)}")
        if needed.total > room and wanted == "auto":
            wanted, needed = True, estimate(plan, True)
            tell(f"memory: gradient checkpointing is on, with which it takes {gigabytes(needed.total)}")
        if needed.total > room:
            tell(f"memory: this is more than there is; what takes less: {SMALLER}")
    except UntraceableError as error:
        tell(f"memory: not estimated: {error}")
    return wanted is True


def largest_scored(pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, size: int) -> Batch:
    """The largest batch of ``size`` pairs as they lie in their file, read as a forest."""
    batches = []
    for first in range(0, len(pairs), size):
        tokens = [pair_tokens(pair, tokenizer) for pair in pairs[first : first + size]]
        rows = [
            (tokenized["prompt_ids"] + tokenized[side], len(tokenized[side]))
            for tokenized in tokens
            for side in ("chosen_ids", "rejected_ids")
        ]
        nodes = sum(len(tree.ids) for tree in grow([row for row, _ in rows]))
        batches.append(Batch(1, nodes, sum(completion for _, completion in rows)))
    return max(batches, key=lambda batch: batch.tokens)
