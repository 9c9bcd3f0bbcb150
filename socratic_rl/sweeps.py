"""A multirun's jobs: what each gave, and the table that closes it."""

import json
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

RESULT = "result.json"

_sweep: Path | None = None
"""The folder of the multirun that this process started."""


class Jobs(Callback):
    """Hydra callback: leaves ``result.json`` in each job's folder, so that a table can be made wherever jobs ran."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember where the jobs of this multirun lie."""
        global _sweep
        _sweep = Path(config.hydra.sweep.dir)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Write down how a job of a multirun ended."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        folder = Path(config.hydra.runtime.output_dir)
        done = job_return.status == JobStatus.COMPLETED
        value = job_return._return_value
        result = {
            "overrides": list(job_return.overrides or ()),
            "status": "finished" if done else "failed",
            "score": value if done else None,
            "error": None if done else (str(value) or type(value).__name__).splitlines()[0],
        }
        (folder / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def results(sweep: Path) -> list[dict[str, Any]]:
    """The jobs of a multirun, the best score first, failed ones last."""
    jobs = [
        {"folder": path.parent, **json.loads(path.read_text(encoding="utf-8"))}
        for path in sorted(sweep.glob(f"*/{RESULT}"))
    ]
    return sorted(jobs, key=lambda job: (job["score"] is None, -(job["score"] or 0)))


def print_closing_table() -> None:
    """Print a table of the multirun that this process ran, if it ran one."""
    if _sweep is None or not (jobs := results(_sweep)):
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shared = set.intersection(*(set(job["overrides"]) for job in jobs)) if len(jobs) > 1 else set()
    table = Table("job", "choices", "score", "where", title=f"{len(jobs)} jobs, best first", box=box.SIMPLE_HEAD)
    for job in jobs:
        score = f"{job['score']:.4f}" if isinstance(job["score"], int | float) else f"failed: {job['error']}"
        choices = " ".join(choice for choice in job["overrides"] if choice not in shared)
        table.add_row(*map(Text, (job["folder"].name, choices or "(defaults)", score, str(job["folder"]))))
    Console(width=140).print(table)
