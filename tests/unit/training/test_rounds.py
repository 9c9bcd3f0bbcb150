"""Training a tutor further: its adapter goes on, and what it was is the reference."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from trl import DPOTrainer

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.files import read_json, write_json
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.models import adapters, policy
from socratic_rl.models import weights as weights_module
from socratic_rl.models.tutor import Tutor
from socratic_rl.training import dpo
from tests.unit.training.test_dpo import node, pairs


@pytest.fixture
def first_round(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tutor's folder."""
    monkeypatch.setattr(policy, "SHARED_BASE", policy.SharedBase())
    base = ModelSettings(
        name="tiny", pretrained=str(tiny_llama), revision=None, dtype="float32", attn_implementation="sdpa"
    )
    tokenizer = weights_module.load_tokenizer(base)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    args = dpo.arguments(node(learning_rate=5e-2, max_steps=4), tmp_path / "one", tracked=False)
    outcome = dpo.train(policy.load_policy(base, lora), tokenizer, pairs(), [], args, lora, None)
    # it is no longer its base
    assert abs(losses(outcome.log)[-1] - math.log(2)) > 1e-3
    folder = tmp_path / "adapter"
    outcome.model.save_pretrained(str(folder))
    tokenizer.save_pretrained(folder)
    write_json(folder / MADE_FROM, {"model": base.model_dump(), "dpo": {"max_length": 2000}})
    return folder


def further(folder: Path, output: Path, **changes: object) -> dpo.Outcome:
    tutor = Tutor(folder)
    args = dpo.arguments(node(learning_rate=5e-2, max_steps=4, **changes), output, tracked=False)
    return dpo.train(tutor.policy(), tutor.tokenizer, pairs(), pairs(3), args, None, None)


def losses(log: list[dict]) -> list[float]:
    return [row["loss"] for row in log if "loss" in row]


@pytest.mark.parametrize("precompute", [True, False])
def test_the_reference_is_the_tutor_as_it_was(first_round: Path, tmp_path: Path, precompute: bool):
    outcome = further(first_round, tmp_path / "two", precompute_ref_log_probs=precompute)
    # at the first step policy and reference are one, with the base as reference they would not be
    assert losses(outcome.log)[0] == pytest.approx(math.log(2), abs=1e-5)
    assert abs(losses(outcome.log)[-1] - math.log(2)) > 1e-3


def test_losses_are_those_of_plain_trl(first_round: Path, tmp_path: Path):
    tutor = Tutor(first_round)
    # all pairs in each batch, since the forest has another order
    whole = {"per_device_train_batch_size": len(pairs())}
    args = dpo.arguments(
        node(learning_rate=5e-2, max_steps=4, precompute_ref_log_probs=False, **whole), tmp_path / "trl", tracked=False
    )
    plain = DPOTrainer(
        model=tutor.policy(),
        args=args,
        train_dataset=dpo._dataset(pairs(), tutor.tokenizer, None),
        processing_class=tutor.tokenizer,
    )
    plain.train()
    ours = further(first_round, tmp_path / "ours", **whole)
    assert losses(ours.log) == pytest.approx(losses(plain.state.log_history), abs=1e-4)


@pytest.mark.parametrize("precompute", [True, False])
def test_one_that_goes_on_from_a_checkpoint_ends_like_one_that_was_not_stopped(
    first_round: Path, tmp_path: Path, precompute: bool
):
    # checkpoints hold TRL's copy of the adapter too
    whole = further(first_round, tmp_path / "two", precompute_ref_log_probs=precompute)
    shutil.rmtree(tmp_path / "two" / "checkpoint-4")
    tutor = Tutor(first_round)
    args = dpo.arguments(
        node(learning_rate=5e-2, max_steps=4, precompute_ref_log_probs=precompute), tmp_path / "two", tracked=False
    )
    resumed = dpo.train(tutor.policy(), tutor.tokenizer, pairs(), pairs(3), args, None, "latest")
    assert losses(resumed.log) == pytest.approx(losses(whole.log), abs=1e-6)
    weights = whole.model.state_dict()
    assert list(resumed.model.peft_config) == ["default"]
    for name, value in resumed.model.state_dict().items():
        assert torch.allclose(value, weights[name], atol=1e-6), name


def test_one_adapter_is_left_and_it_went_on(first_round: Path, tmp_path: Path):
    outcome = further(first_round, tmp_path / "two")
    outcome.model.save_pretrained(str(tmp_path / "second"))
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (first_round, tmp_path / "second"))
    assert {path.name for path in (tmp_path / "second").iterdir() if path.is_dir()} == set()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    base = weights_module.load_base(Tutor(first_round).settings)
    loaded = adapters.load_adapter(base, tmp_path / "second")
    assert list(loaded.peft_config) == ["default"]


def test_an_earlier_round_that_changed_or_went_is_left_out(first_round: Path, tmp_path: Path):
    second = tmp_path / "second"
    shutil.copytree(first_round, second)
    made_from = read_json(second / MADE_FROM)
    previous = {"adapter": str(first_round), "sha256": Tutor(first_round).digest}
    write_json(second / MADE_FROM, made_from | {"previous": previous})
    (before,), missing = Tutor(second).earlier()
    assert (before.folder, missing) == (first_round, None)
    write_json(first_round / MADE_FROM, made_from | {"seed": 7})
    assert Tutor(second).earlier() == ([], f"{first_round} was trained anew since")
    shutil.rmtree(first_round)
    assert Tutor(second).earlier() == ([], f"{first_round} is gone")


def test_reference_scores_of_two_rounds_are_kept_apart(first_round: Path):
    tutor = Tutor(first_round)
    before = tutor.weights_identity()
    assert before != weights_module.weights_identity(tutor.settings)
    weights = first_round / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert Tutor(first_round).weights_identity() != before
