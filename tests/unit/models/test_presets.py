"""The model presets: what a model is called, and the shape that its memory is estimated by."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from transformers import AutoConfig

from socratic_rl.commands import cli  # noqa: F401  its resolver is part of the configs
from tests.conftest import ROOT

PRESETS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
TODAY = ("qwen3_0_6b", "qwen3_4b", "llama3_2_1b", "llama3_1_8b", "gemma3_1b", "gemma3_270m", "smollm3_3b")


def model(*overrides: str, primary: str = "train") -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(primary, overrides=list(overrides)).model


def test_the_models_of_today_are_there_with_and_without_4_bits():
    assert set(TODAY) | {f"{name}_4bit" for name in TODAY} <= set(PRESETS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_its_own_name_and_the_shape_of_what_it_loads(preset: str):
    chosen = model(f"model={preset}")
    assert chosen.shape.of == chosen.pretrained
    assert chosen.name.replace(".", "-").replace("_", "-") == preset.replace("_", "-")
    values = {key: value for key, value in chosen.shape.items() if key != "of"}
    config = AutoConfig.for_model(**values)
    # a key that the architecture does not know would be kept without a word
    known = type(config)().to_dict().keys() | config.attribute_map.keys()
    assert set(values) <= known
    assert config.hidden_size % config.num_attention_heads == 0 or "head_dim" in values


@pytest.mark.parametrize("primary", ["train", "chat"])
@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=llama2_7b_4bit", "model.pretrained=some/folder/My-Llama"], "My-Llama"),
        (["model=llama2_7b", "model.pretrained=meta-llama/Llama-2-7b-chat-hf"], "Llama-2-7b-chat-hf"),
        (["model=mistral_7b_4bit", "model.pretrained=/some/folder/"], "folder"),
        (["model=smollm2_135m", "model.pretrained=some/model-7b.Q4_K_M.gguf"], "model-7b.Q4_K_M"),
        (["model=gpt2", "model.pretrained=embedded"], "smollm2-135m"),
        (["model=qwen3_4b_4bit"], "qwen3-4b-4bit"),
        (["model=gpt2", "model.pretrained=some/folder", "model.name=ours"], "ours"),
    ],
)
def test_a_model_goes_by_its_own_name(primary: str, overrides: list[str], name: str):
    assert model(*overrides, primary=primary).name == name


@pytest.mark.parametrize("pretrained", [".", "../named", "here/.."])
def test_a_relative_folder_goes_by_its_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: str):
    folder = tmp_path / "named"
    (folder / "here").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert Path(pretrained).is_dir()
    assert model("model=gpt2", f"model.pretrained={pretrained}").name == "named"
