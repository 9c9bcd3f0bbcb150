"""What all benchmarks share: which machine they ran on, and the file that their results go into."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any


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


def write_results(path: Path, results: Iterable[Any]) -> None:
    """The results, which are dataclasses, as a JSON list of records, each with the machine."""
    rows = [asdict(result) | {"machine": machine()} for result in results]
    path.write_text(json.dumps(rows, indent=2) + "\n")
