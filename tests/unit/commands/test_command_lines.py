"""Wrong command lines: each mistake is told in one clear line that names its key, in this process."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from socratic_rl.commands import cli, sweeps
from socratic_rl.commands.mistakes import CONF
from socratic_rl.core import embedded
from socratic_rl.core.provenance import MADE_FROM


class StoryBegunError(Exception):
    """The command line was taken."""


class Ended(NamedTuple):
    code: int
    lines: list[str]
    """The lines of mistakes."""
    printed: str


Start = Callable[..., Ended]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Runs a command line in an empty folder, up to where what it starts would be imported."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    load = cli.importlib.import_module

    def refuse(name: str, package: str | None = None) -> object:
        if name.removeprefix("socratic_rl.commands.") in cli.COMMANDS:
            raise StoryBegunError(name)
        return load(name, package)

    monkeypatch.setattr(cli.importlib, "import_module", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    make_files(tmp_path)

    def run(command: str, *arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *arguments])
        monkeypatch.setattr(sweeps, "started", None)

        @hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)
        def main(cfg: object) -> object:
            return cli.job(command, cfg)

        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                cli.run(main, command)
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except StoryBegunError:
                code = 0
        text = printed.getvalue()
        lines = [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")]
        return Ended(code, lines, text)

    yield run
    GlobalHydra.instance().clear()
    root.handlers[:] = handlers
    root.setLevel(level)


def make_files(folder: Path) -> None:
    """What stands in a user's folder: pairs, a text, a tutor, configs of their own."""
    (folder / "pairs.jsonl").touch()
    (folder / "text.txt").write_text("x")
    (folder / "tutor").mkdir()
    (folder / "tutor" / MADE_FROM).write_text("{}")
    own = folder / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "typo.yaml").write_text("# @package _global_\nseeed: 1\n")
    (own / "tab.yaml").write_text("# @package _global_\nseed:\n\t1\n")
    (own / "double.yaml").write_text("# @package _global_\nseed: 1\nseed: 2\n")
    (own / "nomodel.yaml").write_text("# @package _global_\ndefaults:\n  - override /model: nope\n")
    (own / "good.yaml").write_text("# @package _global_\nseed: 5\n")
    (folder / "own" / "mine.yaml").write_text("defaults:\n  - train\n  - _self_\nseed: 7\n")


def is_told(ended: Ended, *starts: str) -> str | None:
    """What is not right about how mistakes were told; None where each has one line that begins as it should."""
    if ended.code != 2 or "Traceback" in ended.printed or len(ended.lines) != len(starts):
        return ended.printed or "taken"
    for line, begins in zip(sorted(ended.lines), sorted(starts), strict=True):
        if not line.startswith(begins) or len(line) > 600 or line.endswith((":", "None")):
            return ended.printed
    return None


# ---- a table of keys and kinds of mistakes ----

NEEDED = {
    "generate": [],
    "train": ["dataset.path=pairs.jsonl"],
    "evaluate": ["adapter=tutor"],
    "chat": ["adapter=tutor"],
    "export": ["adapter=tutor"],
}
NUMBERS = {
    "generate": ["seed", "splits", "num_shards", "problems.limit", "generator.n_ctx", "generator.top_p", "pairs.test"],
    "train": ["seed", "samples", "dpo.beta", "dpo.max_steps", "lora.r", "dataset.limit", "sampling.temperature"],
    "evaluate": ["seed", "limit", "resamples", "sampling.max_new_tokens", "sampling.batch_size"],
    "chat": ["seed", "sampling.top_p"],
    "export": ["check_turns"],
}
CHOICES = {
    "generate": ["stop_after"],
    "train": ["model.dtype", "dpo.lr_scheduler_type", "dpo.train_sampling_strategy", "wandb.mode", "lora.bias"],
    "evaluate": ["split", "backend"],
    "chat": ["backend"],
    "export": ["format", "dtype"],
}
GROUPS = {
    "generate": ["problems", "conversations", "generator", "rejection", "wandb"],
    "train": ["model", "dataset", "dpo", "lora", "experiment"],
    "evaluate": ["suite", "judge", "dataset", "sampling"],
    "chat": ["model", "ui", "problems"],
    "export": [],
}
PATHS = {
    "generate": ["generator.model_path"],
    "train": ["adapter", "dataset.path"],
    "evaluate": ["adapter", "gguf"],
    "chat": ["adapter", "gguf"],
    "export": ["adapter", "base_gguf"],
}
SWITCHES = {
    "generate": ["csv"],
    "train": ["hub.push"],
    "evaluate": ["hub.private"],
    "chat": ["with_base"],
    "export": ["check"],
}


