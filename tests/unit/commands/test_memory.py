"""The estimate of a training's memory, and what is told where it did not suffice."""

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoConfig

from socratic_rl.commands import memory
from socratic_rl.commands.settings import TrainSettings, parse
from socratic_rl.core.errors import UserError, explain_memory
from socratic_rl.core.provenance import resolved
from socratic_rl.training import dpo, fields
from tests.conftest import ROOT

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


def printed(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, str]:
    """The rows of the table that ``estimate.only=true`` prints."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=["estimate.only=true", *overrides])
    settings = parse(TrainSettings, cfg)
    memory.print_estimate(settings, fields.lora_config(cfg.lora) if settings.lora else None)
    rows = re.findall(r"^  (\S(?:\S| (?! ))*)  +(.+?) *$", capsys.readouterr().out, re.MULTILINE)
    return dict(rows)


def size(text: str) -> float:
    found = re.match(r"[\d.]+(?= GB)", text)
    assert found, text
    return float(found[0])


@pytest.mark.slow
@pytest.mark.parametrize("preset", MODELS)
def test_every_preset_is_estimated_from_its_config_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, preset: str
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = printed(capsys, f"model={preset}", "estimate.gpu=80GB", "dataset.path=nowhere.jsonl", "dpo.max_length=128")
    assert size(rows["with checkpointing"]) <= size(rows["training takes"])
    assert size(rows["training takes"]) > size(rows["weights"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "low", "high"),
    [
        # published sizes: parameters times bytes
        (["model=llama2_7b"], 13.3, 13.6),
        (["model=llama2_7b_8bit"], 6.6, 7.4),
        (["model=llama2_7b_4bit"], 3.6, 4.1),
        (["model=llama3_1_8b"], 15.9, 16.2),
        (["model=qwen3_0_6b"], 1.1, 1.3),
        (["model=gemma3_1b"], 1.9, 2.1),
        (["model=gpt2", "model.dtype=float32"], 0.45, 0.55),
        # a full training's reference is a second copy, unless its log-probabilities are computed before
        (["model=gpt2", "lora=none", "model.dtype=float32"], 0.45, 0.55),
        (["model=gpt2", "lora=none", "model.dtype=float32", "dpo.max_steps=5"], 0.9, 1.1),
    ],
)
def test_weights_take_what_their_number_and_precision_say(
    capsys: pytest.CaptureFixture[str], overrides: list[str], low: float, high: float
):
    rows = printed(capsys, *overrides, "estimate.gpu=16GB", "dpo.max_length=64")
    assert low <= size(rows["weights"]) <= high


def test_what_is_said_of_llama_2_holds(capsys: pytest.CaptureFixture[str]):
    seed = ["model=llama2_7b_4bit", "lora.target_modules=[q_proj,v_proj]", "lora.r=8", "estimate.gpu=16GB"]
    rows = printed(capsys, *seed)
    assert 21 < size(rows["training takes"]) < 25
    assert rows["training takes"].endswith("does not fit")
    assert 6 < size(rows["with checkpointing"]) < 8
    assert "fits" in rows["with checkpointing"]


@pytest.mark.parametrize("name", ["seed_mistral_notebook"])
def test_what_is_meant_for_a_free_notebook_fits_it(capsys: pytest.CaptureFixture[str], name: str):
    rows = printed(capsys, f"experiment={name}", "estimate.gpu=16GB")
    assert (
        rows["training takes"].endswith(": fits")
        or "fits (dpo.gradient_checkpointing=true" in rows["with checkpointing"]
    )


def test_a_folder_is_estimated_by_its_config_json_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    config = AutoConfig.for_model("llama", hidden_size=64, intermediate_size=128, num_hidden_layers=2, vocab_size=100)
    config.save_pretrained(tmp_path)
    small = printed(capsys, f"model.pretrained={tmp_path}", "estimate.gpu=16GB", "dpo.max_length=64")
    config.num_hidden_layers = 400
    config.save_pretrained(tmp_path)
    deep = printed(capsys, f"model.pretrained={tmp_path}", "estimate.gpu=16GB", "dpo.max_length=64")
    assert size(deep["activations"]) > 50 * size(small["activations"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("estimate.gpu=16", r"^estimate\.gpu: must be a size such as 16GB"),
        ("estimate.gpu=lots", r"^estimate\.gpu: must be a size such as 16GB"),
        ("estimate.gpu=-4GB", r"^estimate\.gpu: must be a size such as 16GB"),
        ("lora.target_modules=[nowhere]", r"^lora: Target modules"),
        ("model.shape.model_type=nothing", r"^model\.shape: "),
        ("model.pretrained=./nowhere", r"^model\.pretrained: ./nowhere: no such folder"),
        ("dpo.max_length=9000", r"^dpo\.max_length: 9000 tokens are more than the model can read"),
    ],
)
def test_what_cannot_be_estimated_is_told_in_one_line(capsys: pytest.CaptureFixture[str], override: str, told: str):
    with pytest.raises(UserError, match=told) as error:
        printed(capsys, override)
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_not_here_trains_nothing():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=["estimate.gpu=16GB"])
    with pytest.raises(UserError, match=r"^estimate\.gpu: .*estimate\.only=true"):
        parse(TrainSettings, cfg)


@pytest.mark.parametrize(
    ("half", "overrides", "expected"),
    [
        (torch.bfloat16, [], (True, False)),
        (torch.float16, [], (False, True)),
        (None, [], (False, False)),
        (torch.float16, ["dpo.bf16=false"], (False, False)),
        (torch.bfloat16, ["+dpo.fp16=true", "dpo.bf16=false"], (False, True)),
    ],
)
def test_a_gpu_without_bfloat16_computes_in_float16_with_a_loss_scaler_and_says_so(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    half: torch.dtype | None,
    overrides: list[str],
    expected: tuple[bool, bool],
):
    from socratic_rl.models import weights
    from socratic_rl.training.memory import precision

    monkeypatch.setattr(weights, "half_precision", lambda: half)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    chosen = precision(cfg.dpo)
    assert (chosen["bf16"], chosen["fp16"]) == expected
    assert ("float16, with a loss scaler" in capsys.readouterr().out) == (half == torch.float16 and not overrides)
    model = parse(TrainSettings, compose_on_starter()).model
    assert weights.dtype_of(model) == (half or torch.float32)
    # float16 is too coarse for weights that are trained themselves
    assert weights.dtype_of(model, trained=True) == (torch.float32 if half != torch.bfloat16 else half)


def compose_on_starter():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=["estimate.only=true"])


def test_checkpointing_that_is_left_to_the_memory_is_a_truth_value_for_trl(tmp_path: Path):
    for value in ("auto", "false", "true"):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("train", overrides=[f"dpo.gradient_checkpointing={value}"])
        args = dpo.arguments(cfg.dpo, tmp_path, tracked=False)
        assert args.gradient_checkpointing is (value == "true")
    assert resolved(cfg)["dpo"]["gradient_checkpointing"] is True


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has …"),
            r"the GPU's .*2\.50 gib",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
                "allocate 99 bytes. Error code 12"
            ),
            r"the machine's .*99 bytes",
        ),
        (MemoryError(), r"the machine's memory does not suffice; "),
        (RuntimeError("shapes do not fit"), None),
        (ValueError("memory"), None),
    ],
)
def test_memory_that_does_not_suffice_is_told_with_what_takes_less(error: Exception, told: str | None):
    for command, key in (("train", "dpo.gradient_checkpointing=true"), ("evaluate", "sampling.batch_size")):
        line = explain_memory(error, command)
        if told is None:
            assert line is None
        else:
            assert re.search(told, line)
            assert key in line
            assert "\n" not in line
