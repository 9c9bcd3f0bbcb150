"""A forest must train exactly as TRL's padded rows do: both, side by side, in float32."""

import itertools
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)
from trl import DPOConfig, DPOTrainer

from socratic_rl.models import forest
from socratic_rl.models.forest_hooks import reading_forests
from socratic_rl.models.weights import tokenizer_from
from socratic_rl.training.trainers import ForestTrainer

WORDS = 200
SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    # far from zero, so that what a token attends to shows in its log-probabilities
    "initializer_range": 0.3,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SMALL),
    "mistral": MistralConfig(**SMALL, sliding_window=24),
    "gpt2": GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.3),
    "qwen3": Qwen3Config(
        **SMALL, head_dim=8, use_sliding_window=True, sliding_window=24, max_window_layers=1, layer_types=None
    ),
}
LOSSES = {
    "sigmoid": ["sigmoid"],
    "ipo": ["ipo"],
    "hinge": ["hinge"],
    "robust": ["robust"],
    "apo_zero": ["apo_zero"],
    "sigmoid+sft": ["sigmoid", "sft"],
}
Tokens = dict[str, list[int]]
Trainers = Callable[..., dict[str, DPOTrainer]]


def conversation(seed: int, turns: int = 4, turn: int = 12) -> list[Tokens]:
    """Every teacher turn of a dialogue: nested prompts, each chosen turn part of the next prompt."""
    words = random.Random(seed)
    pairs = []
    prompt = draw(words, 40)
    for _ in range(turns):
        chosen, rejected = draw(words, words.randint(3, turn)), draw(words, words.randint(3, turn))
        pairs.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
        prompt = prompt + chosen + draw(words, words.randint(5, turn))
    return pairs


def draw(words: random.Random, count: int) -> list[int]:
    return [words.randrange(WORDS) for _ in range(count)]


def with_sides(pair: Tokens, chosen: list[int], rejected: list[int]) -> Tokens:
    return {"prompt_ids": pair["prompt_ids"], "chosen_ids": chosen, "rejected_ids": rejected}


def cases() -> dict[str, list[Tokens]]:
    dialogue = conversation(1)
    return {
        "dialogues": [*conversation(1), *conversation(2, turns=2), *conversation(3, turns=6)],
        "nothing shared": [conversation(seed, turns=1)[0] for seed in range(4)],
        "identical pairs": [dialogue[2]] * 3,
        "identical sides": [with_sides(pair, pair["chosen_ids"], pair["chosen_ids"]) for pair in dialogue],
        "rejected begins chosen": [
            with_sides(pair, pair["chosen_ids"] + [7, 8], pair["chosen_ids"]) for pair in dialogue
        ],
        "one pair": dialogue[:1],
        "one word": [with_sides(pair, [5], [6]) for pair in dialogue],
        "no prompt": [{"prompt_ids": [], "chosen_ids": [1, 2, 3], "rejected_ids": [1, 5]}, *dialogue],
    }


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small trees take several."""
    monkeypatch.setattr(forest, "SPAN", 16)


@pytest.fixture(scope="module")
def trainers(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainers:
    """Makes TRL's trainer and the forest's on the same weights, the policy away from its reference."""
    folder = tmp_path_factory.mktemp("equality")
    tokenizer = tokenizer_from(str(tiny_llama))
    row = {
        "prompt": [{"role": "user", "content": "What is 2 + 3?"}],
        "chosen": [{"role": "assistant", "content": "What do you get when you count on from 2?"}],
        "rejected": [{"role": "assistant", "content": "5."}],
        "conversation_id": "a",
    }

    def weights(kind: str) -> Path:
        place = folder / kind
        if not place.exists():
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(CONFIGS[kind]).save_pretrained(place)
        return place

    def make(
        kind: str = "llama",
        lora: bool = True,
        attention: str = "sdpa",
        rows: list[dict[str, Any]] | None = None,
        **args: Any,
    ) -> dict[str, DPOTrainer]:
        made = {}
        for name, trainer in {"padded": DPOTrainer, "forest": ForestTrainer}.items():
            model = AutoModelForCausalLM.from_pretrained(weights(kind), attn_implementation=attention)
            # told apart, so that TRL's cache of reference log-probabilities of the one does not serve the other
            dataset = Dataset.from_list([{**row, "trainer": name} for row in rows or [row]])
            made[name] = trainer(
                model=model,
                args=DPOConfig(**settings(folder / f"{kind}-{name}", **args)),
                train_dataset=dataset,
                eval_dataset=dataset if args.get("eval_strategy") else None,
                processing_class=tokenizer,
                peft_config=LoraConfig(r=4, target_modules=modules(kind), task_type="CAUSAL_LM") if lora else None,
            )
            move(made[name].model)
        return made

    return make


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "label_smoothing": 0.1,
        "beta": 0.5,
        "max_length": None,
        "save_strategy": "no",
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "use_cpu": True,
    } | changes


def modules(kind: str) -> list[str]:
    return ["c_attn", "c_fc"] if kind == "gpt2" else ["q_proj", "v_proj", "down_proj"]


def move(model: PreTrainedModel) -> None:
    """Away from the reference, where every reward is zero and every loss alike."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn(weight.shape, generator=noise)


