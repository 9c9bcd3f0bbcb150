"""A sweep's jobs in processes of their own: each leaves its files, and who launched them closes with a table."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import run_process
from tests.wandb_files import read_run


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_a_launcher_runs_the_jobs_of_a_sweep(launcher: str, tiny: list[str], tmp_path: Path):
    folder = tmp_path / "sweep"
    choices = ["dpo.beta=0.1", "dpo.beta=-1", "dpo.beta=0.3"]
    # what a launcher starts takes over the process's environment, files and signals
    done = run_process(
        "train.py",
        "-m",
        *tiny,
        "samples=0",
        f"hydra/launcher={launcher}",
        "dpo.beta=0.1,-1,0.3",
        f"output_dir={folder}",
        ok=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "error: dpo.beta: Input should be greater than 0 (got -1)" in done.stderr
    jobs = [json.loads((folder / str(number) / "result.json").read_text()) for number in range(3)]
    assert [job["status"] for job in jobs] == ["finished", "failed", "finished"]
    table = done.stdout[done.stdout.index("3 jobs, best first") :]
    assert all(choice in table for choice in choices)
    assert "held-out" not in table, "a job was heard after the table"
    groups = set()
    for number in (0, 2):
        assert (folder / str(number) / "adapter" / "adapter_model.safetensors").exists()
        (record,) = [r.run for r in read_run(folder / str(number)) if r.HasField("run")]
        groups.add(record.run_group)
    assert groups == {"sweep"}
