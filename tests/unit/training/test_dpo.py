import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from omegaconf import DictConfig, OmegaConf
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.core.errors import UserError
from socratic_rl.models.tokens import fit_pairs
from socratic_rl.models.weights import tokenizer_from
from socratic_rl.training import checkpoints, dpo

ROOT = Path(__file__).parents[3]


def pairs(count: int = 8) -> list[PreferencePair]:
    return [
        PreferencePair.of(
            [Turn(speaker="student", text=f"What is {n} and {n + 1}?")],
            "How far did you get?",
            f"It is {2 * n + 1}.",
            conversation_id=f"c{n}",
            problem_id=f"p{n}",
            turn=0,
            rejection="direct_answer",
            split="train",
        )
        for n in range(count)
    ]


def node(**changes: object) -> DictConfig:
    settings = OmegaConf.load(ROOT / "conf" / "dpo" / "default.yaml")
    small = {
        "seed": 0,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-2,
        "save_steps": 2,
    }
    return OmegaConf.merge(settings, small, changes)


def lora() -> LoraConfig:
    # dropout is on, so that going on from a checkpoint must restore the random state too
    return LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear", task_type="CAUSAL_LM")


def run(model_folder: Path, folder: Path, adapter: LoraConfig | None, checkpoint: str | None = None, **changes: object):
    torch.manual_seed(0)
    args = dpo.arguments(node(disable_dropout=False, **changes), folder, tracked=False)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    return dpo.train(model, tokenizer_from(str(model_folder)), pairs(), pairs(3), args, adapter, checkpoint)


@pytest.mark.parametrize("adapter", [lora(), None], ids=["lora", "all weights"])
def test_training_changes_what_it_should_and_learns_the_preference(
    tiny_llama: Path, tmp_path: Path, adapter: LoraConfig | None
):
    before = AutoModelForCausalLM.from_pretrained(tiny_llama).state_dict()
    outcome = run(tiny_llama, tmp_path, adapter, num_train_epochs=3)
    after = outcome.model.state_dict()
    if adapter:
        assert any(torch.any(value != 0) for name, value in after.items() if "lora_B" in name)
        base = {name.replace("base_model.model.", "").replace(".base_layer", ""): v for name, v in after.items()}
        assert all(torch.equal(base[name], value) for name, value in before.items())
    else:
        assert not any(torch.equal(after[name], value) for name, value in before.items() if "proj" in name)
    assert outcome.held_out["eval_rewards/accuracies"] == 1.0
    assert outcome.held_out["eval_rewards/margins"] > 0.1
    assert outcome.held_out["eval_n"] == 3
    losses = [row["loss"] for row in outcome.log if "loss" in row]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < losses[0]


def test_a_run_that_goes_on_from_a_checkpoint_ends_like_one_that_was_not_stopped(tiny_llama: Path, tmp_path: Path):
    whole = run(tiny_llama, tmp_path / "whole", lora())
    # a kill after the second step leaves its checkpoint and nothing later
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "killed" / "checkpoint-2")
    resumed = run(tiny_llama, tmp_path / "killed", lora(), checkpoint="latest")
    assert resumed.steps == whole.steps == 4
    rows = [[row["loss"] for row in outcome.log if "loss" in row] for outcome in (whole, resumed)]
    assert rows[0] == pytest.approx(rows[1], abs=1e-6)
    assert resumed.held_out == pytest.approx(whole.held_out, abs=1e-5)
    assert resumed.final_loss == pytest.approx(whole.final_loss, abs=1e-6)


@pytest.mark.parametrize("adapter", [lora(), None])
def test_a_run_that_has_reached_its_last_step_stays_what_it_is(
    tiny_llama: Path, tmp_path: Path, adapter: LoraConfig | None
):
    # a learning rate that does not end at 0 would show in the weights of one more step
    settings = {"lr_scheduler_type": "constant", "max_steps": 4}
    whole = run(tiny_llama, tmp_path, adapter, **settings)
    weights = {name: value.clone() for name, value in whole.model.named_parameters()}
    for _ in range(2):
        again = run(tiny_llama, tmp_path, adapter, checkpoint="latest", **settings)
        assert again.steps == whole.steps == 4
        assert all(torch.equal(value, weights[name]) for name, value in again.model.named_parameters())
        assert again.held_out == whole.held_out
        assert again.final_loss == whole.final_loss


