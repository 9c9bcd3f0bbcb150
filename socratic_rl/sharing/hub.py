"""A trained tutor on the Hugging Face hub: looked into before training, uploaded after it."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from httpx2 import HTTPError
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from socratic_rl.core import embedded
from socratic_rl.core.component import HubSettings
from socratic_rl.core.errors import UserError
from socratic_rl.core.files import read_json
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.core.rows import looks_local
from socratic_rl.models.record import TutorRecord

RECORDS = ("adapter_config.json", "config.json", MADE_FROM)
"""Files that name folders of this machine."""


def check(settings: HubSettings) -> None:
    """Make sure, before hours of training, that what it makes can be uploaded; makes the repository where it is new.

    Raises:
        UserError: There is no token, it may not write there, or the hub cannot be reached.
    """
    if settings.target is None:
        return
    if get_token() is None:
        raise UserError("hub.push: no token; set HF_TOKEN in the environment, or log in once with `hf auth login`")
    with _hub_errors():
        account = HfApi().whoami()
        if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise UserError(f"hub.push: the token of {account['name']} may only read; make one that may write")
        HfApi().create_repo(settings.target, private=settings.private, exist_ok=True)


def push(folder: Path, settings: HubSettings, message: str) -> str | None:
    """Upload a tutor's folder: adapter or model, tokenizer, card; returns its address, or None where ``push`` is off.

    Files that are there already are not sent again. Paths of this machine are left out of what is uploaded.

    Args:
        folder: What ``training.save`` left.
        settings: Where to.
        message: Of the commit.

    Raises:
        UserError: A link leads out of the folder, or the hub does not take it; says where the folder is kept.
    """
    if settings.target is None:
        return None
    files = _own_files(folder)
    with _hub_errors(f"; the tutor is kept in {folder}, and evaluate.py with hub.push=true uploads it too"):
        HfApi().create_repo(settings.target, private=settings.private, exist_ok=True)
        HfApi().create_commit(
            settings.target,
            [CommitOperationAdd(path.relative_to(folder).as_posix(), _without_paths(path)) for path in files],
            commit_message=message,
        )
    return f"{HfApi().endpoint}/{settings.target}"


def _own_files(folder: Path) -> list[Path]:
    """The files of a folder, none of which lies elsewhere.

    Raises:
        UserError: A link leads out of it.
    """
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"hub.push: {path}: is a link to {path.resolve()}, out of what is uploaded; copy it there")
    return [path for path in paths if path.is_file()]


def base_id(source: str) -> str | None:
    """The hub id of a base model; None where it is a folder or a file that the hub does not know.

    Args:
        source: Where its weights come from, ``model.pretrained``.
    """
    if source == "embedded":
        return embedded.HUB_ID
    if looks_local(source) or source.endswith(".gguf") or Path(source).exists():
        return None
    return source if re.fullmatch(r"[\w.-]{1,96}(/[\w.-]{1,96})?", source, re.ASCII) else None


def _without_paths(path: Path) -> Path | bytes:
    if path.name not in RECORDS:
        return path
    values = read_json(path)
    if "base_model_name_or_path" in values:
        model = TutorRecord.read(path.parent).model
        values["base_model_name_or_path"] = base_id(model.pretrained) or model.name
    return (json.dumps(_names(values), indent=2, ensure_ascii=False) + "\n").encode()


def _names(value: Any) -> Any:
    """The value with only the name of each path that starts at a root or a home."""
    if isinstance(value, dict):
        return {key: _names(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_names(inner) for inner in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value


@contextlib.contextmanager
def _hub_errors(outcome: str = "") -> Iterator[None]:
    """Tells an error of the hub in one line, and what became of the tutor."""
    try:
        yield
    except (HTTPError, HfHubHTTPError, OfflineModeIsEnabled, ValueError, RuntimeError) as error:
        # an upload's own error stands behind the general one
        first = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        reason = " ".join(str(first).split()) or type(first).__name__
        raise UserError(f"hub.push: {HfApi().endpoint}: {reason[:300]}{outcome}") from error
