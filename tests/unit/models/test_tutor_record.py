"""What a tutor was made from: old records are read, and what is written keeps its form."""

import json
from pathlib import Path

import pytest

from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.models import weights
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


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"[{}]", b"3", b"null", b'"text"', b"{}", b'{"model": 3}', b'{"model": {}, "dpo": []}',
        b"\xff\xfe\x00", b"\x80\x04\x95", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"version https://git-lfs",
    ],
    ids=lambda content: content[:12].decode("latin-1"),
)  # fmt: skip
def test_a_damaged_record_is_told_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / MADE_FROM).write_bytes(content)
    with pytest.raises(UserError, match=rf"^adapter: .*{MADE_FROM}: ") as error:
        TutorRecord.read(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1_000


HOSTILE = [
    "joblib.load", "torch.load", "pickle.load", "pickle.loads", "os.system", "subprocess.run", "builtins.eval",
    "builtins.exec", "pathlib.Path.write_text", "pathlib.Path.touch", "shutil.rmtree", "importlib.import_module",
    "transformers.AutoConfig.from_pretrained", "transformers.pipeline", "hydra.utils.instantiate",
    "hydra.utils.call", "socratic_rl.pairs.SeedCsv", "numpy.load", "runpy.run_path", "webbrowser.open",
    "transformers.BitsAndBytesConfig.from_dict", "", None, 3, ["os.system"],
]  # fmt: skip


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("target", HOSTILE, ids=str)
def test_what_a_record_names_is_not_called(tmp_path: Path, tiny_llama: Path, target: object, nested: bool):
    trap = tmp_path / "trap"
    node = {"_target_": target, "_args_": [f"touch {trap}"], "filename": str(trap), "self": str(trap), "f": str(trap)}
    quantization = {"_target_": "transformers.BitsAndBytesConfig", "load_in_4bit": node} if nested else node
    model = {"name": "tiny", "pretrained": str(tiny_llama), "revision": None, "dtype": "auto"}
    made_from = OLD | {"model": model | {"attn_implementation": "sdpa", "quantization": quantization}}
    (tmp_path / MADE_FROM).write_text(json.dumps(made_from))
    with pytest.raises(UserError, match=r"^model\.quantization"):
        weights.load_base(TutorRecord.read(tmp_path).model)
    assert not trap.exists()


def test_a_gptq_tutor_without_the_extra_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("socratic_rl.core.component.find_spec", lambda _: None)
    model = OLD["model"] | {"quantization": {"_target_": "transformers.GPTQConfig", "bits": 4}}
    (tmp_path / MADE_FROM).write_text(json.dumps(OLD | {"model": model}))
    with pytest.raises(
        UserError, match=r"^adapter: .*needs an extra that is not installed: pip install -e '\.\[gptq\]'"
    ):
        TutorRecord.read(tmp_path)
