"""The one exception for what a user can put right."""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """A mistake in a config or a file: the message says where it is and what would be right.

    The entry points print it as it is, without a traceback, and exit with 2.

    Args:
        message: What is wrong.
        key: Of a component's own field, where that is to blame; ``under`` puts the component's name before it.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.message = message
        self.key = key


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Puts what a component is called in front of the key that its error names: ``generator`` before ``n_ctx``.

    A component does not know where it hangs in a config; who owns it does. An error without a key stays as it is.
    """
    try:
        yield
    except UserError as error:
        if error.key is None:
            raise
        raise UserError(error.message, key=f"{prefix}.{error.key}") from error


MOST = 5
"""How many mistakes of one record an error tells."""


def reason(error: "ValidationError") -> str:
    """What pydantic found, in one line: ``turns.0.speaker: Input should be 'student' or 'teacher'``."""
    messages = [f"{key}: {message}" if key else message for key, message in reasons(error).items()]
    more = f"; and {len(messages) - MOST} more" if len(messages) > MOST else ""
    return "; ".join(messages[:MOST]) + more


def reasons(error: "ValidationError") -> Mapping[str, str]:
    """What pydantic found, by dotted key."""
    messages = {}
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] not in ("missing", "extra_forbidden", "value_error"):
            message += f" (got {in_short(repr(item['input']))})"
        messages[in_short(".".join(str(part) for part in item["loc"]))] = message
    return messages


SHORT = 300
"""Characters of what an error repeats from elsewhere."""


def in_short(text: str) -> str:
    """Text from elsewhere as a part of an error's one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHORT else f"{line[:SHORT]}…"


def secret_in_url(url: str) -> str | None:
    """What is wrong with an address that may hold a password or a key, since a config is kept and logged."""
    if not set(url) & set("@?#"):
        return None
    return (
        "a server's address is kept and logged, so it holds no name, password, ? or #;"
        " a key is read from the environment variable that api_key_env names"
    )


TAKES_LESS = {
    "train": "dpo.gradient_checkpointing=true, a smaller dpo.per_device_train_batch_size with more"
    " dpo.gradient_accumulation_steps, dpo.per_device_eval_batch_size or dpo.max_length, or a model in 4 bits;"
    " estimate.only=true tells what fits",
    "generate": "a smaller generator.width, or a smaller model",
    "evaluate": "a smaller sampling.batch_size, or the tutor in llama.cpp: backend=llama_cpp",
    "chat": "a smaller model, or backend=llama_cpp",
    "export": "a machine with more memory, or the adapter alone: format=gguf",
}
"""What takes less memory, by command."""


def explain_memory(error: BaseException, command: str) -> str | None:
    """What to change where the memory of a GPU or of the machine did not suffice; None where that is not what is wrong.

    Torch's errors are known by their names and words, so that asking does not load it.
    """
    on_gpu = type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in str(error)
    if not on_gpu and not isinstance(error, MemoryError) and "DefaultCPUAllocator" not in str(error):
        return None
    asked = re.search(r"[Tt]ried to allocate (?:\d+ bytes|[\d.]+ \w+)", str(error))
    where = "the GPU's memory" if on_gpu else "the machine's memory"
    tried = f" ({asked[0].lower()})" if asked else ""
    return f"{where} does not suffice{tried}; what takes less: {TAKES_LESS[command]}"


CONSOLE_COMMAND = "socratic-rl"


def shell_command(name: str, *arguments: str) -> str:
    """How a message tells to start a command, to be pasted into a shell.

    Args:
        name: ``train``: ``python train.py`` in a clone, ``socratic-rl train`` elsewhere.
        arguments: As the command takes them; they are quoted for the shell.
    """
    in_clone = (Path(__file__).parents[2] / f"{name}.py").exists()
    started_by_script = Path(sys.argv[0]).name != CONSOLE_COMMAND
    command = f"python {name}.py" if in_clone and started_by_script else f"{CONSOLE_COMMAND} {name}"
    return " ".join([command, *map(shlex.quote, arguments)])


def missing_value(error: BaseException) -> str | None:
    """Which key OmegaConf found missing; None where its error is about something else."""
    match = re.search(r"Missing mandatory value: (\S+)", str(error))
    return f"{match[1]}: is needed and not set" if match else None


NO_ROOM = (
    "No space left on device",
    "os error 28",
    "Disk quota exceeded",
    "PytorchStreamWriter failed",
    "] . unexpected pos ",
)
"""How safetensors, torch and others say that the disk is full, in errors of their own."""


def explain_full_disk(error: BaseException | None) -> str | None:
    """What to tell of an error that comes from a full disk; None where it comes from something else."""
    while error is not None:
        if any(text in str(error) for text in NO_ROOM):
            return "no room left on the disk; what was finished is kept, and the same command goes on"
        error = error.__cause__ or error.__context__
    return None
