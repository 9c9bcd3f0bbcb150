"""What training scores is what evaluation scores: the same pairs are the same tokens under every published template."""

import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from socratic_rl.core.dialogue import PreferencePair
from socratic_rl.evaluation.preferences import compare_preferences
from socratic_rl.models import policy, weights
from socratic_rl.models.record import TutorRecord
from socratic_rl.models.tokens import fit_pairs
from socratic_rl.models.tutor import Tutor
from socratic_rl.training import dpo, saving
from tests.unit.models.chat_templates import PUBLISHED
from tests.unit.models.test_tokenizers import Folder, folder, with_model  # noqa: F401
from tests.unit.models.test_weights import settings
from tests.unit.training.test_dpo import node, pairs

SYSTEM = {"role": "system", "content": "Ask, é."}


def with_system(pair: PreferencePair) -> PreferencePair:
    return pair.model_copy(update={"prompt": [SYSTEM, *pair.prompt]})


def margins(place: Path, output: Path, **changes: object) -> tuple[float, float]:
    """The held-out margin over β that training gives, and the margin that evaluation gives of the saved tutor."""
    base = settings(str(place), **changes)
    tokenizer = weights.load_tokenizer(base)
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    training, held_out = (fit_pairs([with_system(pair) for pair in pairs(n)], tokenizer, 2000).pairs for n in (4, 3))
    assert (len(training), len(held_out)) == (4, 3)
    args = dpo.arguments(node(max_steps=2, learning_rate=5e-3), output / "checkpoints", tracked=False)
    outcome = dpo.train(policy.load_policy(base, lora), tokenizer, training, held_out, args, lora, None)
    record = {"model": base.model_dump(), "dpo": {"max_length": 2000}, "lora": {}}
    saving.save(outcome.model, tokenizer, output / "adapter", TutorRecord.model_validate(record))
    tutor = Tutor(output / "adapter")
    # a dialogue as it came, tokenised anew by what was saved
    again = fit_pairs([with_system(pair) for pair in pairs(3)], tutor.tokenizer, tutor.max_length).pairs
    sides = {"base": tutor.base, "tutor": tutor.tutor}
    figures = compare_preferences(sides, tutor.tokenizer, again, {}, 2, seed=0, resamples=10)
    (figure,) = (figure for figure in figures if figure.name == "log_ratio_margin" and figure.kind == "all")
    return outcome.held_out["eval_rewards/margins"] / args.beta, float(figure.tutor)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("llama", name) for name in ("llama 2", "mistral v1", "mistral v3", "chatml", "zephyr", "no end")),
        *(("gpt2", name) for name in ("qwen 3", "gemma", "llama 3")),
    ],
)
def test_the_margin_of_training_is_that_of_evaluation(
    folder: Folder,  # noqa: F811
    tmp_path: Path,
    kind: str,
    name: str,
):
    place = folder(kind, PUBLISHED[name], legacy=False)
    torch.manual_seed(0)
    trained, evaluated = margins(with_model(place, 3000), tmp_path / "run")
    assert math.isclose(trained, evaluated, rel_tol=1e-4, abs_tol=1e-5)
    assert abs(trained) > 1e-3