@pytest.mark.parametrize("logging_steps", [1, 50])
def test_a_loss_that_is_not_a_number_ends_the_training_and_says_at_which_step(
    tiny_llama: Path, tmp_path: Path, logging_steps: int
):
    changes = {"learning_rate": 1e30, "warmup_steps": 0, "max_steps": 4, "logging_steps": logging_steps}
    with pytest.raises(UserError, match=r"^dpo\.learning_rate: the loss became (nan|inf) in step [23];"):
        run(tiny_llama, tmp_path, lora(), **changes)


def test_a_training_that_logs_no_step_ends_well(tiny_llama: Path, tmp_path: Path):
    outcome = run(tiny_llama, tmp_path, lora(), max_steps=2, logging_steps=50)
    assert outcome.steps == 2
    assert outcome.final_loss is None


def test_the_same_seed_gives_the_same_run(tiny_llama: Path, tmp_path: Path):
    first, second = (run(tiny_llama, tmp_path / name, lora()) for name in ("a", "b"))
    assert first.held_out == second.held_out


def test_a_checkpoint_that_is_none_is_a_mistake(tmp_path: Path):
    assert checkpoints.find_checkpoint(None, tmp_path) is None
    assert checkpoints.find_checkpoint("latest", tmp_path / "new") is None
    with pytest.raises(UserError, match=r"checkpoint: .*: not a checkpoint folder"):
        checkpoints.find_checkpoint(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bta": 1}, r"dpo\.bta: is no field of DPOConfig; did you mean dpo\.beta\?"),
        ({"lr_scheduler_type": "nope"}, r"dpo.*nope"),
    ],
)
def test_what_trl_refuses_is_told_in_one_line(tmp_path: Path, change: dict[str, object], told: str):
    with pytest.raises(UserError, match=told) as error:
        dpo.arguments(node(**change), tmp_path, tracked=False)
    assert "\n" not in str(error.value)


def test_arguments_reach_trl(tmp_path: Path):
    args = dpo.arguments(node(beta=0.3, optim="sgd"), tmp_path, tracked=False)
    assert isinstance(args, DPOConfig)
    assert (args.beta, args.optim, args.report_to) == (0.3, "sgd", [])
    assert args.bf16 == torch.cuda.is_available()


def test_more_tokens_than_the_model_can_read_are_refused():
    assert dpo.check_length(512, 512) == 512
    with pytest.raises(UserError, match=r"dpo\.max_length: 513 tokens .* at most 512"):
        dpo.check_length(513, 512)


def test_a_checkpoint_that_was_being_written_is_passed_over(tmp_path: Path):
    for name in ("checkpoint-4", "checkpoint-20", "checkpoint-100"):
        (tmp_path / name).mkdir()
    for name in ("checkpoint-4", "checkpoint-20"):
        state = {"global_step": 4, "max_steps": 200, "log_history": []}
        (tmp_path / name / "trainer_state.json").write_text(json.dumps(state))
        save_file({}, tmp_path / name / "adapter_model.safetensors")
    assert checkpoints.find_checkpoint("latest", tmp_path) == str(tmp_path / "checkpoint-20")
    assert checkpoints.find_checkpoint("latest", tmp_path / "nowhere") is None


def test_a_pair_is_tokenised_once_and_as_trl_does_it(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tokenizer = tokenizer_from(str(tiny_llama))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rendered: list[str] = []
    render = type(tokenizer).apply_chat_template

    def counted(self: object, messages: list[dict[str, str]], *args: object, **kwargs: object) -> object:
        rendered.append(str(messages))
        return render(self, messages, *args, **kwargs)

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", counted)
    fitted = fit_pairs(pairs(), tokenizer, 2000).pairs
    args = dpo.arguments(node(max_steps=1, precompute_ref_log_probs=True), tmp_path, tracked=False)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    dpo.train(model, tokenizer, fitted, fitted[:3], args, lora(), None, identity="tiny")
    # the prompt, and the dialogue with each answer
    assert len(rendered) == len(set(rendered)) == 3 * len(fitted)

    rows = [{"prompt": each.prompt, "chosen": each.chosen, "rejected": each.rejected} for each in fitted]
    untrained = AutoModelForCausalLM.from_pretrained(tiny_llama)
    plain = DPOTrainer(untrained, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    ids = ("prompt_ids", "chosen_ids", "rejected_ids")
    assert [{name: row[name] for name in ids} for row in plain.train_dataset] == [each.tokens for each in fitted]
