"""The model card of a trained tutor: what it is, what it was trained on and how, and what was measured."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from socratic_rl.core.files import whole_file
from socratic_rl.core.provenance import CARD
from socratic_rl.core.text import plain
from socratic_rl.measures.figures import Figure
from socratic_rl.models.record import TutorRecord
from socratic_rl.pages.page import in_digits
from socratic_rl.pages.wording import agreement_words, measure_of
from socratic_rl.sharing import hub

TEMPLATE = Path(__file__).parent / "model_card.md.j2"


@dataclass(frozen=True)
class Measured:
    """What an evaluation found."""

    figures: Sequence[Figure]
    """The rows of ``evaluation.json``."""
    on: str
    """How many pairs, turns and problems of what."""
    sampling: str
    """How replies were drawn."""
    judge: str = ""
    """Whose scores are among the rows; empty where no judge was asked."""


def write_card(folder: Path, measured: Measured | None = None) -> None:
    """Write the card into a tutor's folder.

    Args:
        folder: What ``training.save`` left, or is about to.
        measured: What an evaluation found; None where nothing was measured yet.
    """
    record = TutorRecord.read(folder)
    with whole_file(folder / CARD) as temporary:
        temporary.write_text(render(record, measured), encoding="utf-8")


def render(record: TutorRecord, measured: Measured | None = None) -> str:
    """The card's Markdown.

    Args:
        record: What the tutor was made from.
        measured: What an evaluation found.
    """
    model, lora, source = record.model, record.lora, record.pairs_made_from
    base_id = hub.base_id(model.pretrained)
    on_hub = "/" in source and hub.base_id(source) is not None
    card_data = ModelCardData(
        base_model=base_id,
        library_name="peft" if lora else "transformers",
        pipeline_tag="text-generation",
        tags=["dpo", *(["lora"] if lora else []), "trl", "tutoring", "socratic"],
        datasets=[source] if on_hub else None,
    )
    base = f"[{as_text(base_id)}](https://huggingface.co/{base_id})" if base_id else _as_code(model.name)
    if model.pretrained == "embedded":
        base += " (its weights rounded to about four bits, as a GGUF file holds them)"
    counts = record.trained_on.model_dump(by_alias=True, exclude_none=True) if record.trained_on else {}
    figures = [_in_table(figure) for figure in measured.figures if figure.overall] if measured else []
    text = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        title=f"Socratic tutor on {as_text(model.name)}",
        what=f"A LoRA adapter for {base}," if lora else f"All weights of {base},",
        adapter=bool(lora),
        base_id=base_id,
        data={"data set": source if on_hub else Path(source).name} | counts,
        base=f"{base}, revision {as_text(model.revision)}" if model.revision else base,
        settings={name: value for name, value in _settings(record).items() if value not in ("", None)},
        held_out={name.removeprefix("eval_"): f"{value:.4g}" for name, value in record.held_out.items()},
        metrics=[row for row in figures if not row["judged"]],
        judged=[row for row in figures if row["judged"]],
        measured=measured,
        versions=as_text(", ".join(f"{name} {version}" for name, version in record.versions.items())),
        rows=_rows,
        shown=as_text,
    )
    return str(text)


def _settings(record: TutorRecord) -> dict[str, Any]:
    """What the tutor was trained with, by what the card calls it; empty where it does not apply or was not kept."""
    lora, dpo = record.lora or {}, record.dpo
    lora_values = {
        "r": lora.get("r"),
        "alpha": lora.get("lora_alpha"),
        "dropout": lora.get("lora_dropout"),
        "on": _joined(lora.get("target_modules")),
    }
    steps, passes = dpo.get("max_steps"), dpo.get("num_train_epochs")
    batch, summed = dpo.get("per_device_train_batch_size"), dpo.get("gradient_accumulation_steps")
    return {
        "quantised by": str((record.model.quantization or {}).get("_target_", "")).rpartition(".")[2],
        "trained": ", ".join(["LoRA", *(f"{name} {value}" for name, value in lora_values.items() if value is not None)])
        if lora
        else "all weights",
        "loss": _joined(dpo.get("loss_type")),
        "beta": dpo.get("beta"),
        "learning rate": ", ".join(str(dpo[key]) for key in ("learning_rate", "lr_scheduler_type") if key in dpo),
        "steps": steps if steps and steps > 0 else passes and f"{passes} passes over the pairs",
        "pairs a step": batch and summed and batch * summed,
        "longest pair": f"{dpo['max_length']} tokens",
        "seed": record.seed,
    }


def _in_table(figure: Figure) -> dict[str, str]:
    """A figure as the table shows it."""
    measure = measure_of(figure.name)
    named = {"label": as_text(measure.label), "meaning": as_text(measure.meaning), "problems": str(figure.problems)}
    return named | in_digits(figure) | {"judged": agreement_words(figure.agreement) if figure.judged else ""}


def _rows(values: Mapping[str, Any]) -> str:
    """The rows of a table with two columns; the values are shown as text."""
    return "\n".join(f"| {as_text(name)} | {as_text(value)} |" for name, value in values.items())


def _joined(values: str | Sequence[str] | None) -> str | None:
    return values if values is None or isinstance(values, str) else ", ".join(values)


def as_text(value: object) -> str:
    """A value in one line of Markdown that shows it as it is: nothing in it is markup, HTML or the end of a cell."""
    line = plain(" ".join(str(value).split()))
    # inside a word an underscore is one
    return re.sub(r"[\\`*\[\]<>|#~$&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)


def _as_code(name: str) -> str:
    """A name as code, or as text where it holds what would end that."""
    return f"`{name}`" if re.fullmatch(r"[\w./ -]+", name) else as_text(name)
