"""A trained tutor as files for elsewhere: its LoRA adapter or merged weights for llama.cpp, or for transformers."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError, shell_command
from socratic_rl.core.files import whole_file
from socratic_rl.core.provenance import CARD, MADE_FROM
from socratic_rl.models import tokenizers, weights
from socratic_rl.models.record import TutorRecord
from socratic_rl.models.tokens import chat_of
from socratic_rl.models.tutor import Tutor
from socratic_rl.sharing import gguf_files, model_card

Kind = Literal["adapter", "model", "folder"]
"""A GGUF file of the adapter, one of all weights, or a folder for transformers."""


USES = {
    "adapter": """\
`adapter.gguf` is the LoRA adapter for llama.cpp. Any GGUF file of the base takes it, however quantised:

```
llama-cli -m BASE.gguf --lora adapter.gguf --jinja --chat-template-file chat_template.jinja
python generate.py generator=llama_cpp generator.model_path=BASE.gguf generator.lora_path=adapter.gguf
```
""",
    "model": """`model.gguf` holds base and tutor as one file for llama.cpp:

```
llama-cli -m model.gguf --jinja
python generate.py generator=llama_cpp generator.model_path=model.gguf
```
""",
    "folder": """The adapter is merged into its base, so this folder is a whole model:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "…"  # this repository's name, or its folder
