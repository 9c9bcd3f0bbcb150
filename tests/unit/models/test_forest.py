import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from trl import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.models import forest as forest_module
from socratic_rl.models import forest_hooks
from socratic_rl.models.forest import MIN_SHARED, ForestCollator, attention_masks, grow, query_spans
from socratic_rl.models.forest_hooks import reading_forests, reads_forests
from socratic_rl.models.weights import tokenizer_from
from socratic_rl.training import dpo
from socratic_rl.training.trainers import count_tokens, forest_arguments, training_obstacle

STEM = list(range(100, 100 + MIN_SHARED))
SMALL: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def random_rows(seed: int) -> list[list[int]]:
    """Rows that begin alike in every way: of each other, whole, or not at all."""
    draw = random.Random(seed)
    rows: list[list[int]] = []
    for _ in range(draw.randint(1, 12)):
        base = draw.choice([*rows, STEM, []])
        cut = base[: draw.randint(0, len(base))]
        rows.append(cut + [draw.randrange(3) for _ in range(draw.randint(0 if cut else 1, 40))])
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_the_path_from_a_root_to_its_last_node(seed: int):
    rows = random_rows(seed)
    trees = grow(rows)
    assert sorted(number for tree in trees for number in tree.paths) == list(range(len(rows)))
    for tree in trees:
        for number, path in tree.paths.items():
            assert [tree.ids[node] for node in path] == rows[number]
            assert [tree.depths[node] for node in path] == list(range(len(path)))
            for query in path:
                attended = [node for node in range(len(tree.ids)) if node <= query < tree.ends[node]]
                assert attended == path[: tree.depths[query] + 1]


def test_every_distinct_prefix_is_one_node():
    rows = [[*STEM, 1, 2], [*STEM, 1, 3], [*STEM, 1], STEM, [*STEM, 1, 2], [*STEM, 4]]
    (tree,) = grow(rows)
    assert len(tree.ids) == len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})


def test_rows_that_share_little_grow_trees_of_their_own():
    assert len(grow([[*STEM, 1], [*STEM, 2]])) == 1
    assert len(grow([[*STEM[1:], 1], [*STEM[1:], 2]])) == 2
    assert len(grow([[1, 2], [1, 2]])) == 1


def example(prompt: list[int], chosen: list[int], rejected: list[int]) -> dict[str, Any]:
    return {
        "prompt_ids": prompt,
        "chosen_ids": chosen,
        "rejected_ids": rejected,
        "ref_chosen_logps": float(len(chosen)),
        "ref_rejected_logps": float(len(rejected)),
    }


EXAMPLES = [
    example(STEM, [1, 2, 3], [1, 5]),
    example([*STEM, 1, 2, 3, 9, 9], [4, 4, 4, 4], [4]),
    example([7, 7, 7], [1], [1]),
]


def test_the_collator_keeps_what_the_loss_reads_as_trl_lays_it_out():
    padded = DataCollatorForPreference(pad_token_id=0)(EXAMPLES)
    batch = ForestCollator(pad_token_id=0)(EXAMPLES)
    for name in ("attention_mask", "ref_chosen_logps", "ref_rejected_logps"):
        assert torch.equal(batch[name], padded[name])
    for row in range(6):
        kept = batch["completion_mask"][row] == 1
        assert torch.equal(batch["input_ids"][row][kept], padded["input_ids"][row][padded["completion_mask"][row] == 1])
    assert batch["input_ids"].shape[1] == 5


def test_a_score_reads_the_state_of_the_token_before_and_is_shared_by_equal_prefixes():
    batch = ForestCollator(pad_token_id=0)(EXAMPLES)
    ids = batch["forest_ids"].flatten()
    scored = batch["completion_mask"][:, 1:] == 1
    numbers = batch["forest_scores"][scored]
    kept = batch["input_ids"]
    assert torch.equal(batch["forest_targets"][0, numbers], kept[:, 1:][scored])
    assert torch.equal(ids[batch["forest_parents"][0, numbers]], kept[:, :-1][scored])
    # 1 after the stem begins chosen and rejected, 4 after the longer prompt too, and 1 after 7 7 7 is both
    assert batch["forest_targets"].shape == (1, 3 + 1 + 4 + 1)


