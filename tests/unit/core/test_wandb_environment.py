"""Where a W&B run goes: the command line before the environment before the presets."""

from typing import Any

import pytest
from pydantic import ValidationError

from socratic_rl.core.component import WandbSettings, wandb_from_environment

ENVIRONMENT = {
    "WANDB_MODE": "online",
    "WANDB_PROJECT": "theirs",
    "WANDB_ENTITY": "team",
    "WANDB_NAME": "first try",
    "WANDB_RUN_GROUP": "tries",
    "WANDB_TAGS": "a, b,,c",
    "PATH": "/bin",
}
KEYS = {
    "mode": "online",
    "project": "theirs",
    "entity": "team",
    "name": "first try",
    "group": "tries",
    "tags": ["a", "b", "c"],
}


@pytest.mark.parametrize(
    ("overrides", "said_there"),
    [
        ([], ()),
        (["experiment=demo", "dpo.beta=0.1"], ()),
        (["wandb.project=mine"], ("project",)),
        (["+wandb.tags=[x]", "wandb.name=y"], ("tags", "name")),
        (["wandb=disabled"], ("mode",)),
        (["wandb.mode=offline"], ("mode",)),
        ([f"wandb.{key}=x" for key in KEYS], tuple(KEYS)),
    ],
)
def test_the_environment_says_what_the_command_line_does_not(overrides: list[str], said_there: tuple[str, ...]):
    expected = {key: value for key, value in KEYS.items() if key not in said_there}
    assert wandb_from_environment(overrides, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"WANDB_PROJECT": "", "WANDB_TAGS": ""}, {}),
        ({"WANDB_DISABLED": "true"}, {"mode": "disabled"}),
        ({"WANDB_DISABLED": "false"}, {}),
    ],
)
def test_what_is_empty_says_nothing(environment: dict[str, str], expected: dict[str, Any]):
    assert wandb_from_environment([], environment) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("project", f"a{letter}b") for letter in "/\\#?%:"),
        ("project", ""),
        ("project", "p" * 129),
        ("tags", ["fits", "t" * 65]),
        ("tags", [""]),
        ("name", "n" * 129),
        ("group", "g" * 129),
        ("mode", "sometimes"),
    ],
)
def test_what_wandb_refuses_is_refused_before_anything_starts(key: str, value: Any):
    fine = {"mode": "offline", "project": "p", "entity": None, "name": None, "group": None, "tags": ("t" * 64,)}
    WandbSettings.model_validate(fine)
    with pytest.raises(ValidationError) as error:
        WandbSettings.model_validate(fine | {key: value})
    assert error.value.errors()[0]["loc"][0] == key
