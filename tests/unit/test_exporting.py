import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoModelForCausalLM

from socratic_rl import exporting, models
from socratic_rl.config import ModelSettings
from socratic_rl.errors import UserError
from socratic_rl.exporting import Exported
from socratic_rl.record import CARD, MADE_FROM
from tests.unit.test_model_card import MADE_FROM as RECORD


@pytest.fixture
def whole(tiny_llama: Path, tmp_path: Path) -> SimpleNamespace:
    """A tutor whose weights were all trained, as its folder and what is read of it."""
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_llama, folder)
    made_from = RECORD | {"lora": None}
    (folder / MADE_FROM).write_text(json.dumps(made_from))
    model = AutoModelForCausalLM.from_pretrained(folder)
    return SimpleNamespace(
        folder=folder,
        made_from=made_from,
        settings=SimpleNamespace(name="tiny", pretrained="tiny"),
        tokenizer=models.tokenizer_from(str(folder)),
        tutor=lambda: contextlib.nullcontext(model),
    )


def test_what_is_made_of_a_tutor(whole: SimpleNamespace, tmp_path: Path):
    assert [exporting.kind_of(whole.folder, wanted) for wanted in ("gguf", "merged_gguf")] == ["model", "model"]
    with pytest.raises(UserError, match=r"format: .* is a whole model for transformers already"):
        exporting.kind_of(whole.folder, "merged")
    (whole.folder / "adapter_config.json").touch()
    kinds = [exporting.kind_of(whole.folder, wanted) for wanted in ("gguf", "merged_gguf", "merged")]
    assert kinds == ["adapter", "model", "folder"]


def test_a_whole_model_is_written_found_again_and_described(whole: SimpleNamespace, tmp_path: Path):
    with pytest.raises(UserError, match=r"backend: there is no GGUF file of the tutor yet: python export\.py adapter="):
        exporting.exported(whole, None, None)
    written = exporting.write(whole, "model", tmp_path / "gguf", "float16", None)
    assert written["model"] == tmp_path / "gguf" / "model.gguf"
    assert exporting.exported(whole, None, None) == Exported(written["model"], None, None)
    assert exporting.next_command(whole, "model", written["model"], None).endswith("/adapter backend=llama_cpp")
    card = (tmp_path / "gguf" / CARD).read_text()
    assert "library_name: llama.cpp" in card
    assert "llama-cli -m model.gguf" in card
    assert "## Settings" in card
    whole.made_from = whole.made_from | {"seed": 4}
    with pytest.raises(UserError, match=r"gguf: .*model.gguf was exported before this tutor was trained"):
        exporting.exported(whole, None, None)


def test_nothing_is_merged_into_quantised_weights(whole: SimpleNamespace, tmp_path: Path):
    whole.tutor = lambda: contextlib.nullcontext(SimpleNamespace(is_quantized=True))
    with pytest.raises(UserError, match="format: the weights of tiny are quantised"):
        exporting.write(whole, "model", tmp_path / "gguf", "float16", None)
    assert not list((tmp_path / "gguf").iterdir())


def test_the_file_of_a_base(tmp_path: Path):
    def of(pretrained: str, given: str | None = None) -> Path | None:
        plain = {"name": "x", "revision": None, "dtype": "auto", "attn_implementation": "sdpa"}
        return exporting.base_file(ModelSettings(pretrained=pretrained, **plain), given)

    assert of("embedded").suffix == ".gguf"
    assert of("some/model.gguf") == Path("some/model.gguf")
    assert of("owner/name") is None
    assert of("embedded", "mine.gguf") == Path("mine.gguf")