tutor = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
dialogue = [{"role": "user", "content": "A box holds 12 eggs. How many eggs are in 7 boxes?"}]
prompt = tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, return_tensors="pt", return_dict=True)
tokens = tutor.generate(**prompt, max_new_tokens=64)
print(tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
```
""",
}
"""What the card says of each."""


NOT_MEASURED = "\nNot measured yet: "
"""How a card begins to say so."""


def kind_of(folder: Path, wanted: str) -> Kind:
    """What to make of a tutor's folder.

    Args:
        folder: What ``train.py`` left.
        wanted: ``gguf``, ``merged_gguf`` or ``merged``.

    Raises:
        UserError: It is what is wanted already.
    """
    is_adapter = weights.has_adapter(folder)
    if wanted == "merged":
        if not is_adapter:
            raise UserError(f"format: {folder} is a whole model for transformers already")
        return "folder"
    return "adapter" if is_adapter and wanted != "merged_gguf" else "model"


def base_file(settings: ModelSettings, base_gguf: str | None) -> Path | None:
    """A GGUF file of the base: the one that was chosen, or that the base itself came from; None where there is none."""
    if base_gguf:
        return Path(base_gguf).expanduser()
    return weights.gguf_of(settings)


def merged_dtype(tutor: Tutor, kind: Kind) -> str:
    """The precision of the base's own files, for merged weights: ``float32``, ``float16`` or ``bfloat16``.

    A GGUF file that is quantised has its scales in float16.
    """
    if kind == "adapter":
        return "float32"
    is_adapter = weights.has_adapter(tutor.folder)
    if is_adapter and (file := weights.gguf_of(tutor.settings)):
        field = gguf.GGUFReader(file).get_field("general.file_type")
        kinds = {file_type: name for name, (_, file_type) in gguf_files.TYPES.items()}
        return kinds.get(field.contents() if field else None, "float16")
    source = weights.weights_folder(tutor.settings) if is_adapter else str(tutor.folder)
    config = weights.pretrained(AutoConfig, source, revision=tutor.settings.revision if is_adapter else None)
    # what says nothing is from a time when all was float32
    name = str(config.dtype or torch.float32).removeprefix("torch.")
    return name if name in gguf_files.TYPES else "float32"


def refuse_untested(tutor: Tutor) -> None:
    """Refuse to leave the check out for an architecture that no test covers; loads no weights.

    Raises:
        UserError: No test holds what llama.cpp makes of such a file against transformers.
    """
    is_adapter = weights.has_adapter(tutor.folder)
    source = weights.weights_folder(tutor.settings) if is_adapter else str(tutor.folder)
    revision = tutor.settings.revision if is_adapter else None
    architecture = gguf_files.architecture(weights.pretrained(AutoConfig, source, revision=revision))
    if architecture not in gguf_files.TESTED:
        raise UserError(
            f"check: check=false is for tested architectures only ({', '.join(sorted(gguf_files.TESTED))}); "
            f"whether a file of {architecture!r} is right only the check tells: leave it on"
        )


def refuse_merge(tutor: Tutor) -> None:
    """Refuse to merge an adapter into weights that are quantised as they come; loads none.

    Raises:
        UserError: The base is quantised by itself, so that no plain weights are there to merge into.
    """
    if not weights.has_adapter(tutor.folder):
        return
    source = weights.weights_folder(tutor.settings)
    if method := weights.pretrained_quantization(source, tutor.settings.revision):
        raise UserError(
            f"format: the weights of {tutor.settings.name} come quantised by {method}, and no adapter is merged into"
            " such; format=gguf exports the adapter alone"
        )


def set_aside(path: Path) -> list[Path]:
    """Rename what failed its check, a file or a folder's weights, so that nothing finds and uses it; the new names."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return [file.replace(file.with_name(f"{file.name}.failed")) for file in files]


@dataclass(frozen=True)
class Exported:
    """The GGUF files with which llama.cpp replies as a tutor."""

    model: Path
    adapter: Path | None
    """Goes on the model, which is the base then."""
    base: Path | None
    """The base alone, where there is a file of it."""


def exported(tutor: Tutor, tutor_gguf: str | None, base_gguf: str | None) -> Exported:
    """The GGUF files of a tutor.

    Args:
        tutor: The tutor.
        tutor_gguf: The file that was exported; None looks where ``export.py`` puts it.
        base_gguf: A GGUF file of the base; None takes the one that the base came from, where it came from one.

    Raises:
        UserError: There is none, it was made from another training, or it is an adapter and its base is missing.
    """
    path = Path(tutor_gguf).expanduser() if tutor_gguf else next(filter(Path.exists, _default_files(tutor)), None)
    if path is None:
        raise UserError(
            f"backend: there is no GGUF file of the tutor yet: {shell_command('export', f'adapter={tutor.folder}')}"
        )
    if path.with_name(MADE_FROM).exists() and TutorRecord.read(path.parent) != tutor.record:
        raise UserError(f"gguf: {path} was exported before this tutor was trained: export it again")
    is_adapter = gguf_files.read_gguf(path, "gguf", gguf_files.is_adapter)
    base = base_file(tutor.settings, base_gguf)
    if not is_adapter:
        return Exported(path, None, base)
    if base is None:
        raise UserError(f"base_gguf: {path} is an adapter; a GGUF file of its base, {tutor.settings.name}, is needed")
    return Exported(base, path, base)


def write(tutor: Tutor, kind: Kind, folder: Path, dtype: str, base: Path | None) -> dict[str, Path]:
    """Write the files; GGUF files of an earlier export are replaced.

    Args:
        tutor: What to export; where it is merged, the weights in it change, so that it is of no use afterwards.
        kind: As what.
        folder: Where to; for transformers a new or an empty one.
        dtype: Precision of merged weights: float32, float16 or bfloat16.
        base: A GGUF file of the base.

    Returns:
        What was written, by what it is.

    Raises:
        UserError: The tutor cannot be had in this form; names why and what can be done.
    """
    title = f"Socratic tutor on {tutor.settings.name}"
    if kind == "folder":
        with whole_file(folder) as temporary:
            _merged(tutor).to(getattr(torch, dtype)).save_pretrained(str(temporary))
            tutor.tokenizer.save_pretrained(str(temporary))
            tokenizers.hold_saved(tutor.tokenizer, temporary)
            _describe(tutor, kind, temporary)
        return {kind: folder, "model card": folder / CARD}
    path = folder / f"{kind}.gguf"
    with whole_file(path) as temporary:
        if kind == "adapter":
            with tutor.tutor() as model:
                template, adds_bos = tutor.tokenizer.chat_template, chat_of(tutor.tokenizer).begins_with_bos
                gguf_files.write_adapter(model, template, temporary, title, adds_bos)
            # a base's file may bring another template, or none
            (folder / "chat_template.jinja").write_text(tutor.tokenizer.chat_template, encoding="utf-8")
        else:
            gguf_files.write_model(_merged(tutor), tutor.tokenizer, temporary, title, dtype, base)
    _describe(tutor, kind, folder)
    return {kind: path, "model card": folder / CARD}


def next_command(tutor: Tutor, kind: Kind, path: Path, base_gguf: str | None) -> str:
    """How to talk to what was written."""
    if kind == "folder":
        return shell_command("chat", f"adapter={path}")
    files = {"gguf": None if path in _default_files(tutor) else path, "base_gguf": base_gguf}
    keys = [f"{key}={value}" for key, value in files.items() if value]
    return shell_command("chat", f"adapter={tutor.folder}", "backend=llama_cpp", *keys)


def _default_files(tutor: Tutor) -> list[Path]:
    """The GGUF files that ``export.py`` writes by default."""
    beside = tutor.folder.parent
    return [beside / "gguf" / "adapter.gguf", beside / "gguf" / "model.gguf", beside / "merged_gguf" / "model.gguf"]


def _merged(tutor: Tutor) -> PreTrainedModel:
    """All weights of the tutor.

    Raises:
        UserError: There are none but quantised ones.
    """
    with tutor.tutor() as model:
        if getattr(model, "is_quantized", False):
            raise UserError(
                f"format: the weights of {tutor.settings.name} are quantised, and nothing is merged into such"
            )
        return model.merge_and_unload() if isinstance(model, PeftModel) else model


def _describe(tutor: Tutor, kind: Kind, folder: Path) -> None:
    """The tutor's record, and its card with how these files are used."""
    shutil.copy(tutor.folder / MADE_FROM, folder)
    (folder / CARD).write_text(_card(tutor.folder, kind), encoding="utf-8")


def _card(tutor_folder: Path, kind: Kind) -> str:
    """A tutor's card as it stands, with how files of this kind are used."""
    text = _own_card(tutor_folder)
    text = re.sub(r"(?<=\n## Use\n).*?(?=\n## )", lambda _: f"\n{USES[kind]}", text, count=1, flags=re.DOTALL)
    changed = ModelCard(text)
    changed.data["library_name"] = "transformers" if kind == "folder" else "llama.cpp"
    return str(changed)


def _own_card(tutor_folder: Path) -> str:
    card = tutor_folder / CARD
    return card.read_text(encoding="utf-8") if card.exists() else model_card.render(TutorRecord.read(tutor_folder))


def renew_cards(tutor_folder: Path) -> list[Path]:
    """Write the cards of what was exported to the default places anew, from the tutor's card as it stands.

    Args:
        tutor_folder: What ``train.py`` left. Exports of another training beside it are left alone.

    Returns:
        The cards.
    """
    record = TutorRecord.read(tutor_folder)
    cards = []
    for folder, kind in _default_folders(tutor_folder).items():
        if (folder / MADE_FROM).exists() and TutorRecord.read(folder) == record:
            with whole_file(folder / CARD) as temporary:
                temporary.write_text(_card(tutor_folder, kind), encoding="utf-8")
            cards.append(folder / CARD)
    return cards


def _default_folders(tutor_folder: Path) -> dict[Path, Kind]:
    """The folders in which ``export.py`` writes by default, and what; not a merged tutor's own folder."""
    beside = tutor_folder.absolute().parent
    gguf_kind: Kind = "adapter" if (beside / "gguf" / "adapter.gguf").exists() else "model"
    kinds: dict[Path, Kind] = {beside / "gguf": gguf_kind, beside / "merged_gguf": "model", beside / "merged": "folder"}
    return {folder: kind for folder, kind in kinds.items() if folder != tutor_folder.absolute()}


def not_measured(tutor: Tutor, folder: Path) -> str | None:
    """How to get results into the card of an export's folder; None where it has them."""
    if NOT_MEASURED not in _own_card(tutor.folder):
        return None
    renewed = folder.absolute() in _default_folders(tutor.folder)
    then = "writes its results into this card too" if renewed else "first, then export again"
    return f"not yet: {shell_command('evaluate', f'adapter={tutor.folder}')} {then}"