def test_the_width_follows_pad_to_multiple_of():
    plain = ForestCollator(pad_token_id=0)(EXAMPLES)
    batch = ForestCollator(pad_token_id=0, pad_to_multiple_of=16)(EXAMPLES)
    width = plain["forest_ids"].shape[1]
    assert batch["forest_ids"].shape[1] % 16 == 0 < width % 16
    assert torch.equal(batch["forest_ids"][:, :width], plain["forest_ids"])
    filling = (width, width, width // 16 * 16 + 16)
    assert query_spans(batch["forest_depths"]) == [*query_spans(plain["forest_depths"]), filling]


def forest(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = ForestCollator(pad_token_id=0)([example(row, [1, 2], [3]) for row in random_rows(seed)])
    return tensors["forest_depths"], tensors["forest_ends"]


@pytest.mark.parametrize("seed", range(5))
def test_a_window_counts_nodes_of_a_path_and_not_places(seed: int):
    depths, ends = forest(seed)
    config = MistralConfig(sliding_window=4, attn_implementation="sdpa")
    mask = attention_masks(config, depths, ends, torch.float32)
    assert mask.dtype == torch.bool
    assert torch.equal(mask.sum(-1)[:, 0], (depths + 1).clamp_max(4))


def test_eager_attention_adds_its_mask_and_flex_attention_has_the_same():
    from torch.nn.attention.flex_attention import create_mask

    depths, ends = forest(0)
    masks = {
        attention: attention_masks(LlamaConfig(attn_implementation=attention), depths, ends, torch.float32)
        for attention in ("sdpa", "eager", "flex_attention")
    }
    assert torch.equal(masks["eager"] == 0, masks["sdpa"])
    width = ends.shape[1]
    flex = create_mask(masks["flex_attention"].mask_mod, 1, None, width, width, device="cpu")
    assert torch.equal(flex, masks["sdpa"])


def test_nodes_attend_within_their_own_tree(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(forest_module, "SPAN", 16)
    depths, ends = forest(3)
    (mask,) = attention_masks(LlamaConfig(attn_implementation="sdpa"), depths, ends, torch.float32)[0]
    spans = query_spans(depths)
    assert len(spans) > 1
    for root, first, end in spans:
        mask[first:end, root:end] = False
    assert not mask.any()


def test_attention_goes_span_by_span(monkeypatch: pytest.MonkeyPatch):
    shapes = []

    def record(module: Any, query: torch.Tensor, key: torch.Tensor, *rest: Any, **named: Any) -> Any:
        shapes.append((query.shape[2], key.shape[2]))
        return sdpa_attention_forward(module, query, key, *rest, **named)

    monkeypatch.setattr(forest_module, "SPAN", 16)
    monkeypatch.setattr(forest_module, "sdpa_attention_forward", record)
    model = small(LlamaConfig, num_hidden_layers=1)
    add_fused_lm_head(model)
    batch = ForestCollator(pad_token_id=0)(EXAMPLES)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
    with torch.no_grad(), reading_forests(model):
        inputs = {key: value for key, value in batch.items() if not key.startswith("ref_")}
        model(**inputs, labels=labels, fused_lm_head=True)
    # two trees: of 3 + 1 nodes, and of 32 that both dialogues begin with, 3 + 1 + 2, and 4, one of them in both sides
    assert shapes == [(4, 4), (16, 16), (16, 32), (10, 42)]


def pairs(turns: int, count: int = 4) -> list[PreferencePair]:
    made = []
    for number in range(count):
        dialogue = [Turn(speaker="student", text=f"Problem {number}: what is {number} and 7?")]
        for turn in range(turns):
            trace = {"conversation_id": f"c{number}", "problem_id": f"p{number}", "turn": turn}
            question = f"What do you get when you count {turn} on?"
            made.append(
                PreferencePair.of(
                    dialogue, question, f"{number + 7}.", **trace, rejection="direct_answer", split="train"
                )
            )
            dialogue = [
                *dialogue,
                Turn(speaker="teacher", text=question),
                Turn(speaker="student", text=f"Is it {number + turn}?"),
            ]
    return made


def arguments(folder: Path, **changes: Any) -> DPOConfig:
    settings: dict[str, Any] = {"bf16": False, "per_device_train_batch_size": 8, "report_to": [], "use_cpu": True}
    settings["train_sampling_strategy"] = "group_by_length"
    return DPOConfig(output_dir=str(folder), **settings | changes)


def small(kind: type, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(kind(**SMALL | changes))


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        (LlamaConfig, {}, None),
        (BloomConfig, {}, "bloom does not read its context by causal attention alone"),
        (FalconConfig, {"alibi": True}, "falcon does not read its context by causal attention alone"),
        (MambaConfig, {}, "mamba does not read its context by causal attention alone"),
        (MixtralConfig, {"num_key_value_heads": 2, "intermediate_size": 64}, "mixtral balances its experts"),
        (LlamaConfig, {"attn_implementation": "paged|eager"}, "takes no mask of ours"),
    ],
)
def test_a_model_that_cannot_read_a_forest_is_told_so(
    tmp_path: Path, kind: type, changes: dict[str, Any], reason: str | None
):
    found = training_obstacle(small(kind, **changes), arguments(tmp_path))
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"disable_dropout": False}, "dropout would be drawn once"),
        ({"neftune_noise_alpha": 5.0}, "dpo.neftune_noise_alpha would be drawn once"),
        ({"include_num_input_tokens_seen": "all"}, "counts the tokens of padded rows"),
        ({"loss_type": ["sigmoid", "aot"]}, "the loss aot compares the pairs of a padded batch"),
        ({"loss_type": ["aot_unpaired"]}, "the loss aot_unpaired compares the pairs of a padded batch"),
        ({"loss_type": ["sigmoid", "sft"], "use_weighting": True}, "weighs the mean of a padded batch"),
    ],
)
def test_what_a_forest_would_make_otherwise_is_an_obstacle(tmp_path: Path, changes: dict[str, Any], reason: str):
    assert reason in str(training_obstacle(small(LlamaConfig), arguments(tmp_path, **changes)))


