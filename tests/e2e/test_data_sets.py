"""Data sets that train.py makes pairs of, from rows as they are to an evaluation, on tiny models and stand-in files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.conftest import ROOT, TinyModel
from tests.e2e.conftest import mistakes, run

STEPS = [
    "dpo.max_steps=2",
    "dpo.per_device_train_batch_size=2",
    "dpo.gradient_accumulation_steps=1",
    "dpo.save_steps=100",
    "sampling.max_new_tokens=8",
    "samples=2",
]
"""A training that is over at once."""


def words(text: str) -> str:
    """Of a text laid out in columns, the words."""
    return " ".join(text.split())


EVALUATION = ["sampling.max_new_tokens=8", "resamples=100", "wandb=disabled"]

NAMES = ("Amara", "Bilal", "Chen", "Dunja", "Edo", "Fatou", "Goran", "Hana", "Imre", "Jun")
THINGS = ("pencils", "lemons", "ribbons", "candles", "marbles", "postcards", "buttons")


def dialogue(number: int) -> list[str]:
    """A dialogue of six turns that names things of its own."""
    name, thing = NAMES[number % 10], THINGS[number % 7]
    return [
        f"{name} packs {3 * number} {thing} into 3 boxes, as many into each. How many {thing} are in one box?",
        f"What does {name} do with the {thing} and the boxes?",
        f"The {thing} are shared out.",
        f"So how would you share {3 * number} {thing}?",
        f"I divide by 3, that gives {number}.",
        f"Well done! {name} has {number} {thing} in each box.",
    ]


@pytest.fixture(scope="module")
def seed_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV as the seed rows are: three growing rows a conversation, empty bad answers, a few broken rows."""
    path = tmp_path_factory.mktemp("seed") / "seed.csv"
    rows = [("", "", "Teacher: Hm.\nStudent: So?"), ("Student: What is 2 + 2?", "", "What do you think?")]
    for number in range(1, 31):
        said = dialogue(number)
        lines = [f"{('Student', 'Teacher')[n % 2]}: {text}\n" for n, text in enumerate(said)]
        rows += [("".join(lines[:n]), "", lines[n]) for n in (1, 3, 5)]
    rows[3] = (rows[3][0], "Teacher: It is 1, write that down.", rows[3][2])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("Prompt", "Bad answer", "Good answer"), *rows])
    return path


