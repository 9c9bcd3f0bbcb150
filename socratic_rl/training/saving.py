"""A tutor as files."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from socratic_rl.core.files import whole_file, write_json
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.models import adapters, policy, tokenizers
from socratic_rl.models.record import TutorRecord


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    record: TutorRecord,
    weights: dict[str, torch.Tensor] | None = None,
    first: dict[str, torch.Tensor] | None = None,
    write_card: Callable[[Path], None] | None = None,
) -> None:
    """The adapter (or, without LoRA, the whole model) as safetensors, its tokenizer, record and card.

    Args:
        model: The policy.
        tokenizer: Its tokenizer.
        folder: What is to hold them.
        record: What it was made from.
        weights: The model's weights, where it does not hold them all itself.
        first: The adapter's weights before the first step, where they were taken out of the base's.
        write_card: Writes the card of a folder that has all the rest.
    """
    with whole_file(folder) as temporary:
        if first is None:
            model.save_pretrained(str(temporary), state_dict=weights)
        else:
            last = policy.adapter_weights(model, weights)
            plain, state = policy.as_plain_lora(model.peft_config["default"], first, last)
            plain.save_pretrained(str(temporary))
            save_file(state, temporary / adapters.WEIGHTS, metadata={"format": "pt"})
        tokenizer.save_pretrained(str(temporary))
        write_json(temporary / MADE_FROM, record.to_record())
        if write_card:
            write_card(temporary)
        shutil.rmtree(folder, ignore_errors=True)
    # what was trained is there by now
    tokenizers.hold_saved(tokenizer, folder)


def update(folder: Path, record: TutorRecord, write_card: Callable[[Path], None]) -> None:
    """Write a saved tutor's record and card anew."""
    write_json(folder / MADE_FROM, record.to_record())
    write_card(folder)
