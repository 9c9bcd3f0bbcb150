"""Every YAML under conf/ composes, and says what its keys are for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from socratic_rl.commands import cli  # noqa: F401  its resolver is part of the configs

CONF = Path(__file__).parents[2] / "conf"
PRIMARIES = sorted(path.stem for path in CONF.glob("*.yaml"))
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
REQUIRED = {primary: ["adapter=some/adapter"] for primary in ("evaluate", "export")}


def groups(primary: str) -> list[str]:
    """The config groups in a primary's defaults list."""
    defaults = OmegaConf.load(CONF / f"{primary}.yaml").defaults
    return [
        str(next(iter(entry))).removeprefix("override ").lstrip("/") for entry in defaults if not isinstance(entry, str)
    ]


def made_for(experiment: str, primary: str) -> bool:
    """Whether an experiment's launch command names this entry point."""
    return f"{primary}.py" in (CONF / "experiment" / f"{experiment}.yaml").read_text().split("\n\n")[0]


def options() -> list[tuple[str, str]]:
    """Every option file, with each primary that has its group."""
    return [
        (primary, f"{file.parent}={file.stem}")
        for file in FILES
        for primary in PRIMARIES
        if str(file.parent) in groups(primary) and (file.parts[0] != "experiment" or made_for(file.stem, primary))
    ]


@pytest.mark.parametrize("primary", PRIMARIES)
def test_a_primary_config_composes_and_resolves(primary: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(primary, overrides=REQUIRED.get(primary, []))
    OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize(("primary", "override"), options())
def test_an_option_composes(primary: str, override: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(primary, overrides=[override, *REQUIRED.get(primary, [])])
    OmegaConf.to_container(cfg, resolve=True)


def test_no_option_is_out_of_reach():
    reached = {override for _, override in options()} | set(chosen_by_options())
    for file in FILES:
        if file.parent != Path() and file.parts[0] not in {"hydra", "accelerate"}:
            assert f"{file.parent}={file.stem}" in reached, f"no other config has the group of conf/{file}"


def chosen_by_options() -> Iterator[str]:
    """What an option takes from another group: `/quantization@quantization: nf4` in a model's defaults list."""
    for file in FILES:
        for entry in OmegaConf.load(CONF / file).get("defaults", []) if file.parent != Path() else []:
            if not isinstance(entry, str):
                ((group, option),) = entry.items()
                yield f"{group.lstrip('/').partition('@')[0]}={option}"


@pytest.mark.parametrize("launcher", [file.stem for file in FILES if file.parent == Path("hydra/launcher")])
def test_a_launcher_composes_and_is_what_its_plugin_takes(launcher: str):
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.warns(UserWarning, match="ConfigStore schema"):
        # Hydra checks a preset against the plugin's schema of the same name
        cfg = compose("train", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    assert cfg.hydra.launcher._target_.startswith("hydra_plugins.")


@pytest.mark.parametrize(
    ("name", "kind"), [("cpu", "MULTI_GPU"), ("ddp", "MULTI_GPU"), ("fsdp", "FSDP"), ("zero3", "DEEPSPEED")]
)
def test_accelerate_reads_its_configs(name: str, kind: str):
    from accelerate.commands.config.config_args import load_config_from_file

    settings = load_config_from_file(str(CONF / "accelerate" / f"{name}.yaml"))
    assert settings.distributed_type.value == kind
    assert settings.num_processes == 2


@pytest.mark.parametrize("name", ["fsdp", "zero3"])
def test_accelerate_knows_the_keys_of_sharding(name: str):
    from accelerate.commands.launch import launch_command_parser

    nodes = OmegaConf.load(CONF / "accelerate" / f"{name}.yaml")
    node = nodes.get("fsdp_config") or nodes.deepspeed_config
    # accelerate drops a key that it does not know without a word
    assert set(node) <= set(vars(launch_command_parser().parse_args(["train.py"])))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_key_has_a_comment_above_it(file: Path):
    lines = (CONF / file).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "the file does not say what it is for"
    block = None
    for number, line in enumerate(lines):
        if not (key := re.match(r"( *)([\w]+):(?: |$)", line)):
            continue
        depth = len(key[1])
        if block is not None and depth > block:
            continue
        # Hydra's own nodes are documented by Hydra
        block = depth if key[2] in {"hydra", "defaults"} or line.endswith("|") else None
        if block is None and not key[2].startswith("_"):
            assert lines[number - 1].strip().startswith("#"), f"conf/{file}:{number + 1}: no comment above {key[2]!r}"
