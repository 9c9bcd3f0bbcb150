"""The reference's log-probabilities are computed once, and leave the losses as they are."""

import shutil
from pathlib import Path

import pytest
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import DPOConfig

from socratic_rl.core.component import ModelSettings
from socratic_rl.models import scoring, weights
from socratic_rl.models.weights import tokenizer_from
from socratic_rl.training import dpo, reference
from socratic_rl.training.reference import saves_passes
from tests.unit.training.test_dpo import lora, node, pairs


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which they are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "socratic_rl" / "reference"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each pass of the reference scored."""
    scored: list[int] = []
    score = scoring.score_pairs

    def counted(model, tokenizer, pairs, *args):
        scored.append(len(pairs))
        return score(model, tokenizer, pairs, *args)

    monkeypatch.setattr(reference, "score_pairs", counted)
    return scored


def identity(folder: Path) -> str:
    return weights.weights_identity(
        ModelSettings(name="tiny", pretrained=str(folder), revision=None, dtype="auto", attn_implementation="sdpa")
    )


def run(
    base: Path,
    folder: Path,
    *,
    adapter: LoraConfig | None = None,
    count: int = 8,
    forest: bool = False,
    **changes: object,
) -> list[dict[str, float]]:
    """The logged steps of a training on this base."""
    args = dpo.arguments(node(**changes), folder, tracked=False)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), tokenizer_from(str(base))
    outcome = dpo.train(model, tokenizer, pairs(count), pairs(3), args, adapter, None, forest, identity=identity(base))
    return [row for row in outcome.log if "loss" in row]


@pytest.mark.parametrize("forest", [False, True], ids=["rows", "forest"])
@pytest.mark.parametrize("adapter", [lora(), None], ids=["lora", "all weights"])
def test_losses_are_those_of_a_reference_that_is_asked_at_every_step(
    tiny_llama: Path, tmp_path: Path, adapter: LoraConfig | None, forest: bool
):
    asked, known, read = (
        run(tiny_llama, tmp_path, adapter=adapter, forest=forest, eval_strategy="epoch", precompute_ref_log_probs=value)
        for value in (False, True, True)
    )
    assert len(asked) == 4
    assert asked[-1]["loss"] < 0.68
    for name in ("loss", "rewards/chosen", "rewards/rejected", "logps/chosen"):
        assert [row[name] for row in known] == pytest.approx([row[name] for row in asked], rel=1e-6, abs=1e-5)
        assert [row[name] for row in read] == [row[name] for row in known]


def test_other_jobs_read_what_the_first_has_left(
    tiny_llama: Path, tmp_path: Path, cache: Path, passes: list[int], capsys: pytest.CaptureFixture[str]
):
    run(tiny_llama, tmp_path / "first")
    assert passes == [3, 8]
    first = capsys.readouterr().out
    assert "reference log-probabilities of 8 training pairs: computed in " in first
    for number, change in enumerate(({"beta": 0.5}, {"learning_rate": 1e-4}, {"loss_type": ["ipo"]}, {"seed": 3})):
        run(tiny_llama, tmp_path / str(number), adapter=lora(), **change)
    assert passes == [3, 8]
    again = capsys.readouterr().out
    (path,) = [line.partition("kept in ")[2] for line in first.splitlines() if "8 training pairs" in line]
    assert again.count(f"reference log-probabilities of 8 training pairs: read from {path}") == 4
    assert Path(path).parent == cache


def test_other_pairs_another_template_or_other_weights_are_computed_anew(
    tiny_llama: Path, tmp_path: Path, passes: list[int]
):
    run(tiny_llama, tmp_path)
    run(tiny_llama, tmp_path, count=7)
    assert passes == [3, 8, 7]

    other = shutil.copytree(tiny_llama, tmp_path / "other")
    run(other, tmp_path)
    assert passes[3:] == [3, 8]
    run(other, tmp_path)
    assert passes[5:] == []

    tokenizer = tokenizer_from(str(other))
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", ".<|im_end|>")
    tokenizer.save_pretrained(other)
    run(other, tmp_path)
    assert passes[5:] == [3, 8]

    model = AutoModelForCausalLM.from_pretrained(other)
    model.get_input_embeddings().weight.data[0] += 1
    model.save_pretrained(other)
    run(other, tmp_path)
    assert passes[7:] == [3, 8]


def test_without_a_name_for_the_weights_nothing_is_kept(tiny_llama: Path, tmp_path: Path, cache: Path):
    args = dpo.arguments(node(precompute_ref_log_probs=True), tmp_path, tracked=False)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    dpo.train(model, tokenizer_from(str(tiny_llama)), pairs(), [], args, lora(), None)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("changes", "jobs", "expected"),
    [
        ({}, 1, True),
        ({"num_train_epochs": 0.5}, 1, False),
        ({"num_train_epochs": 0.5}, 2, True),
        # the demo: 24 steps of 8 of its 230 pairs
        ({"max_steps": 24}, 1, False),
        ({"max_steps": 24}, 2, True),
        ({"max_steps": 29}, 1, True),
        # TRL's reference is then another one
        ({"ld_alpha": 0.5}, 1, False),
        ({"sync_ref_model": True}, 2, False),
    ],
)
def test_a_pass_over_all_pairs_is_made_where_it_saves_passes(
    tmp_path: Path, changes: dict[str, object], jobs: int, expected: bool
):
    args = DPOConfig(
        str(tmp_path),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        use_cpu=True,
        bf16=False,
        **{"num_train_epochs": 1, **changes},
    )
    assert saves_passes(args, 230, jobs) is expected
