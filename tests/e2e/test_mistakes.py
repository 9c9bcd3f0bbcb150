"""What a user gets wrong ends in one clear line, exit code 1 or 2, no traceback, and nothing lost."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import mistakes, run, run_process

FILE = "dataset.path=pyproject.toml"
"""A file that exists: what is in it is not read before the config is right."""


def test_help_and_cfg_answer_without_torch(tmp_path: Path):
    scripts = {
        "generate.py": [],
        "train.py": [],
        "evaluate.py": ["adapter=x"],
        "export.py": ["adapter=x"],
        "chat.py": [],
    }
    for script, needed in scripts.items():
        for flags in (["--help"], ["--cfg", "job"]):
            code = (
                "import runpy, sys; sys.argv = sys.argv[1:]\n"
                "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
                "except SystemExit as done: assert not done.code\n"
                "assert not {'torch', 'transformers', 'llama_cpp', 'datasets'} & set(sys.modules)"
            )
            # what it imports is known of a process alone
            done = run_process("-c", code, script, *needed, *flags)
            assert "output_dir" in done.stdout


def test_all_mistakes_of_a_command_line_are_told_together():
    assert mistakes(
        "train.py", "dpo.bta=1", "model=nope", "dpo.beta=-1", "dpo.learning_rate=abc", "dataset.path=no.jsonl"
    ) == [
        "dpo.bta: there is no such key (did you mean 'beta'?); any other field of trl.DPOConfig is added by +dpo.bta=1",
        *mistakes("train.py", "model=nope", FILE),
        "dpo.beta: Input should be greater than 0 (got -1)",
        "dpo.learning_rate: Input should be a valid number, unable to parse string as a number (got 'abc')",
        "dataset.path: no.jsonl: no such file; python generate.py makes one",
    ]
    assert mistakes("evaluate.py", "adaptr=x") == [
        "adaptr: there is no such key (did you mean 'adapter'?)",
        "adapter: is needed and not set",
    ]


PAIRS = "dataset.path={data}/pairs.jsonl"
TUTOR = "adapter={trained}/adapter"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train.py", "dataset=seed_csv", FILE], "dataset.path: pyproject.toml:1: no column 'Prompt'"),
        (["train.py", "dataset=hf", "dataset.path=no-such/set"], "dataset.path: no-such/set[train]: neither a local"),
        (
            ["train.py", "model=llama2_7b_4bit", "lora=none", "model.pretrained={tiny_llama}", PAIRS],
            "lora: tiny-llama is quantised",
        ),
        (
            ["train.py", "experiment=next_round", TUTOR, "output_dir={trained}"],
            "output_dir: {trained} holds a tutor of another config",
        ),
        (["train.py", "experiment=next_round", TUTOR, "model=gpt2"], "model: an adapter brings its own base"),
        (["chat.py", TUTOR, "backend=llama_cpp"], "backend: there is no GGUF file of the tutor yet: python export.py"),
        (["chat.py", TUTOR, "ui=web", "web.host=no.such.host.invalid"], "web.host: no.such.host.invalid: "),
        (["export.py", TUTOR], "base_gguf: the adapter is checked on a GGUF file of its base, tiny-llama: give one"),
        (["export.py", TUTOR, "base_gguf={trained}/adapter/README.md"], "base_gguf: "),
        (
            ["export.py", TUTOR, "output_dir={trained}/adapter", "base_gguf={tiny_gguf}"],
            "output_dir: {trained}/adapter: is the tutor's own folder",
        ),
        (
            ["export.py", TUTOR, "format=merged", "base_gguf={tiny_gguf}"],
            "base_gguf: format=merged has nothing to do with a GGUF file",
        ),
        (["export.py", TUTOR, "format=ggml"], "format: Input should be 'gguf', 'merged_gguf' or 'merged'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_about_data_and_tutors_is_told_first(
    arguments: list[str], told: str, request: pytest.FixtureRequest, tmp_path: Path
):
    def filled(text: str) -> str:
        """The text with the fixtures that it names in braces."""
        return re.sub(r"{(\w+)}", lambda match: str(request.getfixturevalue(match[1])), text)

    # an output_dir that is given comes later, and counts
    folder = [f"output_dir={tmp_path / 'out'}"] if arguments[0] in ("generate.py", "train.py") else []
    script, *rest = map(filled, arguments)
    done = run(script, *folder, *rest, ok=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    # before weights were loaded, which would be told too
    assert done.stderr.startswith(f"error: {filled(told)}"), done.stderr
    _, *others = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(others) == 0 or "dataset.path: is needed" in others[0]
    if TUTOR in arguments:
        assert not (request.getfixturevalue("trained") / "gguf").exists()


def test_a_model_that_the_hub_does_not_give_is_told_in_one_line(data: Path, tmp_path: Path):
    pairs = f"dataset.path={data / 'pairs.jsonl'}"
    (line,) = mistakes("train.py", "model=llama2_7b", pairs, f"output_dir={tmp_path}")
    assert line.startswith("model.pretrained: meta-llama/Llama-2-7b-hf: cannot be had from the hub (")
    assert "HF_TOKEN" in line


PROBLEM = {"id": "p", "question": "What is 2 + 2?", "solution": "4", "answer": "4", "source": "x"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.jsonl", b"", "empty.jsonl: the file is empty"),
        ("torn.jsonl", json.dumps(PROBLEM).encode() + b'\n{"id"', "torn.jsonl:2: not JSON"),
        ("column.jsonl", b'{"id": "p"}\n', "column.jsonl:1: "),
        ("latin.csv", "id,question,solution,answer,source\np,café,,1,x\n".encode("latin-1"), "latin.csv:2: not utf-8"),
        ("answer.jsonl", json.dumps(PROBLEM | {"answer": ""}).encode() + b"\n", "answer.jsonl:1: answer"),
    ],
)
def test_a_mistake_in_a_file_names_file_and_line(name: str, content: bytes, told: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    arguments = ["problems=jsonl", f"problems.path={tmp_path / name}", f"output_dir={tmp_path / 'out'}"]
    (line,) = mistakes("generate.py", *arguments, "wandb=disabled")
    assert told in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "pairs.jsonl: the file is empty"),
        (b'{"prompt": []}\n', "pairs.jsonl:1: not a PreferencePair: chosen: Field required"),
        (b"{\n", "pairs.jsonl:1: not JSON"),
    ],
)
def test_pairs_that_cannot_be_trained_on_are_named(content: bytes, told: str, tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_bytes(content)
    (line,) = mistakes("train.py", f"dataset.path={tmp_path / 'pairs.jsonl'}", f"output_dir={tmp_path / 'out'}")
    assert told in line


def test_a_data_set_without_training_pairs_is_told(data: Path, tmp_path: Path):
    kept = [line for line in (data / "pairs.jsonl").read_text().splitlines() if json.loads(line)["split"] == "test"]
    (tmp_path / "pairs.jsonl").write_text("\n".join(kept) + "\n")
    (line,) = mistakes("train.py", f"dataset.path={tmp_path / 'pairs.jsonl'}", f"output_dir={tmp_path / 'out'}")
    assert "none of its" in line


def test_weights_that_are_none_are_told(data: Path, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "bad.gguf").write_bytes(b"GGML, perhaps")
    pairs = f"dataset.path={data / 'pairs.jsonl'}"
    for pretrained, told in (("model", "no config.json with *.safetensors"), ("bad.gguf", "not a GGUF file")):
        (line,) = mistakes(
            "train.py", pairs, f"model.pretrained={tmp_path / pretrained}", f"output_dir={tmp_path / 'out'}"
        )
        assert line.startswith("model.pretrained: ")
        assert told in line
    (line,) = mistakes("generate.py", f"generator.model_path={tmp_path / 'bad.gguf'}", f"output_dir={tmp_path / 'out'}")
    assert line.startswith("generator.model_path: ")


def test_a_round_needs_a_tutor(tmp_path: Path):
    lines = mistakes("train.py", "experiment=next_round", f"output_dir={tmp_path}")
    assert "dataset.adapter: there is no tutor to reply: adapter=FOLDER" in lines


def test_a_mistake_leaves_no_folder_and_takes_none_away(tmp_path: Path):
    wrong = ("train.py", "dpo.beta=-1", FILE, f"output_dir={tmp_path / 'run'}")
    mistakes(*wrong)
    assert not any(tmp_path.iterdir())
    kept = tmp_path / "run" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    mistakes(*wrong)
    assert kept.read_text() == "mine"


def test_lengths_that_do_not_fit_are_told(tiny: list[str], tmp_path: Path):
    out = f"output_dir={tmp_path / 'out'}"
    (line,) = mistakes("train.py", *tiny, "dpo.max_length=5000", out)
    assert line == "dpo.max_length: 5000 tokens are more than the model can read; at most 4096"
    (line,) = mistakes("train.py", *tiny, "dpo.max_length=20", out)
    assert line.startswith("dpo.max_length: none of ")


def test_a_server_that_is_down_is_told(tmp_path: Path):
    (line,) = mistakes(
        "generate.py",
        "conversations=roleplay",
        "generator=openai",
        "generator.base_url=http://127.0.0.1:9/v1",
        "generator.wait=0",
        "generator.model=any",
        "generator.max_retries=0",
        "problems.limit=1",
        f"output_dir={tmp_path / 'out'}",
    )
    assert line.startswith("generator.base_url: ")


def test_another_config_is_not_mixed_into_a_folder(data: Path):
    before = {path.name: path.read_bytes() for path in data.glob("*.jsonl")}
    (line,) = mistakes("generate.py", f"output_dir={data}", "seed=1", "rejection=direct_answer", "problems.limit=24")
    assert "was begun with another config" in line
    assert "seed: 0 → 1" in line
    assert {path.name: path.read_bytes() for path in data.glob("*.jsonl")} == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    (line,) = mistakes("generate.py", f"output_dir={tmp_path / 'file' / 'out'}")
    assert "give another" in line


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few records only."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "-o", "size=160k", "tmpfs", folder], check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_what_was_finished_is_kept(full_disk: Path):
    arguments = ["generate.py", "rejection=direct_answer", "wandb=disabled", f"output_dir={full_disk / 'out'}"]
    (line,) = mistakes(*arguments)
    assert "no room left on the disk" in line
    subprocess.run(["mount", "-o", "remount,size=20m", full_disk], check=True)
    run(*arguments)
    assert (full_disk / "out" / "pairs.jsonl").exists()
