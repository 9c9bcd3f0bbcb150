"""The notebook, executed with the embedded model in place of Mistral."""

import json
from pathlib import Path

import nbformat
import papermill
import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "mistral_colab.ipynb"


def test_the_notebook_keeps_no_outputs_and_has_its_parameters_on_top():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert first.metadata.tags == ["parameters"]
    assert 'model = "mistral_7b_4bit"' in first.source
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)
    assert not any(cell.outputs or cell.execution_count for cell in (first, *others))


@pytest.mark.slow
def test_the_notebook_runs_with_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    few = ["dpo.max_steps=2", "dpo.gradient_accumulation_steps=1", "dataset.limit=8", "samples=0"]
    done = papermill.execute_notebook(
        str(NOTEBOOK),
        str(tmp_path / "done.ipynb"),
        parameters={
            "install": False,
            "model": "smollm2_135m",
            "precision": [],
            "data": ["problems.limit=16", "splits=1", "wandb=disabled"],
            "training": [*few, "wandb=disabled"],
            "evaluation": ["limit=2", "resamples=100", "sampling.max_new_tokens=8", "wandb=disabled"],
            "output_dir": str(tmp_path / "out"),
        },
        cwd=str(ROOT / "notebooks"),
        kernel_name="python3",
        progress_bar=False,
    )
    printed = "".join(output.get("text", "") for cell in done.cells for output in cell.get("outputs", []))
    for told in ("Data set", "Training", "Tutor against base, 2 pairs", "base: smollm2-135m", str(tmp_path / "out")):
        assert told in printed
    made_from = json.loads((tmp_path / "out" / "adapter" / "socratic_rl.json").read_text())
    assert made_from["lora"]["target_modules"] == ["q_proj", "v_proj"]
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.slow
def test_a_command_that_fails_stops_the_notebook(tmp_path: Path):
    with pytest.raises(papermill.PapermillExecutionError, match=r"generate\.py .*exit code 2"):
        papermill.execute_notebook(
            str(NOTEBOOK),
            str(tmp_path / "done.ipynb"),
            parameters={"install": False, "data": ["problems=nope"], "output_dir": str(tmp_path / "out")},
            cwd=str(ROOT),
            kernel_name="python3",
            progress_bar=False,
        )
