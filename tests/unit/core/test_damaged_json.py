"""JSON records that a disk or a stranger damaged: each kind is told in one line that names the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socratic_rl.core import files
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.measures.figures import FigureFile
from socratic_rl.models.record import TutorRecord
from socratic_rl.pages import sweep_jobs
from tests.damage import damaged_json, in_one_line
from tests.unit.sharing.test_model_card import MADE_FROM as RECORD

OUTCOME = {"overrides": ["seed=1"], "status": "finished", "score": 0.5, "held_out": {"eval_n": 4}, "error": None}
START = {"overrides": ["seed=1,2"], "choices": ["seed"]}
FIGURES = {"metrics": [{"name": "x", "kind": "all", "base": 0, "tutor": 1, "difference": 1, "low": 0, "high": 1,
                        "n": 3}],
           "facts": {}}  # fmt: skip

KINDS: dict[str, tuple[dict[str, Any], tuple[str, ...], Callable[[Path], object]]] = {
    MADE_FROM: (RECORD, ("model", "dpo"), lambda path: TutorRecord.read(path.parent)),
    "result.json": (
        OUTCOME,
        ("overrides", "status", "held_out"),
        lambda path: files.read_model(sweep_jobs.Outcome, path),
    ),
    "sweep.json": (START, ("overrides", "choices"), lambda path: sweep_jobs.read_jobs(path.parent)),
    "evaluation.json": (FIGURES, ("metrics", "facts"), lambda path: files.read_model(FigureFile, path)),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_record_is_told_in_one_line_that_names_the_file(tmp_path: Path, name: str):
    value, needed, read = KINDS[name]
    path = tmp_path / name
    copies = damaged_json(value, *needed)
    assert len(copies) > 30
    for damage, content in copies.items():
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            read(path)
        assert not list(in_one_line(error.value)), damage
        assert str(path) in str(error.value), damage


def test_a_whole_one_is_read(tmp_path: Path):
    for name, (value, _, read) in KINDS.items():
        files.write_json(tmp_path / name, value)
        read(tmp_path / name)


def test_what_has_no_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "LARGEST", 1)
    with pytest.raises(UserError, match=r"^/dev/zero: is no JSON file that a command wrote: more than 1 MB$"):
        files.read_json(Path("/dev/zero"))


def test_hostile_names_and_values_stay_short_and_in_their_line(tmp_path: Path):
    path = tmp_path / MADE_FROM
    held_out = {f"a\n\x1b[2J{number}": "x\n" * 10_000 for number in range(50)}
    files.write_json(path, RECORD | {"held_out": held_out})
    with pytest.raises(UserError, match="and 95 more") as error:
        TutorRecord.read(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 4_000