Wrong = tuple[str, list[str], tuple[str, ...]]
"""A command, its arguments, and how the lines begin that tell its mistakes."""


def wrong_lines() -> Iterator[Wrong]:
    for command, needed in NEEDED.items():
        for key in NUMBERS[command]:
            yield command, [*needed, f"{key}=hot"], (f"{key}: ",)
            yield command, [*needed, f"{key}=[1,2]"], (f"{key}: ",)
            yield command, [*needed, f"{key}=-2"], (f"{key}: ",)
            yield command, [*needed, f"{key}=1e31"], (f"{key}: ",)
            yield command, [*needed, f"{key}=true"], (f"{key}: ",)
            yield command, [*needed, f"{key}='1"], (f"{key}: ",)
            yield command, [*needed, f"{key}=[1,"], (f"{key}: ",)
        for key in CHOICES[command]:
            yield command, [*needed, f"{key}=nonsense"], (f"{key}: ",)
            yield command, [*needed, f"{key}="], (f"{key}: ",)
        for key in SWITCHES[command]:
            yield command, [*needed, f"{key}=perhaps"], (f"{key}: ",)
        for key in GROUPS[command]:
            yield command, [*needed, f"{key}=nope"], (f"{key}: there is no option 'nope'",)
            yield command, [*needed, f"{key}=7"], (f"{key}: there is no option",)
        for key in PATHS[command]:
            yield command, without(needed, key, f"{key}=no/such.file"), (f"{key}: no/such.file: ",)
            yield command, without(needed, key, f"{key}=no such (file), 'here'=1"), (f"{key}: ",)
            wrong_kind = "text.txt" if key == "adapter" or "gguf" in key or "model_path" in key else "own"
            yield command, without(needed, key, f"{key}={wrong_kind}"), (f"{key}: ",)
        keys = [*NUMBERS[command], *CHOICES[command], *SWITCHES[command], *PATHS[command]]
        for key in keys[::2]:
            yield command, [*needed, f"{key}x=1"], (f"{key}x: there is no such key (did you mean",)
            yield command, [*needed, f"{key}=1,2"], (f"{key}: 1,2: several values are a sweep, which needs -m",)
            yield command, [*needed, f"--{key}=1"], (f"--{key}=1: there is no such option",)
            yield command, [*needed, key], (f"{key}: is no key=value",)
            yield command, [*needed, key, "=", "1"], (f"{key} = 1: no spaces",)
        for first, second in zip(NUMBERS[command], CHOICES[command], strict=False):
            yield command, [*needed, f"{first}=hot", f"{second}=nonsense"], (f"{first}: ", f"{second}: ")
            yield command, [*needed, f"{first}x=1", f"{second}=nonsense"], (f"{first}x: ", f"{second}: ")


def without(needed: list[str], key: str, given: str) -> list[str]:
    """The overrides with one in place of the key's own."""
    backend = ["backend=llama_cpp"] if key == "gguf" else []
    return [*(text for text in needed if not text.startswith(f"{key}=")), *backend, given]


def faults(start: Start, table: list[Wrong]) -> list[str]:
    found = []
    for command, arguments, starts in table:
        if fault := is_told(start(command, *arguments), *starts):
            found.append(f"{command} {arguments}: {fault}")
    return found


def test_a_sample_of_wrong_command_lines_is_told_in_one_line_each(start: Start):
    assert not faults(start, list(wrong_lines())[3::13])


