"""What all benchmarks share: a result, its file, the machine, and a process of one's own with its memory."""

import json
import os
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")


@dataclass(frozen=True)
class Result:
    """One row of the results; what explains it is added by each benchmark."""

    name: str
    ours: float
    theirs: float
    unit: str
    limit: float
    """What the ratio could be, or should be at most."""

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs


class Alone:
    """What a function makes, in a process of its own, so that its memory is its own."""

    _made: Any

    def __init__(self, make: Callable[..., Any], *args: Any) -> None:
        """Starts the process and begins to make it; functions are module functions, arguments can be pickled."""
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        self._ready = self._pool.submit(Alone._make, make, *args)

    def wait(self) -> None:
        """Until it is made."""
        self._ready.result()

    def ask(self, function: Callable[..., Found], *args: Any) -> Found:
        """What the function returns of it, once it is made."""
        self.wait()
        return self._pool.submit(Alone._ask, function, *args).result()

    def end(self) -> None:
        """Ends the process."""
        self._pool.shutdown()

    @classmethod
    def _make(cls, make: Callable[..., Any], *args: Any) -> None:
        cls._made = make(*args)

    @classmethod
    def _ask(cls, function: Callable[..., Found], *args: Any) -> Found:
        return function(cls._made, *args)


def peak_memory() -> int:
    """The most bytes that this process has held."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def machine() -> str:
    """What the figures were measured on: GPUs where there are some, the processor and its threads, the memory."""
    gpus = _values(Path("/proc/driver/nvidia/gpus").glob("*/information"), "Model")
    cpus = _values(Path("/proc").glob("cpuinfo"), "model name") or {platform.machine()}
    threads = f"{os.environ.get('OMP_NUM_THREADS') or os.cpu_count()} of {os.cpu_count()} threads"
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return ", ".join([*sorted(gpus), *sorted(cpus), threads, f"{gigabytes:.0f} GB"])


def _values(files: Iterable[Path], key: str) -> set[str]:
    """What stands after ``key:`` in files of the kernel."""
    lines = (line.partition(":") for file in files for line in file.read_text().splitlines())
    return {value.strip() for name, _, value in lines if name.strip() == key}


def write_results(path: Path, results: Iterable[Result]) -> None:
    """The results as a JSON list of records, each with the ratio and the machine."""
    rows = [asdict(result) | {"ratio": result.ratio, "machine": machine()} for result in results]
    path.write_text(json.dumps(rows, indent=2) + "\n")