@pytest.fixture(scope="module")
def ultrafeedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that save_to_disk left, with the columns and splits of ultrafeedback_binarized."""
    import datasets

    def row(number: int) -> dict[str, object]:
        user = {"role": "user", "content": dialogue(number)[0]}
        sides = (f"You could share them out. How many are {3 * number} by 3?", f"{number} in each box.")
        chosen, rejected = ([user, {"role": "assistant", "content": text}] for text in sides)
        return {
            "prompt": user["content"],
            "prompt_id": str(number),
            "chosen": chosen,
            "rejected": rejected,
            "messages": chosen,
            "score_chosen": 8.0,
            "score_rejected": 5.0,
        }

    splits = {"train_prefs": range(1, 120), "test_prefs": range(120, 126)}
    path = tmp_path_factory.mktemp("hub") / "ultrafeedback"
    made = {split: datasets.Dataset.from_list([row(n) for n in numbers]) for split, numbers in splits.items()}
    datasets.DatasetDict(made).save_to_disk(path)
    return path


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_seed_rows_are_trained_on_and_evaluated(seed_csv: Path, tiny_llama: Path, tmp_path: Path):
    done = run(
        "train.py",
        "dataset=seed_csv",
        f"dataset.path={seed_csv}",
        "rejection=constant",
        f"model.pretrained={tiny_llama}",
        f"output_dir={tmp_path}",
        "dpo.max_length=2000",
        *STEPS,
    )
    assert "rows left out 1 (the prompt is empty: 1)" in words(done.stdout)
    assert "rows mended 1 (the good answer begins without a label" in words(done.stdout)
    assert "conversations 31 about 31 problems" in words(done.stdout)
    assert [row["where"] for row in rows(tmp_path / "flawed_rows.jsonl")] == [f"{seed_csv}:2", f"{seed_csv}:4"]
    pairs = rows(tmp_path / "pairs.jsonl")
    assert {pair["rejection"] for pair in pairs} == {"constant", "annotated"}
    made_from = json.loads((tmp_path / "adapter" / "socratic_rl.json").read_text())
    assert made_from["dataset"]["path"] == str(tmp_path / "pairs.jsonl")
    assert made_from["data_source"]["path"] == str(seed_csv)
    run("evaluate.py", f"adapter={tmp_path / 'adapter'}", *EVALUATION)
    found = json.loads((tmp_path / "evaluation.json").read_text())
    figures = {(row["name"], row["kind"]): row for row in found["metrics"]}
    tested = [pair for pair in pairs if pair["split"] == "test"]
    assert figures["preference_accuracy", "all"]["n"] == len(tested) > 0
    # without gold answers whether one is revealed is not measured
    assert figures["reveals_answer", "all"]["n"] == 0
    assert str(seed_csv) in found["facts"]["trained on"]


def test_a_weak_model_without_a_chat_template_fills_the_bad_answers(
    seed_csv: Path, tiny_llama: Path, tiny_model: TinyModel, tmp_path: Path
):
    weak = [
        "rejection=weak_model",
        "rejection.max_tokens=12",
        "generator=transformers",
        f"generator.model={tiny_model('gpt2', chat_template=False)}",
        "wandb=disabled",
    ]
    run("generate.py", *weak, "problems.limit=3", f"output_dir={tmp_path / 'generated'}")
    run(
        "train.py",
        "dataset=seed_csv",
        f"dataset.path={seed_csv}",
        f"model.pretrained={tiny_llama}",
        f"output_dir={tmp_path / 'trained'}",
        "dataset.validation=0",
        "dpo.max_length=2000",
        *weak,
        *STEPS,
    )
    for folder in ("generated", "trained"):
        pairs = rows(tmp_path / folder / "pairs.jsonl")
        assert {pair["rejection"] for pair in pairs} >= {"weak_model"}


def test_pairs_of_the_hub_are_trained_on_and_evaluated(ultrafeedback: Path, tiny_llama: Path, tmp_path: Path):
    done = run(
        "train.py",
        "dataset=ultrafeedback",
        f"dataset.path={ultrafeedback}",
        "dataset.limit=8",
        "dataset.validation=0.1",
        "dataset.validation_limit=3",
        f"model.pretrained={tiny_llama}",
        f"output_dir={tmp_path / 'run'}",
        *STEPS,
    )
    assert "8 trained on, 3 held out" in words(done.stdout)
    run("evaluate.py", f"adapter={tmp_path / 'run' / 'adapter'}", *EVALUATION)
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["metrics"][0]["n"] == 6
    # another data set than the one that it was trained on
    elsewhere = ["dataset=ultrafeedback", f"dataset.path={ultrafeedback}", "dataset.test_limit=4"]
    before = (tmp_path / "run" / "pairs.jsonl").read_bytes()
    run("evaluate.py", f"adapter={tmp_path / 'run' / 'adapter'}", *EVALUATION, *elsewhere)
    assert (tmp_path / "run" / "pairs.jsonl").read_bytes() == before
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["metrics"][0]["n"] == 4
    assert "evaluated_on/pairs.jsonl" in found["facts"]["evaluated on"]


@pytest.mark.parametrize(
    ("name", "architecture", "limit", "steps"),
    [
        ("seed_quantized", "llama", 5000, 50),
        ("seed_unquantized", "llama", 5000, 50),
        ("seed_socratic", "llama", 3000, 50),
        ("seed_mistral_notebook", "mistral", 3000, 30),
    ],
)
def test_an_experiment_has_the_settings_of_its_script_and_trains(
    name: str,
    architecture: str,
    limit: int,
    steps: int,
    seed_csv: Path,
    ultrafeedback: Path,
    tiny_model: TinyModel,
    tmp_path: Path,
):
    data = ultrafeedback if "quantized" in name else seed_csv
    overrides = [
        f"experiment={name}",
        f"dataset.path={data}",
        f"model.pretrained={tiny_model(architecture, chat_template=False)}",
        f"output_dir={tmp_path}",
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    lora, dpo = cfg.lora, cfg.dpo
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.target_modules) == (8, 8, 0.1, ["q_proj", "v_proj"])
    assert (dpo.beta, dpo.learning_rate, dpo.max_steps, dpo.max_length) == (0.1, 2e-4, steps, 512)
    assert cfg.dataset.limit == limit
    assert bool(cfg.model.quantization) == (name != "seed_unquantized")
    # a byte is a token here
    run("train.py", *overrides, *STEPS, "dpo.max_length=1500", "wandb=disabled")
    made_from = json.loads((tmp_path / "adapter" / "socratic_rl.json").read_text())
    assert made_from["held_out"]["eval_n"] > 0
    adapter = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert sorted(adapter["target_modules"]) == ["q_proj", "v_proj"]
    assert len([row for row in rows(tmp_path / "training_log.jsonl") if "loss" in row]) == 2
    assert ("load_in_4bit" in str(made_from["model"])) == (name != "seed_unquantized")


def test_three_rows_a_conversation_and_a_constant_bad_answer_train_all_of_gpt2(tiny_model: TinyModel, tmp_path: Path):
    run("generate.py", "splits=3", "rejection=constant", "problems.limit=12", f"output_dir={tmp_path / 'data'}")
    pairs = rows(tmp_path / "data" / "pairs.jsonl")
    turns: dict[str, list[int]] = {}
    for pair in pairs:
        turns.setdefault(pair["conversation_id"], []).append(pair["turn"])
    lengths = {row["id"]: len(row["turns"]) // 2 for row in rows(tmp_path / "data" / "conversations.jsonl")}
    assert len(turns) == 12
    assert all(len(found) == min(3, lengths[key]) for key, found in turns.items())
    assert len({pair["rejected"][0]["content"] for pair in pairs}) == 1
    run(
        "train.py",
        "model=gpt2",
        "lora=none",
        f"model.pretrained={tiny_model('gpt2', chat_template=False)}",
        f"dataset.path={tmp_path / 'data' / 'pairs.jsonl'}",
        f"output_dir={tmp_path / 'run'}",
        "dpo.max_length=2000",
        "wandb=disabled",
        *STEPS,
    )
    assert (tmp_path / "run" / "adapter" / "model.safetensors").exists()


def test_a_sweep_over_rejections_gives_each_job_its_own_pairs(seed_csv: Path, tiny_llama: Path, tmp_path: Path):
    done = run(
        "train.py",
        "-m",
        "dataset=seed_csv",
        f"dataset.path={seed_csv}",
        "rejection=constant,irrelevant",
        f"model.pretrained={tiny_llama}",
        f"output_dir={tmp_path}",
        "dpo.max_length=2000",
        "wandb=disabled",
        *STEPS,
    )
    assert "2 jobs, best first" in words(done.stdout)
    kinds = [{pair["rejection"] for pair in rows(tmp_path / job / "pairs.jsonl")} for job in "01"]
    assert kinds == [{"constant", "annotated"}, {"irrelevant", "annotated"}]


def test_pairs_of_generate_py_are_not_written_over(seed_csv: Path, data: Path):
    before = (data / "pairs.jsonl").read_bytes()
    (line,) = mistakes("train.py", "dataset=seed_csv", f"dataset.path={seed_csv}", f"output_dir={data}")
    assert line.startswith("output_dir: ")
    assert (data / "pairs.jsonl").read_bytes() == before


Shared = Callable[[str], Path]


def test_the_shared_rows_train(shared_data: Shared, tiny_llama: Path, tmp_path: Path):
    run(
        "train.py",
        "dataset=seed_csv",
        f"dataset.path={shared_data('seed_dataset.csv')}",
        "dataset.limit=40",
        "rejection=mixed",
        f"model.pretrained={tiny_llama}",
        f"output_dir={tmp_path}",
        "dpo.max_length=4000",
        "wandb=disabled",
        *STEPS,
    )
    assert len(rows(tmp_path / "pairs.jsonl")) > 30
