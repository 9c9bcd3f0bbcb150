from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from socratic_rl.commands import cli  # noqa: F401  it brings resolvers of the configs
from socratic_rl.commands.settings import TrainSettings, parse
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import differences
from socratic_rl.pairs.dataset import SocraticPairs

CONF = Path(__file__).parents[3] / "conf"


def train_config(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[*overrides])


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    path = tmp_path / "pairs.jsonl"
    path.touch()
    return f"dataset.path={path}"


def test_a_right_config_becomes_plain_values_and_components(pairs: str):
    settings = parse(TrainSettings, train_config(pairs, "dpo.beta=0.3", "lora=none"))
    assert settings.dpo.beta == 0.3
    assert settings.lora is None
    assert isinstance(settings.dataset, SocraticPairs)


def test_every_mistake_is_reported_together():
    overrides = [
        "dpo.beta=abc",
        "dpo.learning_rate=0",
        "dpo.loss_type=[sigmoid,nope]",
        "lora.r=0",
        "dataset.path=nowhere.jsonl",
        "+dataset.unknown=1",
        "model.dtype=float8",
        "wandb.mode=sometimes",
        "seed=-1",
    ]
    with pytest.raises(UserError) as error:
        parse(TrainSettings, train_config(*overrides))
    told = dict(line.split(": ", 1) for line in str(error.value).splitlines())
    assert set(told) == {
        "dpo.beta",
        "dpo.learning_rate",
        "dpo.loss_type.1",
        "lora.r",
        "dataset.unknown",
        "model.dtype",
        "wandb.mode",
        "seed",
    }
    assert told["dpo.beta"] == "Input should be a valid number, unable to parse string as a number (got 'abc')"


@pytest.mark.parametrize("losses", ["[sigmoid]", "[sigmoid,sft]", "[hinge]", "[ipo]", "[apo_zero]"])
def test_label_smoothing_that_no_loss_reads_is_refused(pairs: str, losses: str):
    with pytest.raises(UserError, match=r"^dpo\.label_smoothing: TRL's .* does not read it; dpo\.loss_type=\[robust\]"):
        parse(TrainSettings, train_config(pairs, "dpo.label_smoothing=0.1", f"dpo.loss_type={losses}"))


@pytest.mark.parametrize("losses", ["[robust]", "[exo_pair]", "[aot,sft]", "[aot_unpaired]"])
def test_label_smoothing_that_a_loss_reads_is_taken(pairs: str, losses: str):
    config = train_config(pairs, "dpo.label_smoothing=0.1", f"dpo.loss_type={losses}")
    assert parse(TrainSettings, config).dpo.label_smoothing == 0.1


def test_a_missing_file_is_named(pairs: str):
    with pytest.raises(UserError, match=r"^dataset\.path: nowhere\.jsonl: no such file"):
        parse(TrainSettings, train_config("dataset.path=nowhere.jsonl"))


def test_a_key_that_must_be_set_is_named(pairs: str):
    with pytest.raises(UserError, match=r"model\.pretrained: is needed and not set"):
        parse(TrainSettings, train_config(pairs, "model.pretrained=???"))


def test_differences_name_the_keys():
    old, new = {"a": 1, "b": {"c": 1, "d": 2}}, {"a": 1, "b": {"c": 3, "d": 2}, "e": None, "f": 4}
    assert list(differences(old, new)) == ["b.c: 1 → 3", "f: None → 4"]
