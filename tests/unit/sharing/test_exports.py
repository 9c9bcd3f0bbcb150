import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoModelForCausalLM

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import CARD, MADE_FROM
from socratic_rl.measures.figures import Figure
from socratic_rl.models import weights
from socratic_rl.models.record import TutorRecord
from socratic_rl.sharing import exports, model_card
from socratic_rl.sharing.exports import Exported
from tests.unit.sharing.test_model_card import MADE_FROM as RECORD


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
        record=TutorRecord.model_validate(made_from),
        settings=SimpleNamespace(name="tiny", pretrained="tiny"),
        tokenizer=weights.tokenizer_from(str(folder)),
        tutor=lambda: contextlib.nullcontext(model),
    )


def test_what_is_made_of_a_tutor(whole: SimpleNamespace, tmp_path: Path):
    assert [exports.kind_of(whole.folder, wanted) for wanted in ("gguf", "merged_gguf")] == ["model", "model"]
    with pytest.raises(UserError, match=r"format: .* is a whole model for transformers already"):
        exports.kind_of(whole.folder, "merged")
    (whole.folder / "adapter_config.json").touch()
    kinds = [exports.kind_of(whole.folder, wanted) for wanted in ("gguf", "merged_gguf", "merged")]
    assert kinds == ["adapter", "model", "folder"]


def test_a_whole_model_is_written_found_again_and_described(whole: SimpleNamespace, tmp_path: Path):
    with pytest.raises(UserError, match=r"backend: there is no GGUF file of the tutor yet: python export\.py adapter="):
        exports.exported(whole, None, None)
    written = exports.write(whole, "model", tmp_path / "gguf", "float16", None)
    assert written["model"] == tmp_path / "gguf" / "model.gguf"
    assert exports.exported(whole, None, None) == Exported(written["model"], None, None)
    assert exports.next_command(whole, "model", written["model"], None).endswith("/adapter backend=llama_cpp")
    card = (tmp_path / "gguf" / CARD).read_text()
    assert "library_name: llama.cpp" in card
    assert "llama-cli -m model.gguf" in card
    assert "## Settings" in card
    whole.record = whole.record.model_copy(update={"seed": 4})
    with pytest.raises(UserError, match=r"gguf: .*model.gguf was exported before this tutor was trained"):
        exports.exported(whole, None, None)


def test_nothing_is_merged_into_quantised_weights(whole: SimpleNamespace, tmp_path: Path):
    whole.tutor = lambda: contextlib.nullcontext(SimpleNamespace(is_quantized=True))
    with pytest.raises(UserError, match="format: the weights of tiny are quantised"):
        exports.write(whole, "model", tmp_path / "gguf", "float16", None)
    assert not list((tmp_path / "gguf").iterdir())


def test_the_file_of_a_base(tmp_path: Path):
    def of(pretrained: str, given: str | None = None) -> Path | None:
        plain = {"name": "x", "revision": None, "dtype": "auto", "attn_implementation": "sdpa"}
        return exports.base_file(ModelSettings(pretrained=pretrained, **plain), given)

    assert of("embedded").suffix == ".gguf"
    assert of("some/model.gguf") == Path("some/model.gguf")
    assert of("owner/name") is None
    assert of("embedded", "mine.gguf") == Path("mine.gguf")


def test_the_check_is_not_left_out_for_an_architecture_that_no_test_knows(whole: SimpleNamespace, tmp_path: Path):
    exports.refuse_untested(whole)
    told = r"^check: check=false is for tested architectures only \(arcee, .*\); .*'nemotron'.* leave it on$"
    (whole.folder / "config.json").write_text(json.dumps({"model_type": "nemotron"}))
    with pytest.raises(UserError, match=told):
        exports.refuse_untested(whole)
    # under an adapter it is the base's config that says so
    base = tmp_path / "base"
    shutil.copytree(whole.folder, base)
    (whole.folder / "config.json").unlink()
    (whole.folder / "adapter_config.json").touch()
    whole.settings.pretrained, whole.settings.revision = str(base), None
    with pytest.raises(UserError, match=told):
        exports.refuse_untested(whole)