@pytest.mark.slow
def test_every_wrong_command_line_is_told_in_one_line_each(start: Start):
    table = list(wrong_lines())
    assert len(table) > 300
    assert not faults(start, table)


# ---- the user's own configs, and what is taken as it is meant ----


OWN = ["--config-dir", "own", "dataset.path=pairs.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config-dir", "nowhere"], "--config-dir: nowhere: no such folder"),
        (["--config-name", "nope"], "--config-name: nope: "),
        ([*OWN, "experiment=nope"], "experiment: there is no option 'nope'; the options are demo, "),
        ([*OWN, "experiment=typo"], "seeed: there is no such key (did you mean 'seed'?)"),
        ([*OWN, "experiment=tab"], "{folder}/own/experiment/tab.yaml:3: cannot be read as YAML: "),
        ([*OWN, "experiment=double"], "{folder}/own/experiment/double.yaml:3: cannot be read as YAML: found duplicate"),
        ([*OWN, "experiment=nomodel"], "experiment=nomodel: model: there is no option 'nope'"),
        ([*OWN, "experiment=good", "dpo.bta=1"], "dpo.bta: there is no such key (did you mean 'beta'?)"),
        ([*OWN, "--config-name", "mine", "dpo.bta=1"], "dpo.bta: there is no such key (did you mean 'beta'?)"),
        (["hydra.searchpath=[own]", "experiment=good", "dpo.bta=1", OWN[-1]], "dpo.bta: there is no such key"),
        ([OWN[-1], "experiment=demo_data"], "experiment: demo_data sets splits: it is for "),
        ([OWN[-1], "output_dir="], "output_dir: "),
        ([OWN[-1], "output_dir=null"], "output_dir: must be text"),
        ([OWN[-1], "output_dir=text.txt"], "text.txt: is in the way of a folder"),
        ([OWN[-1], "output_dir=/proc"], "output_dir: /proc: cannot be written"),
        ([OWN[-1], "dataset._target_=joblib.load"], "dataset: has no class of ours in _target_ (got 'joblib.load')"),
        ([OWN[-1], "+dpo.beta=1"], "+dpo.beta: is there already; leave the plus out: dpo.beta=1"),
        ([OWN[-1], "seed=" + "1" * 5000], "seed: "),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_mistake_in_ones_own_configs_or_outside_of_keys_is_told(start: Start, arguments: list[str], told: str):
    assert is_told(start("train", *arguments), told.format(folder=Path.cwd())) is None


def test_an_experiment_for_another_command_is_named_with_its_command(start: Start):
    assert start("generate", "experiment=demo").lines[0].endswith("it is for python train.py")
    assert start("evaluate", "adapter=tutor", "experiment=demo").lines[0].endswith("it is for python train.py")


@pytest.mark.parametrize(
    "name", ["a=b", "a (1)", "a,b", "it's", 'say "x"', "a {b}", "a[1]", "5", "a  b ", r"a\b", "é#%"]
)
def test_a_path_is_taken_as_it_stands(start: Start, name: str):
    folder = Path(name)
    folder.mkdir()
    (folder / "pairs.jsonl").touch()
    assert start("train", f"dataset.path={name}/pairs.jsonl", f"output_dir={name}", "dpo.max_steps=1").code == 0
    assert (folder / ".hydra").is_dir()