@pytest.mark.parametrize("name", ["ends", "depths"])
def test_a_model_whose_tokens_attend_elsewhere_or_stand_elsewhere_is_found_out(
    monkeypatch: pytest.MonkeyPatch, name: str
):
    model = small(LlamaConfig, initializer_range=0.3)
    assert reads_forests(model)
    if name == "ends":
        monkeypatch.setattr(
            forest_hooks,
            "attention_masks",
            lambda config, depths, ends, dtype: attention_masks(config, depths, ends * 0 + ends.shape[1], dtype),
        )
    else:
        inner = model.model.forward
        model.model.forward = lambda position_ids=None, **rest: inner(position_ids=None, **rest)
    assert not reads_forests(model)


def test_tokens_are_counted_both_ways(tiny_llama: Path, tmp_path: Path):
    tokenizer = tokenizer_from(str(tiny_llama))
    args = arguments(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    counted = count_tokens(pairs(turns=4), tokenizer, args)
    assert (counted.pairs, counted.batch, counted.accumulation) == (16, 8, 1)
    lengths = [
        len(tokenizer.apply_chat_template([*pair.prompt, *side], tokenize=True)["input_ids"])
        for pair in pairs(turns=4)
        for side in (pair.chosen, pair.rejected)
    ]
    assert sum(lengths) < counted.padded < 16 * 2 * max(lengths)
    assert max(lengths) < counted.forest < counted.padded / 4


@pytest.mark.parametrize(
    ("turns", "batch", "accumulation", "filled"),
    [
        # a dialogue has fewer tokens than its last pair, padded, and so a batch of one takes it whole
        (6, 1, 6, (6, 1)),
        (6, 1, 12, (6, 2)),
        (6, 4, 3, (12, 1)),
        # nothing is shared but the prompt of a pair
        (1, 2, 4, (2, 4)),
    ],
)
def test_batches_are_filled_to_the_tokens_of_padded_ones_and_a_step_keeps_its_pairs(
    tiny_llama: Path, tmp_path: Path, turns: int, batch: int, accumulation: int, filled: tuple[int, int]
):
    args = arguments(tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    counted = count_tokens(pairs(turns, count=24 // turns), tokenizer_from(str(tiny_llama)), args)
    assert (counted.batch, counted.accumulation) == filled


def test_auto_weighs_the_saving_and_true_does_not(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tokenizer = tokenizer_from(str(tiny_llama))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    dialogues = pairs(turns=3)
    strangers = [
        pair.model_copy(
            update={
                "prompt": [{"role": "user", "content": "?"}],
                "chosen": [{"role": "assistant", "content": f"{number} " * 40}],
                "rejected": [{"role": "assistant", "content": f"{number + 10}, " * 25}],
            }
        )
        for number, pair in enumerate(dialogues)
    ]

    def found(wanted: Any, given: list[PreferencePair], **changes: Any) -> tuple[DPOConfig | None, str]:
        args = arguments(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=2, **changes)
        filled = forest_arguments(wanted, model, tokenizer, given, args)
        assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (2, 2)
        return filled, capsys.readouterr().out

    filled, told = found("auto", dialogues)
    assert filled
    assert (filled.per_device_train_batch_size, filled.gradient_accumulation_steps) == (4, 1)
    assert told.startswith("forest: the first 12 pairs take ")
    filled, told = found("auto", strangers)
    assert not filled
    assert told.startswith("forest: off, training on padded rows: it would save too little: the first 12 pairs take")
    assert found(True, strangers)[0]
    filled, told = found(True, dialogues, disable_dropout=False)
    assert not filled
    assert "dropout" in told
    assert found(False, dialogues) == (None, "")


def run(model: Path, folder: Path, checkpoint: str | None = None) -> dpo.Outcome:
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "learning_rate": 1e-2}
    steps = {"num_train_epochs": 2, "save_steps": 1, "logging_steps": 1, "remove_unused_columns": False}
    return dpo.train(
        AutoModelForCausalLM.from_pretrained(model),
        tokenizer_from(str(model)),
        pairs(turns=3, count=6),
        pairs(turns=2, count=2),
        arguments(folder, **settings, **steps, eval_strategy="epoch"),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        checkpoint,
        forest=True,
    )


def test_a_run_on_forests_learns_and_goes_on_from_any_checkpoint(tiny_llama: Path, tmp_path: Path):
    whole = run(tiny_llama, tmp_path / "whole")
    losses = [row["loss"] for row in whole.log if "loss" in row]
    # 18 pairs are three steps of eight an epoch
    assert len(losses) == 6
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < losses[0]
    assert whole.held_out["eval_rewards/accuracies"] == 1
    for step in (2, 4):
        killed = tmp_path / f"killed-{step}"
        shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", killed / f"checkpoint-{step}")
        resumed = run(tiny_llama, killed, "latest")
        assert [row["loss"] for row in resumed.log if "loss" in row] == pytest.approx(losses)
        assert resumed.held_out == pytest.approx(whole.held_out)
