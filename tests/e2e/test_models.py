"""Each model config with real loading, quantising, training, saving and re-loading, on a tiny model in a folder."""

import functools
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from transformers import AutoModelForCausalLM, GPTQConfig

from socratic_rl.commands.settings import TrainSettings, parse
from socratic_rl.core import provenance
from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.core.files import write_jsonl
from socratic_rl.core.generator import Sampling
from socratic_rl.core.provenance import MADE_FROM
from socratic_rl.generators.tutors import ByTransformers, chat_requests
from socratic_rl.models import policy
from socratic_rl.models import weights as weights_module
from socratic_rl.models.record import TutorRecord
from socratic_rl.models.scoring import PairScores, score_pairs
from socratic_rl.models.tutor import Tutor
from socratic_rl.sharing import model_card
from socratic_rl.training import dpo, fields, saving
from tests.conftest import ROOT, TinyModel
from tests.e2e.conftest import run

CASES = {
    "llama2_7b": ("llama", []),
    "llama2_7b_4bit": ("llama", []),
    "llama2_7b_8bit": ("llama", []),
    "mistral_7b": ("mistral", []),
    "mistral_7b_4bit": ("mistral", []),
    "openhermes_mistral_7b_gptq": ("mistral", []),
    "gpt2": ("gpt2", []),
    "gpt2 lora=none": ("gpt2", ["lora=none"]),
    "gpt2 nf4": ("gpt2", ["+quantization@model.quantization=nf4"]),
}
NO_GPTQ = pytest.mark.skipif(not find_spec("gptqmodel"), reason="needs the extra `gptq`")
GPTQ = pytest.param("openhermes_mistral_7b_gptq", marks=[NO_GPTQ, pytest.mark.slow])


def pairs(count: int = 6) -> list[PreferencePair]:
    return [
        PreferencePair.of(
            [
                Turn(speaker="student", text=f"What is {n} and {n + 1}?"),
                Turn(speaker="teacher", text="How would you begin?"),
                Turn(speaker="student", text=f"I count on from {n}."),
            ],
            "How far did you get?",
            f"It is {2 * n + 1}.",
            conversation_id=f"c{n}",
            problem_id=f"p{n}",
            turn=2,
            rejection="direct_answer",
            split=("train", "train", "train", "validation", "test")[n % 5],
        )
        for n in range(count)
    ]


def composed(*overrides: str, data: Path) -> tuple[TrainSettings, DictConfig]:
    """The settings of train.py with these overrides."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=[f"dataset.path={data}", *overrides])
    return parse(TrainSettings, cfg), cfg


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs as a file."""
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    write_jsonl(path, (pair.to_record() for pair in pairs()))
    return path


