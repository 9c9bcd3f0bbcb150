"""The check of an export after a strong training: rounding grows with what training changed, and mistakes are found."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer

from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import weights
from socratic_rl.sharing import export_check, gguf_files
from tests.conftest import SharpModel


def _scale(model: PeftModel, factor: float) -> None:
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.scaling["default"] *= factor


def _leave_out(model: PeftModel) -> None:
    """One of the two transformer layers."""
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and ".layers.1." in name:
            layer.lora_B["default"].weight.data.zero_()


MISTAKES: dict[str, Callable[[PeftModel], None] | None] = {
    "scaled by 1.3": lambda model: _scale(model, 1.3),
    "scaled by 0.7": lambda model: _scale(model, 0.7),
    "a layer left out": _leave_out,
    "rows in another order": None,
}


@pytest.mark.parametrize(
    ("options", "strength"),
    [({"use_rslora": True}, 0.3), pytest.param({"rank_pattern": {"q_proj": 2}}, 0.1, marks=pytest.mark.slow)],
    ids=["rsLoRA", "ranks"],
)
def test_a_strong_training_is_no_mistake_and_mistakes_are_found(
    options: dict[str, object],
    strength: float,
    sharp_model: SharpModel,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(gguf_files.TYPES, "8 bits", (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0))
    tokenizer, base = weights.tokenizer_from(str(tiny_llama)), sharp_model("llama")
    file = tmp_path / "base.gguf"
    gguf_files.write_model(base, tokenizer, file, "tiny", "8 bits", None)
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, len(tokenizer), 120).tolist() for _ in range(6)]

    def by_llama_cpp(adapter: Path | None) -> export_check.Reading:
        with contextlib.closing(LlamaReader(file, adapter, 120, at_once=True)) as llama:
            return export_check.by_llama_cpp(llama, sequences)

    def tutor(strength: float) -> PeftModel:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(2)
            lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, **options)
            model = get_peft_model(sharp_model("llama"), lora)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(strength)
        return model.eval()

    of_base = export_check.by_transformers(base, sequences)
    base_read = by_llama_cpp(None)

    def told(model: PeftModel, written: PeftModel) -> str | None:
        gguf_files.write_adapter(written, "", tmp_path / "adapter.gguf", "tiny")
        wanted = {"base": of_base, "tutor": export_check.by_transformers(model, sequences)}
        read = {"base": base_read, "tutor": by_llama_cpp(tmp_path / "adapter.gguf")}
        apart, share = export_check.gaps(wanted, read), export_check.share(wanted, read, "adapter")
        return export_check.mistake(apart, share, "adapter", "float16")

    model = tutor(strength)
    assert told(model, model) is None
    for name, break_it in MISTAKES.items():
        written = tutor(strength)
        with monkeypatch.context() as patched:
            if break_it is None:
                patched.setattr(gguf_files, "NEIGHBOURS", set())
            else:
                break_it(written)
            assert told(model, written), name


@pytest.mark.parametrize(
    ("training", "tutor", "right"), [(1.5, 0.110, True), (1.5, 0.2, False), (0.1, 0.110, False), (10, 1.0, False)]
)
def test_the_limit_grows_with_what_training_changed(training: float, tutor: float, right: bool):
    apart = {
        side: export_check.Gap(mean, 1, 1, 10)
        for side, mean in (("base", 0.068), ("tutor", tutor), ("training", training))
    }
    found = export_check.mistake(apart, export_check.Share(1.0, 0.001, 0.1, 10), "adapter", "float16")
    assert (found is None) == right