def scores(trainer: DPOTrainer, pairs: list[Tokens]) -> torch.Tensor:
    """The log-probability of every token of every completion, row after row."""
    batch = trainer.data_collator(pairs)
    mask = batch.pop("completion_mask")
    labels = batch["input_ids"].masked_fill(mask == 0, -100)
    with torch.no_grad(), reading_forests(trainer.model):
        found = trainer.model(**batch, labels=labels, fused_lm_head=True).log_probs
    assert found.shape == mask[:, 1:].shape
    assert not found[mask[:, 1:] == 0].any()
    return found[mask[:, 1:] == 1]


def step(trainer: DPOTrainer, pairs: list[Tokens], losses: list[str]) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Loss, gradients and logged figures of one batch."""
    trainer.loss_types, trainer.loss_weights = losses, [1.0] * len(losses)
    trainer._metrics["train"].clear()
    trainer._total_train_tokens = 0
    trainer.model.zero_grad()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(pairs))
    loss.backward()
    gradients = torch.cat([w.grad.flatten() for w in trainer.model.parameters() if w.grad is not None])
    return loss.item(), gradients, {name: values[0] for name, values in trainer._metrics["train"].items()}


def assert_equal_steps(both: dict[str, DPOTrainer], pairs: list[Tokens], losses: list[str]) -> None:
    expected, found = (step(both[name], pairs, losses) for name in ("padded", "forest"))
    assert found[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-5)
    assert relative(found[1], expected[1]) < 1e-4
    assert found[2].keys() == expected[2].keys()
    assert {"rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/chosen"} < found[2].keys()
    assert found[2] == pytest.approx(expected[2], rel=1e-4, abs=1e-4)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-9))


def pairwise(*factors: Iterable[str]) -> list[Any]:
    """All combinations as parameters; beyond those in which every two choices meet once, they are marked slow."""
    combinations = list(itertools.product(*factors))

    def meetings(combination: tuple[str, ...]) -> set[Any]:
        return set(itertools.combinations(enumerate(combination), 2))

    missing = set().union(*map(meetings, combinations))
    needed = set()
    while missing:
        needed.add(best := max(combinations, key=lambda combination: len(meetings(combination) & missing)))
        missing -= meetings(best)
    return [
        pytest.param(*combination, id="-".join(combination), marks=() if combination in needed else pytest.mark.slow)
        for combination in combinations
    ]


def test_every_two_choices_meet():
    rows = pairwise("abc", "de", "fg")
    assert len(rows) == 12
    kept = [row.values for row in rows if not row.marks]
    assert len(kept) == 6
    assert all(len({(row[i], row[j]) for row in kept}) == n for i, j, n in ((0, 1, 6), (0, 2, 6), (1, 2, 4)))


@pytest.mark.parametrize(("kind", "attention", "adapter"), pairwise(CONFIGS, ["sdpa", "eager"], ["lora", "full"]))
def test_log_probabilities_gradients_and_metrics_are_those_of_padded_rows(
    trainers: Trainers, kind: str, attention: str, adapter: str
):
    both = trainers(kind, adapter == "lora", attention)
    for pairs in cases().values():
        expected, found = (scores(both[name], pairs) for name in ("padded", "forest"))
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-4
    for losses in LOSSES.values():
        assert_equal_steps(both, cases()["dialogues"], losses)
    for pairs in cases().values():
        assert_equal_steps(both, pairs, ["sigmoid", "sft"])


@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_truncated_rows_are_those_of_trl(trainers: Trainers, mode: str, lora: bool):
    both = trainers(lora=lora)
    dialogues = cases()["dialogues"]
    for trainer in both.values():
        # cuts into completions where the start is kept, into prompts where the end is
        trainer.data_collator.max_length, trainer.data_collator.truncation_mode = 60, mode
    pairs = [pair for pair in dialogues if mode == "keep_end" or len(pair["prompt_ids"]) < 60]
    assert max(len(pair["prompt_ids"] + pair["chosen_ids"]) for pair in pairs) > 60
    assert (scores(both["forest"], pairs) - scores(both["padded"], pairs)).abs().max() < 1e-4
    assert_equal_steps(both, pairs, ["sigmoid"])


def test_length_desensitized_and_weighted_losses_are_those_of_padded_rows(trainers: Trainers):
    both = trainers(ld_alpha=0.5, use_weighting=True)
    assert_equal_steps(both, cases()["dialogues"], ["sigmoid"])


def test_flex_attention_gives_the_same_log_probabilities(trainers: Trainers):
    expected = scores(trainers("qwen3")["padded"], cases()["dialogues"])
    # not compiled, which takes half a minute
    with torch.compiler.set_stance("force_eager"):
        found = scores(trainers("qwen3", attention="flex_attention")["forest"], cases()["dialogues"])
    assert (found - expected).abs().max() < 1e-4


def test_the_hooks_stand_only_while_trl_calls_the_model(trainers: Trainers):
    trainer = trainers()["forest"]
    step(trainer, cases()["dialogues"], ["sigmoid"])
    with pytest.raises(ValueError, match="Unknown loss type"):
        step(trainer, cases()["dialogues"], ["none such"])
    modules = (trainer.model, trainer.model.get_base_model().base_model)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in modules)


def test_logits_are_not_to_be_had(trainers: Trainers):
    trainer = trainers()["forest"]
    batch = trainer.data_collator(cases()["dialogues"])
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="not logits"):
        trainer.compute_loss(trainer.model, batch, return_outputs=True)


def rows() -> list[dict[str, Any]]:
    """Every teacher turn of three dialogues, as chat messages."""
    made = []
    for name, turns in {"a": 4, "b": 2, "c": 1}.items():
        prompt = [{"role": "user", "content": f"Problem {name}: what is {turns} and 12?"}]
        for turn in range(turns):
            chosen = [{"role": "assistant", "content": f"What comes {'before ' * turn}that?"}]
            rejected = [{"role": "assistant", "content": f"It is {turns + 12}."}]
            made.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, "conversation_id": name})
            prompt = [*prompt, *chosen, {"role": "user", "content": f"Perhaps {turn}?"}]
    return made


RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reference beforehand": {"precompute_ref_log_probs": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "truncated": {"max_length": 150},
}


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("run", RUNS)
def test_training_and_evaluation_log_the_same(trainers: Trainers, run: str, lora: bool):
    both = trainers(
        "mistral",
        lora,
        rows=rows(),
        # one batch holds all pairs, so that both trainers see the same ones whatever their order
        per_device_train_batch_size=len(rows()),
        per_device_eval_batch_size=3,
        precompute_ref_batch_size=3,
        num_train_epochs=4,
        learning_rate=1e-3,
        logging_steps=1,
        eval_strategy="epoch",
        **RUNS[run],
    )
    logs = {}
    for name, trainer in both.items():
        trainer.train()
        logs[name] = [
            {key: value for key, value in row.items() if not key.endswith(("runtime", "per_second", "flos"))}
            for row in trainer.state.log_history
        ]
    assert len(logs["forest"]) == 9
    assert logs["forest"][-2]["eval_rewards/margins"] != pytest.approx(logs["forest"][1]["eval_rewards/margins"])
    for found, expected in zip(logs["forest"], logs["padded"], strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
