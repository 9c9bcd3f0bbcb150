"""A process that has imported what the commands import, and forks for each of them: see ``conftest.run``.

A fork has globals, environment, signals and files of its own, so a command behaves as in a process of its own, but for
the seconds that the imports take. No thread may be started and nothing computed here: a fork has this thread alone.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import sys
import threading
import time
import traceback
import weakref
from pathlib import Path
from typing import Any

HEAVY = (
    "bitsandbytes",
    "datasets",
    "llama_cpp",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "peft",
    "scipy.stats",
    "sklearn.feature_extraction.text",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
    "transformers.trainer",
    "trl",
    "trl.trainer.dpo_trainer",
    "wandb.sdk.wandb_run",
)


def prepare() -> None:
    """Import what the commands import, and let Hydra look for its plugins."""
    import torch

    import socratic_rl

    torch.set_num_threads(1)
    for name in HEAVY:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(socratic_rl.__path__, "socratic_rl."):
        importlib.import_module(module.name)
    from hydra.core.plugins import Plugins

    Plugins.instance()
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")]
    # pyarrow's allocator knows how to start its thread again in a fork
    assert len(set(names) - {"jemalloc_bg_thd"}) == 1 == len(names) - names.count("jemalloc_bg_thd"), names


def serve() -> dict[str, Any]:
    """Fork for every line on stdin, and write how its command ended; returns in the fork, with what it must run."""
    lines = os.fdopen(os.dup(0), "rb")
    while line := lines.readline():
        command = json.loads(line)
        pid = os.fork()
        if not pid:
            return command
        os.write(1, f"{wait(pid, command['seconds'])}\n".encode())
    sys.exit()


def wait(pid: int, seconds: float) -> int | None:
    """The code with which a fork ended; None where it had to be killed after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def become(command: dict[str, Any]) -> None:
    """Take on the command's group, environment, arguments and files."""
    os.setsid()
    # temporary folders of modules, which the first fork to end would remove for all
    atexit._clear()
    weakref.finalize._registry.clear()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        file = os.open(command[name], os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(command["environment"])
    # it has read the environment when it was imported
    importlib.reload(sys.modules["huggingface_hub.constants"])
    sys.argv = command["arguments"]


class Ending:
    """Ends the process as Python does, but without taking apart all that was imported, which takes two seconds."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        if not isinstance(error, SystemExit | None):
            traceback.print_exception(error)
        elif isinstance(code, str):
            print(code, file=sys.stderr)
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    prepare()
    # what is there is not garbage; looking at it would copy it into every fork
    gc.freeze()
    os.write(1, b"ready\n")
    become(serve())
    with Ending():
        if sys.argv[0] == "-m":
            sys.argv = sys.argv[1:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