@pytest.mark.parametrize("name", ["a=b", "a,b", "it's"])
def test_a_path_is_taken_as_it_stands_in_a_sweep(start: Start, name: str):
    Path(name).mkdir()
    (Path(name) / "pairs.jsonl").touch()
    ended = start(
        "train",
        "-m",
        f"dataset.path={name}/pairs.jsonl,pairs.jsonl" if "," not in name else f"dataset.path={name}/pairs.jsonl",
        "output_dir=out",
    )
    assert "no such file" not in ended.printed


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "lora=null", OWN[-1]],
        # Hydra has moved the job into its folder then
        ["train", "hydra.job.chdir=true", OWN[-1]],
        ["train", "~lora", OWN[-1]],
        ["train", "model=null", "experiment=next_round", "adapter=tutor"],
        ["train", "experiment=null", OWN[-1]],
        ["evaluate", "suite=null", "judge=null", "adapter=tutor"],
        ["chat", "model=null", "adapter=tutor"],
        ["train", "seed=3", "--config-dir", "own", "experiment=good", OWN[-1]],
    ],
    ids=" ".join,
)
def test_what_is_right_is_taken(start: Start, arguments: list[str]):
    ended = start(*arguments)
    assert (ended.code, ended.lines) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "model=nope", OWN[-1]], "model: there is no option 'nope'; the options are "),
        (["train", "seeed=1", OWN[-1]], "seeed: there is no such key (did you mean 'seed'?)"),
        (["generate", "stop_after=nothing"], "stop_after: Input should be 'problems', 'conversations' or 'pairs'"),
        (["generate", "problems=mathqa", "problems.path=nowhere.jsonl"], "problems.path: nowhere.jsonl"),
        (["generate", "generator.model_path=nowhere.gguf"], "generator.model_path: nowhere.gguf"),
        (["generate", "generator.temperature=hot"], "generator.temperature: Input should be a valid number"),
        (["evaluate"], "adapter: is needed and not set"),
        (["evaluate", "adapter=nowhere"], "adapter: nowhere: no such folder"),
        (["evaluate", "adapter=nowhere", "prompt=Two, or (3)?"], "adapter: nowhere: no such folder"),
        (["evaluate", "adapter=nowhere", "prompt="], "prompt: String should have at least 1 character"),
        (["train", "hub.push=true", OWN[-1]], "hub.repo_id: is needed with hub.push=true: hub.repo_id=OWNER/NAME"),
        (["train", "hub.repo_id=me/a/b", OWN[-1]], "hub.repo_id: must be OWNER/NAME"),
        (["train", "hub.token=hf_x", OWN[-1]], "hub.token: there is no such key"),
        (["chat"], "model: nobody to talk to: adapter=FOLDER, or a base model alone"),
        (["evaluate"], "adapter: is needed and not set"),
        (["chat", "adapter=nowhere"], "adapter: nowhere: no such folder"),
        (["chat", "adapter=nowhere", "model=gpt2"], "model: an adapter brings its own base"),
        (["chat", "adapter=nowhere", "with_base=true"], "adapter: nowhere: no such folder"),
        (
            ["chat", "model=gpt2", f"gguf={embedded.gguf_path()}"],
            "gguf: is not read by transformers; backend=llama_cpp",
        ),
        (["chat", "adapter=nowhere", "ui=web", "with_base=true"], "with_base: is of the terminal; on the page both"),
        (["chat", "model=gpt2", "web.port=1"], "web.port: is there only with ui=web"),
        (["chat", "model=gpt2", "with_base=true"], "with_base: there is no tutor to put beside the base"),
        (["generate", "shard=4", "num_shards=4"], "shard: there are 4 shards (num_shards), counted from 0"),
        (["train", "rejection=constant", OWN[-1]], "rejection: is there only with dataset=seed_csv"),
        (["train", "generator.model=gpt2", OWN[-1]], "generator.model: is there only with dataset=seed_csv"),
        (["train", "dataset=seed_csv"], "dataset.path: is needed and not set"),
        (
            ["train", "dataset=seed_csv", "dataset.path=no.csv", "rejection=irrelevant"],
            "dataset.path: no.csv: no such file",
        ),
        (
            ["train", "generator.model=x", "dataset=seed_csv", "generator=openai", "rejection=nope"],
            "rejection: there is no option",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_config_names_its_key(start: Start, arguments: list[str], told: str):
    ended = start(*arguments)
    # what is not there is a mistake of its own
    others = ["dataset.path: is needed"] * ("rejection=nope" in arguments)
    others += ["adapter: nowhere: no such folder"] * ("adapter=nowhere" in arguments and not told.startswith("adapter"))
    assert is_told(ended, told, *others) is None
