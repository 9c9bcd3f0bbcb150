"""The one exception for what a user can put right."""

import re
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
    """


@contextmanager
def of_component(key: str) -> Iterator[None]:
    """Tells a generator's mistake by its whole key, ``judge.generator.n_ctx``; it does not know whose it is."""
    try:
        yield
    except UserError as error:
        if not str(error).startswith("generator."):
            raise
        raise UserError(f"{key}.{error}") from error


def reason(error: "ValidationError") -> str:
    """What pydantic found, in one line: ``turns.0.speaker: Input should be 'student' or 'teacher'``."""
    return "; ".join(f"{key}: {message}" if key else message for key, message in reasons(error).items())


def reasons(error: "ValidationError") -> Mapping[str, str]:
    """What pydantic found, by dotted key."""
    messages = {}
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] not in ("missing", "extra_forbidden", "value_error"):
            message += f" (got {item['input']!r})"
        messages[".".join(str(part) for part in item["loc"])] = message
    return messages


CONSOLE_COMMAND = "socratic-rl"


def shell_command(name: str) -> str:
    """How a message tells to start a command: ``python train.py`` in a clone, ``socratic-rl train`` elsewhere."""
    in_clone = (Path(__file__).parents[2] / f"{name}.py").exists()
    started_by_script = Path(sys.argv[0]).name != CONSOLE_COMMAND
    return f"python {name}.py" if in_clone and started_by_script else f"{CONSOLE_COMMAND} {name}"


def missing_value(error: BaseException) -> str | None:
    """Which key OmegaConf found missing; None where its error is about something else."""
    match = re.search(r"Missing mandatory value: (\S+)", str(error))
    return f"{match[1]}: is needed and not set" if match else None
