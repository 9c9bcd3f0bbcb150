"""In which precision merged weights are written where nothing else is asked for, and what reading a GGUF base takes."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from transformers import AutoConfig

from socratic_rl.core.errors import UserError
from socratic_rl.models import weights
from socratic_rl.sharing import exports


def gguf_file(path: Path, file_type: gguf.LlamaFileType | None) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.add_tensor("token_embd.weight", np.zeros((500, 1000), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tutor(folder: Path, pretrained: str, adapter: bool = True) -> SimpleNamespace:
    folder.mkdir(exist_ok=True)
    if adapter:
        (folder / "adapter_config.json").write_text("{}")
    settings = SimpleNamespace(pretrained=pretrained, revision=None)
    return SimpleNamespace(folder=folder, settings=settings)


@pytest.mark.parametrize(
    ("file_type", "dtype"),
    [
        (gguf.LlamaFileType.ALL_F32, "float32"),
        (gguf.LlamaFileType.MOSTLY_F16, "float16"),
        (gguf.LlamaFileType.MOSTLY_BF16, "bfloat16"),
        (gguf.LlamaFileType.MOSTLY_Q4_K_M, "float16"),
        (None, "float16"),
    ],
)
def test_a_base_from_a_gguf_file_is_merged_in_the_files_precision(
    tmp_path: Path, file_type: gguf.LlamaFileType | None, dtype: str
):
    file = gguf_file(tmp_path / "base.gguf", file_type)
    assert exports.merged_dtype(tutor(tmp_path / "adapter", str(file)), "model") == dtype
    assert exports.merged_dtype(tutor(tmp_path / "adapter", str(file)), "adapter") == "float32"


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", "bfloat16"), ("float16", "float16"), (None, "float32")])
@pytest.mark.parametrize("adapter", [True, False])
def test_a_base_from_a_folder_is_merged_in_its_own_precision(
    tmp_path: Path, dtype: str | None, expected: str, adapter: bool
):
    base = tmp_path / "base"
    AutoConfig.for_model("llama", dtype=dtype).save_pretrained(base)
    (base / "model.safetensors").touch()
    made = tutor(tmp_path / "adapter", str(base), adapter) if adapter else tutor(base, "elsewhere/gone", adapter)
    assert exports.merged_dtype(made, "folder") == expected


def test_what_reading_a_gguf_file_takes_is_said_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = gguf_file(tmp_path / "base.gguf", gguf.LlamaFileType.ALL_F32)
    weights._announce(file, tmp_path / "kept")
    (line,) = capsys.readouterr().out.splitlines()
    assert (
        line == f"reading base.gguf as float32, once: about 0.004 GB of memory and 0.002 GB of disk ({tmp_path}/kept)"
    )


def test_a_gguf_file_is_hashed_once_as_long_as_it_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hashed: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or digest(file, kind))
    monkeypatch.setattr(weights, "_convert", lambda path, folder: folder.mkdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = gguf_file(tmp_path / "base.gguf", gguf.LlamaFileType.ALL_F32)
    first = weights._from_gguf(file)
    assert weights._from_gguf(file) == first
    assert len(hashed) == 1
    file.write_bytes(file.read_bytes() + b"more")
    assert weights._from_gguf(file) != first
    assert len(hashed) == 2
    file.write_bytes(b"else")
    with pytest.raises(UserError, match="not a GGUF file"):
        weights._from_gguf(file)
