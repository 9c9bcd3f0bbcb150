"""docs/python.md says what can be done from Python, and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import socratic_rl
from socratic_rl.core.errors import UserError
from socratic_rl.core.provenance import MADE_FROM

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
SMALL = "dpo.max_length=2000", "sampling.max_new_tokens=16", "forest=false", "lora.r=4"


def test_the_code_of_the_page_runs(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As it is written, but on a tiny model and without tracking."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    model = f"model.pretrained={tiny_llama}", "model.name=tiny-llama"
    extra = {
        "make_pairs(": ("wandb=disabled",),
        "train(pairs, ": ("wandb=disabled", *model, *SMALL),
        "evaluate(tutor, ": ("wandb=disabled", "resamples=200", "sampling.max_new_tokens=16"),
        '.reply("Why is 7 * 8 = 56?", ': ("sampling.max_new_tokens=16",),
        ".reply(said, ": ("sampling.max_new_tokens=16",),
    }
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        for call, overrides in extra.items():
            block = block.replace(call, f"{call}*{overrides!r}, ")
        exec(block, names)
    assert (tmp_path / "outputs/mine/adapter" / MADE_FROM).exists()
    assert (tmp_path / "outputs/mine/evaluation.json").exists()
    assert {"preference_accuracy", "asks_question"} <= {figure.name for figure in names["figures"]}
    assert isinstance(names["tutor"], socratic_rl.Tutor)
    assert len(names["pairs"]) == len((tmp_path / "outputs/mine/pairs.jsonl").read_text().splitlines()) > 24


def test_a_mistake_is_told_by_its_key(tmp_path: Path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        socratic_rl.train(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match=r"^adapter: .*no such folder"):
        socratic_rl.Tutor(tmp_path / "nowhere")
    with pytest.raises(UserError, match="stop_after"):
        socratic_rl.make_pairs("stop_after=problems")


def test_the_names_are_those_of_the_page_and_load_nothing_before_they_are_used():
    assert set(dir(socratic_rl)) >= set(socratic_rl.__all__)
    table = re.findall(r"^\| `(\w+)\(", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(socratic_rl.__all__)
    code = "import sys, socratic_rl; print('torch' in sys.modules, 'hydra' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
