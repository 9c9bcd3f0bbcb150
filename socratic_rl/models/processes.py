"""One process, or several that ``accelerate launch`` (or torchrun) started, one for each device.

Every process reads the data and trains; the first one, the main process, alone prints, tracks and writes files.
What is asked here stands in the environment, so that asking does not load torch.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

T = TypeVar("T")


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this is the one that prints, tracks and writes files."""
    return rank() == 0


def rank() -> int:
    """The number of this process among all, 0 for the main one."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Which device of its machine this process has."""
    return int(os.environ.get("LOCAL_RANK", 0))


def sharded() -> bool:
    """Whether no process holds all weights: FSDP, or DeepSpeed's ZeRO-3."""
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    return fsdp or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"


def keep_quiet() -> None:
    """Let this process say nothing but its errors; set before libraries load."""
    os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  it stays open until the process ends


def meet(timeout: float) -> None:
    """Let the processes find each other; none waits for another for longer than ``timeout`` seconds."""
    if count() > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(seconds=timeout))


def from_main(make: Callable[[], T]) -> T:
    """What ``make`` gives on the main process, on every one; all must call this, once they have met."""
    if count() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    values = [make() if is_main() else None]
    broadcast_object_list(values)
    return cast(T, values[0])
