from copy import deepcopy

import markdown_it
import pytest
import yaml

from socratic_rl.measures.figures import Figure
from socratic_rl.models.record import TutorRecord
from socratic_rl.sharing import hub
from socratic_rl.sharing.model_card import Measured, render

MADE_FROM = {
    "model": {"name": "mistral-7b-4bit", "pretrained": "mistralai/Mistral-7B-v0.1", "revision": None,
              "dtype": "auto", "attn_implementation": "sdpa",
              "quantization": {"_target_": "transformers.BitsAndBytesConfig", "load_in_4bit": True}},
    "dataset": {"path": "/home/someone/secret/pairs.jsonl"},
    "dpo": {"beta": 0.1, "learning_rate": 2e-4, "lr_scheduler_type": "linear", "loss_type": ["sigmoid"],
            "max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
            "max_length": 512},
    "lora": {"r": 8, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]},
    "seed": 3,
    "trained_on": {"pairs": 230, "problems": 115, "rejected by": "direct_answer 230"},
    "held_out": {"eval_rewards/accuracies": 0.75, "eval_n": 40},
    "versions": {"trl": "1.16.0"},
}  # fmt: skip


def card(**changes: dict) -> tuple[dict, str]:
    made_from = deepcopy(MADE_FROM)
    for key, values in changes.items():
        made_from[key] = made_from.get(key, {}) | values if values else values
    text = render(TutorRecord.model_validate(made_from))
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_a_card_tells_base_data_settings_and_results():
    head, body = card()
    assert head["base_model"] == "mistralai/Mistral-7B-v0.1"
    assert head["library_name"] == "peft"
    assert "datasets" not in head
    for told in (
        "| data set | pairs.jsonl |",
        "| pairs | 230 |",
        "| rejected by | direct_answer 230 |",
        "| quantised by | BitsAndBytesConfig |",
        "| trained | LoRA, r 8, alpha 8, dropout 0.1, on q_proj, v_proj |",
        "| learning rate | 0.0002, linear |",
        "| steps | 2 passes over the pairs |",
        "| pairs a step | 8 |",
        "| rewards/accuracies | 0.75 |",
        "| n | 40 |",
        "Not measured yet",
        "## Limitations",
    ):
        assert told in body
    assert "/home" not in body
    assert "AutoPeftModelForCausalLM" in body


def test_a_card_names_only_what_the_hub_has():
    head, body = card(model={"pretrained": "/home/someone/llama", "name": "llama"}, data_source={"path": "me/pairs"})
    assert "base_model" not in head
    assert head["datasets"] == ["me/pairs"]
    assert "A LoRA adapter for `llama`," in body
    assert "/home" not in body
    head, _ = card(model={"pretrained": "embedded"})
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_the_card_of_a_whole_model():
    head, body = card(lora={})
    assert head["library_name"] == "transformers"
    assert "lora" not in head["tags"]
    assert "| trained | all weights |" in body
    assert "peft" not in body


def test_figures_come_with_n_and_interval():
    row = {"name": "asks_question", "kind": "all", "base": 0.08, "tutor": 1.0, "difference": 0.92, "low": 0.84,
           "high": 0.98, "n": 50, "problems": 25}  # fmt: skip
    of_kind = row | {"kind": "irrelevant", "n": 5}
    text = render(
        TutorRecord.model_validate(MADE_FROM),
        Measured([Figure(**row), Figure(**of_kind)], "50 pairs of x.jsonl", "temperature=0.0"),
    )
    assert "| Asks a question | 0.080 | 1.000 | +0.920 | [+0.840, +0.980] | 50 | 25 |" in text
    assert text.count("| Asks a question |") == 1
    assert "- **Asks a question.** Share of replies" in text
    assert "On 50 pairs of x.jsonl. Replies were drawn with temperature=0.0." in text
    assert "Not measured yet" not in text


def test_a_judges_scores_stand_apart_with_its_agreement():
    row = {"name": "asks_question", "kind": "all", "base": 0.08, "tutor": 1.0, "difference": 0.92, "low": 0.84,
           "high": 0.98, "n": 50, "problems": 25}  # fmt: skip
    helps = row | {"name": "judge/helps", "agreement": {"kappa": 0.41, "low": 0.2, "high": 0.6, "n": 34}}
    text = render(
        TutorRecord.model_validate(MADE_FROM),
        Measured([Figure(**row), Figure(**helps)], "50 pairs", "temperature=0.0", "mrbench, by a model"),
    )
    by_rule, _, by_judge = text.partition("A judge (mrbench, by a model)")
    assert "Helps" not in by_rule
    assert "judge against people: κ\u00a00.41 [0.20,\u00a00.60], n\u00a0=\u00a034 |" in by_judge
    text = render(
        TutorRecord.model_validate(MADE_FROM), Measured([Figure(**row), Figure(**helps | {"agreement": None})], "", "")
    )
    assert "the judge was not compared with people" in text


@pytest.mark.parametrize(
    "hostile",
    ["a | b", "[x](http://x)", "<script>alert(1)</script>", "a\n# Title", "![x](http://x/y.png)", "`code`", "**bold**",
     "_it_", "~~gone~~", "a\n\n| | |\n|---|", "\x1b[2J", "&lt;b&gt;", "$x$", "](javascript:x)", "---\nx: y\n---"],
)  # fmt: skip
def test_what_a_record_names_is_text_in_its_card(hostile: str):
    head, body = card(
        model={"name": hostile, "pretrained": f"./{hostile}", "revision": hostile},
        dataset={"path": hostile},
        dpo={"lr_scheduler_type": hostile, "loss_type": [hostile]},
        lora={"target_modules": [hostile]},
        trained_on={"rejected by": hostile},
        versions={hostile: hostile},
        held_out={f"eval_{hostile}": 1},
    )
    plain_head, plain_body = card(
        model={"name": "x", "pretrained": "./x", "revision": "x"},
        dataset={"path": "x"},
        dpo={"lr_scheduler_type": "x", "loss_type": ["x"]},
        lora={"target_modules": ["x"]},
        trained_on={"rejected by": "x"},
        versions={"x": "x"},
        held_out={"eval_x": 1},
    )
    assert head == plain_head
    read = markdown_it.MarkdownIt().enable(["table", "strikethrough"])

    def kinds(text: str) -> list[str]:
        inner = [child.type for token in read.parse(text) for child in token.children or ()]
        return [token.type for token in read.parse(text)] + [
            kind for kind in inner if kind not in ("text", "code_inline", "text_special")
        ]

    assert kinds(body) == kinds(plain_body)
    assert body.isprintable() or not {c for c in body if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.1"),
        ("gpt2", "gpt2"),
        ("embedded", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("me/model](http://x)", None),
        ("me/<b>", None),
        ("./models/llama", None),
        ("~/llama", None),
        ("llama.Q4_0.gguf", None),
        ("tests/unit", None),
    ],
)
def test_a_base_is_named_where_the_hub_knows_it(source: str, known: str | None):
    assert hub.base_id(source) == known
