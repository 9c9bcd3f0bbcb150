"""Checkpoints of a training: which one to go on from, and whether the training ended there."""

from pathlib import Path

from transformers import Trainer, TrainerState

from socratic_rl.core.errors import UserError

STATE = "trainer_state.json"
"""Written last: a run that was killed while it saved has left a folder without it."""


def find_checkpoint(wanted: str | None, folder: Path) -> str | None:
    """The folder of a checkpoint; None to start anew, also where ``latest`` finds none yet.

    Raises:
        UserError: The named folder is no checkpoint.
    """
    if wanted is None:
        return None
    if wanted == "latest":
        complete = [path.parent for path in folder.glob(f"checkpoint-*/{STATE}")]
        return str(max(complete, key=lambda path: int(path.name.rpartition("-")[2]))) if complete else None
    if not (Path(wanted) / STATE).exists():
        raise UserError(f"checkpoint: {wanted}: not a checkpoint folder; `latest` finds the newest of output_dir")
    return wanted


def train_from(trainer: Trainer, checkpoint: str | None) -> float:
    """Train, from a checkpoint where there is one; returns the seconds that it took.

    A checkpoint of the last step is taken as the result: the loop of transformers looks at the limit only after a step,
    so that it would train one step too many, each time anew.
    """
    if checkpoint:
        state = TrainerState.load_from_json(str(Path(checkpoint) / STATE))
        if 0 < state.max_steps <= state.global_step:
            trainer._load_from_checkpoint(checkpoint)
            trainer.state = state
            return 0.0
    try:
        return float(trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"])
    except ImportError as error:
        # the first moment at which transformers loads it
        raise UserError(f"dpo.optim: {trainer.args.optim!s} needs what is not installed: {error}") from error
