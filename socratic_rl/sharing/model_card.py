"""The model card of a trained tutor: what it is, what it was trained on and how, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from socratic_rl.core.files import read_json, whole_file
from socratic_rl.core.provenance import CARD, MADE_FROM
from socratic_rl.core.rows import looks_local
from socratic_rl.pages.page import in_digits
from socratic_rl.pages.wording import agreement_of, measure_of
from socratic_rl.sharing import hub

TEMPLATE = Path(__file__).parent / "model_card.md.j2"


@dataclass(frozen=True)
class Measured:
    """What an evaluation found."""

    metrics: Sequence[Mapping[str, Any]]
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
    made_from = read_json(folder / MADE_FROM)
    with whole_file(folder / CARD) as temporary:
        temporary.write_text(render(made_from, measured), encoding="utf-8")


def render(made_from: Mapping[str, Any], measured: Measured | None = None) -> str:
    """The card's Markdown.

    Args:
        made_from: The record in a tutor's folder.
        measured: What an evaluation found.
    """
    model, lora, dpo = made_from["model"], made_from["lora"], made_from["dpo"]
    base_id = hub.base_id(model)
    # what the pairs were made from, where that is another data set
    source = made_from.get("data_source", {}).get("path") or made_from["dataset"]["path"]
    on_hub = "/" in source and not looks_local(source) and not Path(source).exists()
    card_data = ModelCardData(
        base_model=base_id,
        library_name="peft" if lora else "transformers",
        pipeline_tag="text-generation",
        tags=["dpo", *(["lora"] if lora else []), "trl", "tutoring", "socratic"],
        datasets=[source] if on_hub else None,
    )
    base = f"[{base_id}](https://huggingface.co/{base_id})" if base_id else f"`{model['name']}`"
    if model["pretrained"] == "embedded":
        base += " (its weights rounded to about four bits, as a GGUF file holds them)"
    quantised = (model.get("quantization") or {}).get("_target_", "").rpartition(".")[2]
    settings = {
        "base": f"{base}{', revision ' + model['revision'] if model['revision'] else ''}",
        "quantised by": quantised,
        "trained": f"LoRA, r {lora['r']}, alpha {lora['lora_alpha']}, dropout {lora['lora_dropout']}, on "
        f"{_joined(lora['target_modules'])}"
        if lora
        else "all weights",
        "loss": _joined(dpo["loss_type"]),
        "beta": dpo["beta"],
        "learning rate": f"{dpo['learning_rate']}, {dpo.get('lr_scheduler_type')}",
        "steps": dpo["max_steps"] if dpo["max_steps"] > 0 else f"{dpo['num_train_epochs']} passes over the pairs",
        "pairs a step": dpo["per_device_train_batch_size"] * dpo["gradient_accumulation_steps"],
        "longest pair": f"{dpo['max_length']} tokens",
        "seed": made_from["seed"],
    }
    held_out = made_from["held_out"]
    figures = [_figures(row) for row in measured.metrics if row["kind"] == "all"] if measured else []
    text = ModelCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        title=f"Socratic tutor on {model['name']}",
        what=f"A LoRA adapter for {base}," if lora else f"All weights of {base},",
        adapter=bool(lora),
        base_id=base_id,
        data={"data set": source if on_hub else Path(source).name} | made_from.get("trained_on", {}),
        settings={name: value for name, value in settings.items() if value != ""},
        held_out={name.removeprefix("eval_"): f"{value:.4g}" for name, value in held_out.items()},
        metrics=[row for row in figures if not row["judged"]],
        judged=[row for row in figures if row["judged"]],
        measured=measured,
        versions=", ".join(f"{name} {version}" for name, version in made_from["versions"].items()),
        rows=_rows,
    )
    return str(text)


def _figures(row: Mapping[str, Any]) -> dict[str, str]:
    """A row of ``evaluation.json`` as the table shows it."""
    measure = measure_of(row["name"])
    named = {"label": measure.label, "meaning": measure.meaning, "problems": str(row["problems"])}
    return named | in_digits(row) | {"judged": agreement_of(row) if "agreement" in row else ""}


def _rows(values: Mapping[str, Any]) -> str:
    """A two-column table."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in values.items())])


def _joined(values: str | Sequence[str]) -> str:
    return values if isinstance(values, str) else ", ".join(values)
