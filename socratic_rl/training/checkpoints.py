"""Checkpoints of a training: which one to go on from, and whether the training ended there."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import WandbCallback

from socratic_rl.core.errors import UserError, in_short
from socratic_rl.core.files import read_model
from socratic_rl.core.text import tell
from socratic_rl.models import processes

STATE = "trainer_state.json"
"""Written last: a run that was killed while it saved has left a folder without it."""


class _State(BaseModel):
    """What must be there of the state that a training goes on with."""

    global_step: Annotated[int, Field(ge=0)]
    max_steps: int
    log_history: list[dict[str, Any]]


def find_checkpoint(wanted: str | None, folder: Path) -> str | None:
    """The folder of a checkpoint; None to start anew, also where ``latest`` finds none yet.

    Where the newest is damaged, ``latest`` is the one before it, and says so.

    Raises:
        UserError: The named folder is no checkpoint, or damaged; or all that there are.
    """
    if wanted is None:
        return None
    if wanted == "latest":
        complete = [path.parent for path in folder.glob(f"checkpoint-*/{STATE}")]
        newest_first = sorted(complete, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
        for checkpoint in newest_first:
            if (mistake := damage(checkpoint)) is None:
                return str(checkpoint)
            if processes.is_main():
                tell(f"checkpoint: {mistake}; an older one is gone on from, if there is one")
        if newest_first:
            raise UserError(f"checkpoint: no checkpoint in {folder} is whole; delete them to begin anew")
        return None
    if not (Path(wanted) / STATE).exists():
        raise UserError(f"checkpoint: {wanted}: not a checkpoint folder; `latest` finds the newest of output_dir")
    if mistake := damage(Path(wanted)):
        raise UserError(f"checkpoint: {mistake}; `latest` finds the newest of output_dir that is whole")
    return wanted


def damage(checkpoint: Path) -> str | None:
    """Which file of a checkpoint is damaged, and how; None where it is whole."""
    try:
        read_model(_State, checkpoint / STATE)
    except UserError as error:
        return str(error)
    # sharded weights and optimisers lie in folders, which torch checks as it reads them
    if not any(checkpoint.glob("*.safetensors")) and not any(path.is_dir() for path in checkpoint.iterdir()):
        return f"{checkpoint}: there are no weights in it"
    for path in sorted(checkpoint.glob("*.safetensors")):
        try:
            # one after the other, since training is to hold them all soon
            with safe_open(path, "pt") as file:
                if not all(file.get_tensor(name).isfinite().all() for name in file.keys()):  # noqa: SIM118
                    return f"{path}: holds what is no number"
        except (SafetensorError, OSError, ValueError) as error:
            return f"{path}: is damaged: {in_short(str(error))}"
    for path in sorted([*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth")]):
        try:
            with zipfile.ZipFile(path) as archive:
                wrong = archive.testzip()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            return f"{path}: is damaged: {in_short(str(error))}"
        if wrong:
            return f"{path}: is damaged"
    return None


class EarlierLog(TrainerCallback):  # type: ignore[misc]
    """Logs to W&B again what a checkpoint remembers, so that the run that goes on shows the whole curve."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Log each row of the state's history at its step."""
        for callback in self.trainer.callback_handler.callbacks:
            for row in state.log_history if isinstance(callback, WandbCallback) else ():
                then = dataclasses.replace(state, global_step=row["step"], epoch=row.get("epoch"))
                logs = {name: value for name, value in row.items() if name != "step"}
                callback.on_log(args, then, control, model=self.trainer.model, logs=logs)


def train_from(trainer: Trainer, checkpoint: str | None) -> float:
    """Train, from a checkpoint where there is one; returns the seconds that it took.

    A checkpoint of the last step is taken as the result: the loop of transformers looks at the limit only after a step,
    so that it would train one step too many, each time anew.

    Raises:
        UserError: The optimiser is of a package that is not installed.
    """
    if checkpoint:
        tell(f"training goes on from {checkpoint}")
        earlier = EarlierLog(trainer)
        state = TrainerState.load_from_json(str(Path(checkpoint) / STATE))
        if 0 < state.max_steps <= state.global_step:
            trainer._load_from_checkpoint(checkpoint)
            trainer.state = state
            earlier.on_train_begin(trainer.args, state, trainer.control)
            return 0.0
        trainer.add_callback(earlier)
    try:
        return float(trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"])
    except ImportError as error:
        # the first moment at which transformers loads it
        raise UserError(f"dpo.optim: {trainer.args.optim!s} needs what is not installed: {error}") from error
