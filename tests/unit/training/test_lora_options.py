"""The base is the base under every option of an adapter: in the first step, for the reference, in an evaluation."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.models import weights
from socratic_rl.models.record import TutorRecord
from socratic_rl.models.scoring import score_pairs
from socratic_rl.models.tutor import Tutor
from socratic_rl.training import dpo, fields, saving
from tests.unit.training.test_dpo import ROOT, node
from tests.unit.training.test_same_steps import dialogues

BDLORA = {"_target_": "peft.tuners.lora.config.BdLoraConfig", "nblocks": 2, "target_modules_bd_a": ["q_proj"]}

TRAINED: dict[str, list[dict[str, Any]]] = {
    "r": [{"r": 2}],
    "target_modules": [{"target_modules": ["q_proj"]}, {"target_modules": ["embed_tokens", "q_proj"]}],
    "exclude_modules": [{"exclude_modules": ["v_proj"]}],
    "lora_alpha": [{"lora_alpha": 7}],
    "lora_dropout": [{"lora_dropout": 0.5}],
    "fan_in_fan_out": [{"fan_in_fan_out": True}],
    "bias": [{"bias": "all"}, {"bias": "lora_only"}],
    "use_rslora": [{"use_rslora": True}, {"use_rslora": True, "init_lora_weights": "pissa"}],
    "modules_to_save": [{"modules_to_save": ["lm_head"]}, {"modules_to_save": ["embed_tokens"]}],
    "init_lora_weights": [
        *({"init_lora_weights": name} for name in (True, "gaussian", "orthogonal", "mica", "pissa", "pissa_niter_2")),
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "olora", "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3, "v_proj": 5}},
    ],
    "layers_to_transform": [{"target_modules": ["q_proj"], "layers_to_transform": [0]}],
    "layers_pattern": [{"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"}],
    "rank_pattern": [{"rank_pattern": {"q_proj": 2}}],
    "alpha_pattern": [{"alpha_pattern": {"q_proj": 2}}],
    "trainable_token_indices": [{"trainable_token_indices": [60, 61, 62]}],
    "use_dora": [{"use_dora": True}],
    "runtime_config": [{"runtime_config": {"_target_": "peft.LoraRuntimeConfig"}}],
    "lora_bias": [{"lora_bias": True, "target_modules": ["q_proj"]}],
    "use_bdlora": [{"use_bdlora": BDLORA | {"match_strict": False}}],
    "ensure_weight_tying": [{"ensure_weight_tying": True}],
}
REFUSED: dict[str, list[Any]] = {
    "task_type": ["SEQ_CLS"],
    "peft_type": ["LOHA"],
    "auto_mapping": [{"base_model_class": "x"}],
    "peft_version": ["0.1"],
    "base_model_name_or_path": ["x"],
    "revision": ["main"],
    "inference_mode": [True],
    "init_lora_weights": [False, "eva", "corda", "loftq", "lora_ga", "nonsense", "pissa_niter_0"],
    "megatron_config": [{"a": 1}],
    "megatron_core": ["x"],
    "loftq_config": [{"loftq_bits": 4}],
    "eva_config": [{"rho": 1}],
    "corda_config": [{"cache_file": "x"}],
    "lora_ga_config": [{"a": 1}],
    "velora_config": [{"num_groups": 4}],
    "alora_invocation_tokens": [[1]],
    "use_qalora": [True],
    "qalora_group_size": [8],
    "layer_replication": [[[0, 2], [1, 2]]],
    "monteclora_config": [{"a": 1}],
    "arrow_config": [{"top_k": 1}],
    "kasa_config": [{"beta": 0.1}],
}
OF_THE_MODEL = {"target_parameters": {"target_parameters": ["mlp.gate_proj.weight"]}}
"""What PEFT itself refuses for a model that has no such weights."""

CASES = [changes for cases in TRAINED.values() for changes in cases]
EVERY_DAY = [
    {"bias": "all"},
    {"init_lora_weights": "pissa_niter_2"},
    {"use_rslora": True, "init_lora_weights": "pissa"},
    {"target_modules": ["embed_tokens", "q_proj"]},
]


@pytest.fixture(scope="module")
def base(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelSettings:
    """A tiny Llama with biases, which are not zero."""
    folder = tmp_path_factory.mktemp("biased")
    weights.tokenizer_from(str(tiny_llama)).save_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(tiny_llama, attention_bias=True, mlp_bias=True, initializer_range=0.1)
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_(0, 0.1)
    model.save_pretrained(folder)
    return ModelSettings(
        name="tiny", pretrained=str(folder), revision=None, dtype="auto", attn_implementation="sdpa", quantization=None
    )


def lora(**changes: Any) -> LoraConfig:
    shipped = OmegaConf.load(ROOT / "conf" / "lora" / "default.yaml")
    return fields.lora_config(OmegaConf.merge(shipped, {"r": 4}, changes))


def train(base: ModelSettings, adapter: LoraConfig | None, folder: Path, model: Any = None, **changes: Any) -> Any:
    settings = {"save_strategy": "no", "max_steps": 3, "learning_rate": 1e-2, "warmup_steps": 0} | changes
    args = dpo.arguments(node(**settings), folder, tracked=False)
    tokenizer, pairs = weights.load_tokenizer(base), dialogues(4)
    return dpo.train(model or weights.load_base(base), tokenizer, pairs, pairs[:2], args, adapter, None, forest=True)


def save(base: ModelSettings, outcome: dpo.Outcome, folder: Path) -> Tutor:
    dpo_settings = {"beta": 0.1, "learning_rate": 1e-2, "loss_type": ["sigmoid"], "max_length": 512}
    record = TutorRecord(model=base, dpo=dpo_settings, lora={"r": 4, "lora_alpha": 32})
    saving.save(outcome.model, weights.load_tokenizer(base), folder, record, outcome.weights, outcome.first)
    return Tutor(folder)


def check_first_step(outcome: dpo.Outcome) -> None:
    rows = [row for row in outcome.log if "loss" in row]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert rows[1]["loss"] != pytest.approx(math.log(2), abs=1e-5), "nothing is trained"


@pytest.mark.parametrize(
    "changes",
    # three steps each
    [pytest.param(changes, marks=() if changes in EVERY_DAY else pytest.mark.slow) for changes in CASES],
    ids=str,
)
def test_the_base_is_the_base(base: ModelSettings, tmp_path: Path, changes: dict[str, Any]):
    known, asked = (
        train(base, lora(**changes), tmp_path, precompute_ref_log_probs=beforehand) for beforehand in (True, False)
    )
    check_first_step(known)
    check_first_step(asked)
    curves = [[row["rewards/margins"] for row in outcome.log if "loss" in row] for outcome in (known, asked)]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3, abs=1e-3)
    assert known.held_out == pytest.approx(asked.held_out, rel=1e-3, abs=1e-3)

    pairs, tokenizer = dialogues(4), weights.load_tokenizer(base)
    expected = {
        "base": score_pairs(weights.load_base(base), tokenizer, pairs),
        "tutor": score_pairs(asked.model, tokenizer, pairs),
    }
    tutor = save(base, asked, tmp_path / "adapter")
    # what a first round leaves is read beside a later one
    for opened, name in ((tutor.tutor, "tutor"), (tutor.base, "base"), (lambda: tutor.round(tutor), "tutor")):
        with opened() as model:
            scores = score_pairs(model, tokenizer, pairs)
        assert scores.chosen == pytest.approx(expected[name].chosen, abs=2e-3)
        assert scores.rejected == pytest.approx(expected[name].rejected, abs=2e-3)
    assert abs(expected["base"].chosen - expected["tutor"].chosen).max() > 0.005

    # trained further, it is its own reference
    further = train(base, None, tmp_path, model=tutor.policy(), precompute_ref_log_probs=False)
    check_first_step(further)


def test_each_option_is_trained_with_or_refused():
    names = {field.name for field in dataclasses.fields(LoraConfig)}
    assert names == {*TRAINED, *REFUSED, *OF_THE_MODEL}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values])
def test_what_cannot_begin_as_its_base_is_refused_by_name(key: str, value: Any):
    with pytest.raises(UserError, match=rf"^lora\.{key}: ") as error:
        lora(**{key: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rr": 1}, r"^lora\.rr: is no field of LoraConfig; did you mean lora\.r\?$"),
        ({"layers_to_transform": [0, 1]}, r"^lora\.layers_to_transform: .*target_modules"),
        ({"rr": 1, "use_dorra": True}, r"^lora\.rr: .*\nlora\.use_dorra: .*lora\.use_dora\?$"),
    ],
)
def test_what_peft_does_not_take_is_told_by_its_key(changes: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        lora(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, r"^lora\.target_modules: .*lm_head"),
        ({"target_modules": ["none_such"]}, r"^lora\.target_modules: .*none_such"),
        (OF_THE_MODEL["target_parameters"], r"^lora\.target_\w+: "),
    ],
)
def test_what_the_model_does_not_take_is_told_by_its_key(
    base: ModelSettings, tmp_path: Path, changes: dict[str, Any], told: str
):
    with pytest.raises(UserError, match=told) as error:
        train(base, lora(**changes), tmp_path)
    assert "\n" not in str(error.value)
