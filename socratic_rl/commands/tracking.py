"""A Weights & Biases run around a job, and the artifacts that link dataset to adapter to evaluation."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from socratic_rl.core.component import WandbSettings
from socratic_rl.models import processes


@contextlib.contextmanager
def track(
    settings: WandbSettings, job_type: str, config: Mapping[str, Any], folder: Path, group: str | None, name: str | None
) -> Iterator[wandb.Run]:
    """One W&B run around a job, the main process's; an exception that leaves the block marks it failed.

    Args:
        settings: Mode, project, tags.
        job_type: ``generate``, ``train`` or ``evaluate``.
        config: The resolved config.
        folder: Where the run's files lie (``<folder>/wandb``), where ``WANDB_DIR`` names no other.
        group: The multirun's name; the settings' own group goes first.
        name: What tells this run from the others of its group.
    """
    if not processes.is_main():
        settings = settings.model_copy(update={"mode": "disabled"})
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        mode=settings.mode,
        project=settings.project,
        entity=settings.entity,
        group=settings.group or group,
        name=settings.name or f"{job_type}-{name or folder.name}",
        job_type=job_type,
        tags=[*settings.tags, job_type],
        config=dict(config),
        dir=os.environ.get("WANDB_DIR") or str(folder),
        # the job's own table says where things lie; wandb's copy of the console would double every progress bar
        settings=wandb.Settings(silent=True, console="off"),
    )
    # as a context manager a run prints the traceback of what leaves it, also of a mistake that is told in one line
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def log_artifact(
    run: wandb.Run, name: str, kind: str, files: Sequence[Path], inputs: Sequence[str] = (), **metadata: Any
) -> None:
    """Log files as an artifact that says what it was made from.

    Offline runs cannot declare what they use (``use_artifact`` needs the server), so the inputs' names also stand in
    the artifact's metadata and in the run's config.

    Args:
        run: The run that made the files.
        name: As ``artifact_name`` makes it.
        kind: ``dataset``, ``model`` or ``evaluation``.
        files: Files, or folders whole.
        inputs: Names of the artifacts that it was made from.
        metadata: What else to keep with it.
    """
    use(run, inputs)
    artifact = wandb.Artifact(name, kind, metadata={**metadata, "inputs": list(inputs)})
    for path in files:
        if path.is_dir():
            artifact.add_dir(str(path), name=path.name)
        else:
            artifact.add_file(str(path))
    run.log_artifact(artifact)


def use(run: wandb.Run, inputs: Sequence[str]) -> None:
    """Declare which artifacts a run was given."""
    if not inputs:
        return
    run.config["inputs"] = list(inputs)
    if not run.offline and not run.disabled:
        for name in inputs:
            run.use_artifact(f"{name}:latest")


def log_table(run: wandb.Run, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log rows that have the same keys as a table."""
    if rows:
        run.log({name: wandb.Table(columns=[*rows[0]], data=[[*row.values()] for row in rows])})