def test_cards_of_exports_beside_a_tutor_are_renewed_from_its_own(whole: SimpleNamespace, tmp_path: Path):
    exports.write(whole, "model", tmp_path / "gguf", "float16", None)
    exports.write(whole, "model", tmp_path / "elsewhere", "float16", None)
    # of another training, and what is no export
    shutil.copytree(tmp_path / "gguf", tmp_path / "merged_gguf")
    (tmp_path / "merged_gguf" / MADE_FROM).write_text(json.dumps(RECORD | {"seed": 4}))
    (tmp_path / "merged").mkdir()
    asked = f"not yet: python evaluate.py adapter={whole.folder} "
    assert exports.not_measured(whole, tmp_path / "gguf") == f"{asked}writes its results into this card too"
    assert exports.not_measured(whole, tmp_path / "elsewhere") == f"{asked}first, then export again"
    row = {"name": "asks_question", "kind": "all", "base": 0.1, "tutor": 0.987, "difference": 0.9, "low": 0.8,
           "high": 0.98, "n": 50, "problems": 25}  # fmt: skip
    model_card.write_card(whole.folder, model_card.Measured([Figure(**row)], "50 pairs", "temperature=0.0"))
    assert exports.not_measured(whole, tmp_path / "gguf") is None
    assert exports.renew_cards(whole.folder) == [tmp_path / "gguf" / CARD]
    card = (tmp_path / "gguf" / CARD).read_text()
    assert "0.987" in card
    assert "library_name: llama.cpp" in card
    assert "llama-cli -m model.gguf" in card
    for untouched in ("elsewhere", "merged_gguf"):
        assert "Not measured yet" in (tmp_path / untouched / CARD).read_text()
    assert not list((tmp_path / "merged").iterdir())


def test_each_place_beside_a_tutor_has_a_card_of_its_own_kind(whole: SimpleNamespace, tmp_path: Path):
    for place in ("gguf", "merged_gguf", "merged"):
        (tmp_path / place).mkdir()
        shutil.copy(whole.folder / MADE_FROM, tmp_path / place)
    (tmp_path / "gguf" / "adapter.gguf").touch()
    used = {"gguf": "--lora adapter.gguf", "merged_gguf": "-m model.gguf", "merged": "library_name: transformers"}
    for card in exports.renew_cards(whole.folder):
        assert used.pop(card.parent.name) in card.read_text()
    assert not used
    # a merged tutor's card is its own
    (tmp_path / "merged" / CARD).write_text("---\ntags: []\n---\n# mine\n")
    assert len(exports.renew_cards(tmp_path / "merged")) == 2
    assert (tmp_path / "merged" / CARD).read_text().endswith("# mine\n")


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "hqq"])
def test_no_adapter_is_merged_into_weights_that_come_quantised(tiny_llama: Path, tmp_path: Path, method: str):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(tiny_llama, base)
    adapter.mkdir()
    (adapter / "adapter_config.json").touch()
    plain = {"name": "big", "revision": None, "dtype": "auto", "attn_implementation": "sdpa", "quantization": None}
    settings = ModelSettings.model_validate(plain | {"pretrained": str(base)})
    tutor = SimpleNamespace(folder=adapter, settings=settings)
    exports.refuse_merge(tutor)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method, "bits": 4}}))
    with pytest.raises(UserError, match=rf"^format: the weights of big come quantised by {method}, and no adapter"):
        exports.refuse_merge(tutor)


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_failed_its_check_is_not_left_where_it_would_be_used(tmp_path: Path, is_folder: bool):
    names = ["model.safetensors", "config.json"] if is_folder else ["tutor.gguf"]
    for name in names:
        (tmp_path / name).write_text(name)
    failed = exports.set_aside(tmp_path if is_folder else tmp_path / names[0])
    assert failed == [tmp_path / f"{names[0]}.failed"]
    assert failed[0].read_text() == names[0]
    assert not (tmp_path / names[0]).exists()
    assert not exports.set_aside(tmp_path)