@pytest.fixture(scope="module")
def weights(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny base without a chat template, of the architecture of a model config."""

    @functools.cache
    def folder(case: str) -> Path:
        plain = tiny_model(CASES[case][0], chat_template=False)
        if not case.endswith("gptq"):
            return plain
        tokenizer = weights_module.tokenizer_from(str(plain))
        rows = [pair.chosen[0]["content"] * 20 for pair in pairs()]
        method = GPTQConfig(bits=4, group_size=32, dataset=rows, tokenizer=tokenizer, backend="gptq_torch")
        made = tmp_path_factory.mktemp("gptq")
        AutoModelForCausalLM.from_pretrained(plain, quantization_config=method).save_pretrained(made)
        for file in plain.glob("tokenizer*"):
            shutil.copy(file, made)
        return made

    return folder


@pytest.fixture(scope="module", params=[GPTQ if case.endswith("gptq") else case for case in CASES], ids=str)
def case(
    request: pytest.FixtureRequest,
    weights: Callable[[str], Path],
    rows: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> SimpleNamespace:
    """One model config, its tiny model trained for six steps and saved, as train.py does it."""
    folder = tmp_path_factory.mktemp("trained")
    settings, cfg = composed(
        f"model={request.param.split()[0]}",
        f"model.pretrained={weights(request.param)}",
        *CASES[request.param][1],
        "dpo.max_steps=6",
        "dpo.per_device_train_batch_size=2",
        "dpo.gradient_accumulation_steps=1",
        "dpo.learning_rate=1e-2",
        "dpo.save_steps=100",
        data=rows,
    )
    args = dpo.arguments(cfg.dpo, folder / "checkpoints", tracked=False)
    lora = fields.lora_config(cfg.lora) if settings.lora else None
    tokenizer = weights_module.load_tokenizer(settings.model)
    model = policy.load_policy(settings.model, lora)
    before = score_pairs(model, tokenizer, pairs())
    outcome = dpo.train(model, tokenizer, pairs(), pairs(2), args, lora, None)
    after = score_pairs(outcome.model, tokenizer, pairs())
    made_from = {
        "model": settings.model.model_dump(),
        "dataset": settings.dataset.model_dump(),
        **{key: provenance.resolved(cfg)[key] for key in ("dpo", "lora", "seed")},
        "held_out": outcome.held_out,
        "versions": provenance.versions(),
    }
    record = TutorRecord.model_validate(made_from)
    saving.save(outcome.model, tokenizer, folder / "adapter", record, write_card=model_card.write_card)
    return SimpleNamespace(
        settings=settings,
        tokenizer=tokenizer,
        before=before,
        outcome=outcome,
        after=after,
        folder=folder / "adapter",
    )


def same(left: PairScores, right: PairScores) -> bool:
    """Whether two models give the same log-probabilities, up to rounding."""
    values = zip((left.chosen, left.rejected), (right.chosen, right.rejected), strict=True)
    return all(one == pytest.approx(other, abs=1e-4) for one, other in values)


def test_training_changes_the_trained_parameters_and_learns(case: SimpleNamespace):
    assert not same(case.before, case.after)
    losses = [row["loss"] for row in case.outcome.log if "loss" in row]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.5
    trained = {name: value for name, value in case.outcome.model.named_parameters() if value.requires_grad}
    assert trained
    assert all(value.dtype == torch.float32 for value in trained.values())
    if case.settings.lora:
        assert all("lora_" in name for name in trained)
        # every kind of linear layer has an adapter that learned something, GPT-2's Conv1D too
        layers = 4 if "gpt2" in case.settings.model.name else 7
        changed = [name for name, value in trained.items() if "lora_B" in name and value.abs().max() > 0]
        assert len(changed) == 2 * layers


def test_the_saved_tutor_scores_like_the_trained_one_and_its_base_like_the_base(case: SimpleNamespace):
    tutor = Tutor(case.folder)
    with tutor.tutor() as model:
        assert same(score_pairs(model, tutor.tokenizer, pairs()), case.after)
    with tutor.base() as model:
        assert same(score_pairs(model, tutor.tokenizer, pairs()), case.before)


def test_the_saved_tutor_replies_and_ends_its_turn_by_the_template_saved_with_it(case: SimpleNamespace):
    tutor = Tutor(case.folder)
    assert tutor.tokenizer.chat_template == weights_module.CHAT_TEMPLATE.read_text()
    sampling = Sampling(max_new_tokens=8, temperature=1.0, top_p=1.0, batch_size=1)
    generator = ByTransformers(tutor.tutor, tutor.tokenizer, sampling)
    ((_, reply),) = generator.generate(chat_requests([pairs()[0].prompt], [1]))
    assert reply.text
    assert "Assistant:" not in reply.text


def test_a_folder_holds_the_adapter_alone_or_the_whole_model_and_never_a_pickle(case: SimpleNamespace):
    names = {path.name for path in case.folder.iterdir()}
    assert {MADE_FROM, "tokenizer.json", "chat_template.jinja"} <= names
    assert ("adapter_model.safetensors" in names) == (case.settings.lora is not None)
    assert ("model.safetensors" in names) == (case.settings.lora is None)
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [("llama2_7b_4bit", "Params4bit", torch.uint8), ("llama2_7b_8bit", "Int8Params", torch.int8)],
)
def test_a_quantised_base_is_quantised(tiny_llama: Path, rows: Path, name: str, kind: str, dtype: torch.dtype):
    settings, _ = composed(f"model={name}", f"model.pretrained={tiny_llama}", data=rows)
    model = weights_module.load_base(settings.model)
    weights = [module.weight for place, module in model.named_modules() if place.endswith("_proj")]
    assert len(weights) == 2 * 7
    assert all((type(weight).__name__, weight.dtype) == (kind, dtype) for weight in weights)
    if dtype == torch.uint8:
        assert all(weight.quant_state.quant_type == "nf4" and weight.quant_state.nested for weight in weights)
        assert all(
            module.compute_dtype == model.dtype for module in model.modules() if hasattr(module, "compute_dtype")
        )


@pytest.mark.parametrize("name", ["llama2_7b_4bit", "mistral_7b_4bit", GPTQ])
def test_gradients_pass_through_quantised_layers_after_the_model_was_only_read(
    weights: Callable[[str], Path], tiny_model: TinyModel, rows: Path, name: str
):
    """Some kernels of bitsandbytes and GPT-QModel block them without a word; held-out pairs are scored first."""
    settings, _ = composed(f"model={name}", f"model.pretrained={weights(name)}", data=rows)
    model = weights_module.load_base(settings.model)
    score_pairs(model, weights_module.load_tokenizer(settings.model), pairs())
    # the same model in plain floats: each layer's weights are what it makes of the unit vectors
    plain = AutoModelForCausalLM.from_pretrained(tiny_model(CASES[name][0], chat_template=False))
    for place, layer in plain.named_modules():
        if place.endswith("_proj"):
            layer.weight.data = model.get_submodule(place)(torch.eye(layer.in_features)).T.detach()

    ids = torch.tensor([list(range(40))])
    gradients = []
    for one in (model, plain):
        embedded = one.get_input_embeddings()(ids).detach().requires_grad_()
        one(inputs_embeds=embedded).logits.log_softmax(-1)[0, :, 7].sum().backward()
        gradients.append(embedded.grad)
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5 * float(gradients[1].abs().max()))


def test_mistral_reads_back_no_further_than_its_window(tiny_model: TinyModel):
    model = AutoModelForCausalLM.from_pretrained(tiny_model("mistral"))
    ids = torch.arange(64)[None]
    other = ids.clone()
    other[0, 0] = 99
    with torch.no_grad():
        differ = (model(ids).logits != model(other).logits).any(-1)[0]
    # two layers of 16 tokens each reach back over 31
    assert differ[:31].any()
    assert not differ[31:].any()


def test_train_and_evaluate_on_a_quantised_base(tiny_model: TinyModel, rows: Path, tmp_path: Path):
    base = tiny_model("mistral", chat_template=False)
    run(
        "train.py",
        "model=mistral_7b_4bit",
        f"model.pretrained={base}",
        f"dataset.path={rows}",
        f"output_dir={tmp_path}",
        "dpo.max_steps=2",
        "dpo.per_device_train_batch_size=2",
        "dpo.gradient_accumulation_steps=1",
        "sampling.max_new_tokens=8",
        "wandb=disabled",
    )
    done = run(
        "evaluate.py", f"adapter={tmp_path / 'adapter'}", "sampling.max_new_tokens=8", "resamples=200", "wandb=disabled"
    )
    assert json.loads((tmp_path / "evaluation.json").read_text())["facts"]["base"] == base.name
    assert "preference_accuracy" in done.stdout
    assert json.loads((tmp_path / "adapter" / MADE_FROM).read_text())["model"]["quantization"]["load_in_4bit"]
