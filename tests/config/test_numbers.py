"""Every number of every config refuses what cannot be meant, in one line that names its key."""

import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import BaseModel

from socratic_rl.commands import cli, settings  # noqa: F401  the first brings resolvers of the configs
from socratic_rl.commands.mistakes import CONF
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import MADE_FROM

CONFIGS = {
    "generate": [
        "problems=starter conversations=auto generator=llama_cpp rejection=mixed splits=3 shard=0",
        *(f"problems={name}" for name in ("gsm8k", "gsm8k_socratic", "mathqa", "mathdial", "bridge")),
        "problems=jsonl problems.path={file}",
        "conversations=script rejection=weak_model generator=openai generator.model=any",
        "conversations=roleplay generator=transformers",
    ],
    "train": [
        "dataset.path={pairs} dpo.loss_weights=[1.0]",
        "dataset=hf dataset.path={file}",
        "dataset=ultrafeedback model=llama2_7b_8bit",
        "dataset=seed_csv dataset.path={csv} dataset.turns=3",
        "dataset=votes dataset.path={pairs}",
        "experiment=next_round adapter={adapter}",
    ],
    "evaluate": [
        "adapter={adapter}",
        "adapter={adapter} judge=mrbench",
        "adapter={adapter} judge=socratic_llm generator@judge.generator=openai judge.generator.model=any",
        *(f"adapter={{adapter}} suite={name}" for name in ("bridge", "mathdial", "student_gain", "ultrafeedback")),
        "suite=calibrate judge=mrbench suite.mrbench={file}",
        "adapter={adapter} dataset=hf dataset.path={file}",
    ],
    "chat": ["model=gemma3_1b", "adapter={adapter} ui=web", "model=gpt2 problems=gsm8k"],
    "export": ["adapter={adapter}"],
}
"""Overrides that together bring every option with a number of its own, by command."""


WRONG: Mapping[str, Any] = {
    "negative": -2,
    "infinite": math.inf,
    "not a number": math.nan,
    "huge": 1e31,
    "a truth value": True,
    "a word": "hot",
    "a list": [[1]],
    "a node": {"a": 1},
    "a half": 2.5,
}
FRACTIONS = {
    "temperature", "dpo.beta", "dpo.learning_rate", "dpo.num_train_epochs", "dpo.weight_decay", "dpo.max_grad_norm",
    "lora.lora_alpha", "generator.timeout", "generator.wait", "llm_int8_threshold", "weights", "loss_weights",
}  # fmt: skip
"""Keys, or the ends or groups of keys, that may be above 1 and not whole."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    paths = {"pairs": "pairs.jsonl", "file": "rows.jsonl", "csv": "rows.csv"}
    for name in paths.values():
        (folder / name).touch()
    (folder / "adapter").mkdir()
    (folder / "adapter" / MADE_FROM).write_text("{}")
    return {**{name: folder / file for name, file in paths.items()}, "adapter": folder / "adapter"}


def parsed(command: str, config: DictConfig) -> Any:
    return settings.parse(getattr(settings, f"{command.capitalize()}Settings"), config)


def composed(command: str, overrides: str, files: dict[str, Path]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(command, overrides=overrides.format(**files).split())


def numeric_keys(node: DictConfig, made: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config that hold a number, or take one where they are null."""
    for key in node:
        value, path = node[key], f"{prefix}{key}"
        if isinstance(value, DictConfig):
            inner = made.get(key) if isinstance(made, dict) else getattr(made, str(key), None)
            yield from numeric_keys(value, inner, f"{path}.")
        elif (
            (isinstance(value, int | float) and not isinstance(value, bool))
            or (value is None and takes_numbers(made, str(key)))
            or (OmegaConf.is_list(value) and value and isinstance(value[0], float))
        ):
            yield path


def takes_numbers(made: Any, key: str) -> bool:
    if not isinstance(made, BaseModel) or key not in type(made).model_fields:
        return False
    return bool({int, float} & set(types(type(made).model_fields[key].annotation)))


def types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in typing.get_args(annotation):
        yield from types(inner)


def wrong_values(key: str) -> list[str]:
    parts = [key, *key.split("."), ".".join(key.split(".")[-2:])]
    return [name for name in WRONG if name != "a half" or not FRACTIONS.intersection(parts)]


def refused(command: str, config: DictConfig, key: str, kind: str) -> str | None:
    """What is not right about how a wrong value is refused; None where one line names the key."""
    changed = config.copy()
    with open_dict(changed):
        OmegaConf.update(changed, key, WRONG[kind], merge=False)
    try:
        parsed(command, changed)
    except UserError as error:
        lines = str(error).splitlines()
        if len(lines) == 1 and lines[0].startswith(key) and len(lines[0]) < 200:
            return None
        return f"{command} {key} {kind}: {lines}"
    return f"{command} {key} {kind}: taken"


@pytest.fixture(scope="module")
def table(files: dict[str, Path]) -> list[tuple[str, DictConfig, str]]:
    """Each number once: its command, a config that has it, its dotted key."""
    found: dict[tuple[str, str, str], tuple[str, DictConfig, str]] = {}
    for command, variants in CONFIGS.items():
        for overrides in variants:
            config = composed(command, overrides, files)
            for key in numeric_keys(config, parsed(command, config)):
                group = key.rpartition(".")[0]
                kind = str((OmegaConf.select(config, group) if group else config).get("_target_", ""))
                found.setdefault((command, key, kind), (command, config, key))
    return list(found.values())


def test_the_table_has_every_number_of_the_configs(table: list[tuple[str, DictConfig, str]]):
    assert len({(command, key) for command, _, key in table}) >= 125


def test_a_sample_of_wrong_numbers_is_refused(table: list[tuple[str, DictConfig, str]]):
    faults = []
    for number, (command, config, key) in enumerate(table):
        kinds = wrong_values(key)
        faults.append(refused(command, config, key, kinds[number % len(kinds)]))
    assert not list(filter(None, faults))


@pytest.mark.slow
def test_every_wrong_number_is_refused(table: list[tuple[str, DictConfig, str]]):
    faults = [refused(command, config, key, kind) for command, config, key in table for kind in wrong_values(key)]
    assert not list(filter(None, faults))
