"""What a folder was made with, so that a run never mixes two configs in it."""

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from socratic_rl.core.errors import UserError
from socratic_rl.core.files import HALF, LOCK, read_json, write_json

MADE_FROM = "socratic_rl.json"
"""The file in a tutor's folder that says which base, data and settings it was made from."""


CARD = "README.md"
"""The model card in a tutor's folder, by the name that the hub knows."""


ELSEWHERE = ("output_dir", "wandb", "hub", "stop_after", "checkpoint", "csv", "sweep", "estimate", "overwrite")
"""Keys that do not change what is in the files."""


REACHED_BY = (
    "generator.base_url",
    "generator.api_key_env",
    "generator.timeout",
    "generator.max_retries",
    "generator.wait",
)
"""Dotted keys that do not either: a server may come back at another address."""
LABELS = ("model.name", "model.shape", "dpo.gradient_checkpointing")
"""Dotted keys that do not either: what a model is called, what its memory is estimated by, and how memory is saved."""
RETIRED = {"dpo.remove_unused_columns": False, "dpo.ddp_find_unused_parameters": False, "lora.task_type": "CAUSAL_LM"}
"""Dotted keys that older configs have, and the value of each that is now fixed in code."""


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values."""
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def copied_from(cfg: DictConfig, key: str) -> str | None:
    """The key whose value another one takes over, as ``dpo.seed`` does; None for one with a value of its own."""
    node = OmegaConf.to_container(cfg, resolve=False)
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    copied = re.fullmatch(r"\$\{([\w.]+)\}", str(node))
    return copied[1] if copied else None


def remember(path: Path, cfg: DictConfig, ignore: Iterable[str] = ELSEWHERE) -> None:
    """Write down the config that fills a folder; a second run must bring the same one.

    Args:
        path: The JSON file that keeps it.
        cfg: The config.
        ignore: Top-level keys that may change.

    Raises:
        UserError: The folder was begun with another config; names what differs.
    """
    values = {key: value for key, value in resolved(cfg).items() if key not in ignore}
    if not path.exists():
        write_json(path, values)
    elif changed := _changes(path, values):
        raise UserError(
            f"output_dir: {path.parent} was begun with another config ({'; '.join(changed)}); "
            "give another output_dir, or delete this folder to begin anew"
        )


def _changes(path: Path, values: dict[str, Any]) -> list[str]:
    """What differs between the config that a file holds and another one, of what changes results."""
    old, values = named_by_class(read_json(path)), named_by_class(values)
    # left out, such a key has its fixed value; any other value is another config
    fixed = {f"{key}: {pair}" for key, value in RETIRED.items() for pair in (f"{value!r} → None", f"None → {value!r}")}
    changes = (change for change in differences(old, values) if change not in fixed)
    return [change for change in changes if not change.startswith((*REACHED_BY, *LABELS))]


TRAIN_CONFIG = "train_config.json"
"""The file in the folder of a training that holds its config."""


SAMPLES = "samples.jsonl"
"""The file that a training writes last."""


def is_trained(folder: Path, cfg: DictConfig) -> bool:
    """Whether a tutor that this very config trained lies in a folder; with ``overwrite=true`` none counts.

    Raises:
        UserError: One lies there that was trained otherwise.
    """
    if cfg.get("overwrite") or not (folder / "adapter" / MADE_FROM).exists():
        return False
    path, other = folder / TRAIN_CONFIG, "give another output_dir, or overwrite=true to train anew in its place"
    if not path.exists():
        raise UserError(f"output_dir: {folder} holds a tutor that is finished; {other}")
    if changed := _changes(path, {key: value for key, value in resolved(cfg).items() if key not in ELSEWHERE}):
        raise UserError(f"output_dir: {folder} holds a tutor of another config ({'; '.join(changed)}); {other}")
    # a stop may have come when the adapter was saved, and nothing else done yet
    return (folder / SAMPLES).exists()


_held: set[Path] = set()


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder; it is free again at the latest when this process ends.

    Raises:
        UserError: Another command writes into it.
        OSError: It cannot be written into.
    """
    import filelock

    path = folder.absolute() / LOCK
    if path in _held:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        path.touch()
    except FileNotFoundError as error:
        # such as /proc
        raise UserError(f"output_dir: {folder}: cannot be written; give another folder with output_dir=…") from error
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(
            f"output_dir: {folder}: another command writes into it; wait for its end, or give another output_dir"
        ) from error
    _held.add(path)
    for part in folder.glob(f".*{HALF}"):
        # what a command that was killed had half written: nobody else writes here now
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    try:
        yield
    finally:
        _held.discard(path)
        path.unlink(missing_ok=True)
        lock.release()
        if folder.is_dir() and not any(folder.iterdir()):
            # what was to be written did not come so far
            folder.rmdir()


FORMER_NAMES = {"HubPairs": "TrlPairs", "SeedRows": "SeedCsv", "Records": "JsonlProblems"}
"""Components that were called otherwise, by what they were called."""


def named_by_class(value: Any) -> Any:
    """A config with our components by their classes alone, since modules have moved since some folders were begun."""
    if isinstance(value, list):
        return [named_by_class(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {key: named_by_class(item) for key, item in value.items()}
    if str(target := named.get("_target_")).startswith("socratic_rl."):
        name = str(target).rpartition(".")[2]
        named["_target_"] = FORMER_NAMES.get(name, name)
    return named


def versions() -> dict[str, str]:
    """The versions of what shapes a result."""
    from importlib import metadata

    return {name: metadata.version(name) for name in ("socratic-rl", "torch", "transformers", "trl", "peft")}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """``key: old → new`` for every key whose value is not the same."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}: {before!r} → {after!r}"


def in_a_line(values: Mapping[str, Any]) -> str:
    """``key=value, key=value``."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def digest(paths: Sequence[Path]) -> str:
    """The first 12 hex digits of the SHA-256 over the files, folders file by file.

    A folder's card is left out: it tells of the other files, and what an evaluation finds is written into it.
    """
    combined = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != CARD) if path.is_dir() else [path]:
            with file.open("rb") as data:
                combined.update(hashlib.file_digest(data, "sha256").digest())
    return combined.hexdigest()[:12]


def artifact_name(name: str, files: Sequence[Path]) -> str:
    """An artifact's name: what it is called and the digest of its files, so that each stage can name its input."""
    return f"{name}-{digest(files)}"
