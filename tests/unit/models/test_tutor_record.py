"""What a tutor was made from: old records are read, and what is written keeps its form."""

import json
from pathlib import Path

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.models.record import VERSION, TutorRecord
from tests.unit.sharing.test_model_card import MADE_FROM as OLD


def test_a_record_without_a_version_is_read(tmp_path: Path):
    (tmp_path / MADE_FROM).write_text(json.dumps({key: OLD[key] for key in OLD if key != "trained_on"}))
    record = TutorRecord.read(tmp_path)
    assert (record.version, record.trained_on, record.previous) == (VERSION, None, None)
    assert record.pairs_made_from == record.dataset.path == "/home/someone/secret/pairs.jsonl"


def test_a_record_is_written_in_its_order_with_the_version_in_front():
    settings = {"dtype": "auto", "attn_implementation": "sdpa", "quantization": None}
    values = {
        "model": {"name": "tiny", "pretrained": "me/tiny", "revision": None, **settings},
        "dataset": {"path": "pairs.jsonl", "problems": None, "limit": None},
        "data_source": {"path": "rows.csv", "_target_": "x"},
        "dataset_artifact": "pairs-0",
        "dpo": {"max_length": 512, "beta": 0.1},
        "lora": None,
        "previous": {"adapter": "before", "sha256": "1"},
        "seed": 0,
        "trained_on": {"pairs": 2, "problems": 1, "rejected by": "repeated 2"},
        "held_out": {"eval_n": 40, "eval_loss": 0.5},
        "versions": {"trl": "1"},
    }
    record = TutorRecord.model_validate(values)
    assert json.dumps(record.to_record()) == json.dumps({"version": VERSION} | values)
    assert record.pairs_made_from == "rows.csv"
    assert TutorRecord.model_validate({"version": VERSION} | values) == record


def test_another_file_of_that_name_is_a_mistake(tmp_path: Path):
    (tmp_path / MADE_FROM).write_text(json.dumps({"model": {}}))
    with pytest.raises(UserError, match=r"^adapter: .*socratic_rl\.json: model\.name: "):
        TutorRecord.read(tmp_path)
