import contextlib
import dataclasses
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from socratic_rl.core import errors
from socratic_rl.core.dialogue import PreferencePair, Turn
from socratic_rl.core.files import write_jsonl
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import tokens as tokens_module
from socratic_rl.models import weights
from socratic_rl.pages import console
from socratic_rl.pairs.dataset import SocraticPairs
from socratic_rl.sharing import export_check, exports, gguf_files
from tests.conftest import SharpModel


def reading(*log_probs: float, greedy: tuple[int, ...] = (1, 2)) -> export_check.Reading:
    return export_check.Reading(np.array(log_probs), np.array(greedy))


def test_gaps_are_of_each_side_and_of_what_training_changed():
    wanted = {"base": reading(-1.0, -2.0), "tutor": reading(-3.0, -2.0, greedy=(1, 3))}
    found = export_check.gaps(wanted, {"tutor": reading(-3.5, -1.75, greedy=(1, 3))})
    assert found == {
        "tutor": export_check.Gap(mean=0.375, largest=0.5, greedy=1.0, n=2),
        "training": export_check.Gap(mean=1.0, largest=2.0, greedy=0.5, n=2),
    }


@pytest.mark.parametrize(
    ("kind", "dtype", "base", "tutor", "right"),
    [
        ("adapter", "float16", 0.06, 0.07, True),
        ("adapter", "float16", 0.06, 0.08, False),
        ("adapter", "float16", 0.0, 0.009, True),
        # merged weights owe the base's file nothing
        ("model", "float16", 0.06, 0.07, False),
        ("model", "float16", 0.06, 0.02, False),
        ("model", "bfloat16", 0.06, 0.02, True),
        ("folder", "float32", None, 0.001, True),
    ],
)
def test_a_tutor_is_right_that_is_no_further_off_than_its_base_and_rounding(
    kind: exports.Kind, dtype: str, base: float | None, tutor: float, right: bool
):
    apart = {
        side: export_check.Gap(mean, 1, 1, 10) for side, mean in (("base", base), ("tutor", tutor)) if mean is not None
    }
    found = export_check.mistake(apart, export_check.Share(1.0, 0.01, 0.1, 10), kind, dtype)
    # computing in bfloat16 costs more than rounding weights does
    assert export_check.mistake(apart, None, kind, dtype, bfloat16=True) is None
    assert (found is None) == right
    assert right or found.startswith(f"is {tutor:.4f} nats from the tutor, where rounding accounts for 0.0")


def test_the_share_is_a_slope_through_the_origin_from_the_base_in_the_same_engine():
    wanted = {"base": reading(-1.0, -2.0), "tutor": reading(-2.0, -4.0)}
    read = {"base": reading(-1.5, -2.5), "tutor": reading(-2.0, -4.5)}
    # over (-1, -2): (-0.5, -2), residuals (0.4, -0.2)
    of_adapter = export_check.share(wanted, read, "adapter")
    assert of_adapter == export_check.Share(0.9, pytest.approx(0.4 * 2**0.5 / 5), export_check.NEAR + 0.5, 2)
    # merged weights from the base in transformers: (-1, -2.5)
    for kind, found in (("model", read), ("folder", {"tutor": read["tutor"]})):
        assert export_check.share(wanted, found, kind) == export_check.Share(
            pytest.approx(1.2), pytest.approx(0.2 * 2**0.5 / 5), export_check.NEAR, 2
        )
    assert export_check.share({"base": wanted["base"], "tutor": wanted["base"]}, read, "model") is None
    # of two changes of 1 and 2 nats the noise of bfloat16 is a small part
    wanted["tutor"] = dataclasses.replace(wanted["tutor"], bfloat16=True)
    assert export_check.share(wanted, read, "model").near == pytest.approx(
        export_check.NEAR + 2 * (2 * export_check.BFLOAT16) ** 2 / 5
    )


@pytest.mark.parametrize(
    ("near", "value", "error", "tells", "right"),
    [
        (0.1, 0.95, 0.01, True, True),
        (0.1, 0.85, 0.01, True, False),
        (0.1, 1.15, 0.01, True, False),
        (0.1, 0.75, 0.1, True, True),
        # a coarse file of the base shows less of it
        (0.5, 0.6, 0.01, True, True),
        (0.5, 0.02, 0.01, True, False),
        (0.1, 0.0, 0.14, True, False),
        (0.1, 0.0, 0.16, False, True),
        (1.0, 0.0, 0.01, False, True),
    ],
)
def test_a_tutor_is_wrong_that_shows_another_share_of_training_than_all_where_that_can_be_told(
    near: float, value: float, error: float, tells: bool, right: bool
):
    apart = {"base": export_check.Gap(0.4, 1, 1, 10), "tutor": export_check.Gap(0.4, 1, 1, 10)}
    shown = export_check.Share(value, error, near, 10)
    assert shown.tells == tells
    found = export_check.mistake(apart, shown, "adapter", "float16")
    assert (found is None) == right
    assert right or found.startswith(f"shows {value:.2f} ± {error:.2f} of what training changed")


def test_what_sequences_begin_with_alike_is_read_once():
    logits = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))
    sequences = [[1, 2, 3, 4], [1, 2, 5], [6, 2, 3], [1, 2, 3, 4, 7], [1, 2]]
    found = export_check._reading((logits[: len(tokens)], tokens) for tokens in sequences)
    every = logits.log_softmax(-1)
    after = [(0, 2), (1, 3), (2, 4), (1, 5), (0, 2), (1, 3), (3, 7)]
    assert found.log_probs == pytest.approx([every[place, token].item() for place, token in after])
    assert list(found.greedy) == [logits[place].argmax() for place, _ in after]


def test_an_adapter_that_is_not_applied_or_in_another_order_is_found_however_little_training_moved(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    monkeypatch.setitem(gguf_files.TYPES, "8 bits", (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0))
    base = sharp_model("llama")
    file, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    gguf_files.write_model(base, tokenizer, file, "tiny", "8 bits", None)
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, len(tokenizer), 180).tolist() for _ in range(16)]

    def by_llama_cpp(adapter: Path | None) -> export_check.Reading:
        with contextlib.closing(LlamaReader(file, adapter, 180, at_once=True)) as llama:
            return export_check.by_llama_cpp(llama, sequences)

    wanted, of_base = {"base": export_check.by_transformers(base, sequences)}, by_llama_cpp(None)

    def found(scale: float, tutor: export_check.Reading | None = None) -> tuple[bool, str | None]:
        """What is told of an adapter so small; by default of one that is applied as it is written."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(2)
            lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
            model = get_peft_model(sharp_model("llama"), lora)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(scale)
        wanted["tutor"] = export_check.by_transformers(model, sequences)
        if tutor is None:
            gguf_files.write_adapter(model, "", adapter, "tiny")
            tutor = by_llama_cpp(adapter)
        read = {"base": of_base, "tutor": tutor}
        apart, shown = export_check.gaps(wanted, read), export_check.share(wanted, read, "adapter")
        # the mean alone is right with all of these
        assert apart["tutor"].mean < export_check.MORE * apart["base"].mean
        return shown.tells, export_check.mistake(apart, shown, "adapter", "float16")

    for scale in (0.01, 0.005):
        assert found(scale) == (True, None)
        assert found(scale, of_base)[1].startswith("shows 0.00 ± 0.00 of what training changed")
    # so little that nothing can be told
    assert found(2e-4) == (False, None)
    with monkeypatch.context() as patched:
        patched.setattr(gguf_files, "NEIGHBOURS", set())
        assert found(0.01)[1].startswith("shows 0.")


def test_the_table_shows_the_share(capsys: pytest.CaptureFixture[str]):
    apart = {side: export_check.Gap(0.05, 0.5, 0.9, 10) for side in ("base", "tutor", "training")}
    for shown, cells in ((export_check.Share(0.994, 0.01, 0.1, 10), "– 0.99 ± 0.01 1"), (None, "– – 1")):
        console.parity_table(
            {side: asdict(gap) for side, gap in apart.items()}, shown and (shown.value, shown.error), 3
        )
        assert f"share of training shown {cells}" in " ".join(capsys.readouterr().out.split())


def test_what_is_read_are_held_out_turns_of_different_problems_or_else_starter_problems(
    tiny_llama: Path, tmp_path: Path
):
    pairs = [
        PreferencePair.of(
            [Turn(speaker="student", text=f"What is {n}?")],
            "Why?",
            "No.",
            conversation_id=f"c{n}",
            problem_id=f"p{n // 2}",
            turn=0,
            rejection="constant",
            split="train" if n < 2 else "test",
        )
        for n in range(8)
    ]
    write_jsonl(tmp_path / "pairs.jsonl", (pair.to_record() for pair in pairs))
    tutor = SimpleNamespace(
        dataset=SocraticPairs(path=str(tmp_path / "pairs.jsonl")),
        tokenizer=weights.tokenizer_from(str(tiny_llama)),
        max_length=500,
    )
    read = export_check.passages(tutor, 2)
    assert [passage.prompt[0]["content"] for passage in read] == ["What is 3?", "What is 5?"]
    assert tutor.tokenizer.decode(read[0].tokens).endswith("assistant\nWhy?<|im_end|>\n")
    tutor.dataset = SocraticPairs(path="gone.jsonl")
    starter = export_check.passages(tutor, 2)
    assert len(starter) == 2
    assert tutor.tokenizer.decode(starter[0].tokens).endswith("<|im_start|>assistant\n")


def test_a_file_that_makes_other_tokens_of_a_prompt_is_refused(tiny_llama: Path):
    tokenizer = weights.tokenizer_from(str(tiny_llama))
    prompt = [{"role": "user", "content": "one?"}]
    ids = tokens_module.token_ids(tokenizer, prompt, prompt=True)
    for adds_bos, refused in ((False, False), (True, True)):
        llama = SimpleNamespace(tokenize=lambda _, special, adds=adds_bos: [0] * adds + ids)
        passages = [export_check.Passage(prompt, ids)]
        if refused:
            with pytest.raises(errors.UserError, match=r"base_gguf: llama.cpp with base.gguf makes other tokens of"):
                export_check._hold_tokens(llama, Path("base.gguf"), SimpleNamespace(tokenizer=tokenizer), passages)
        else:
            export_check._hold_tokens(llama, Path("base.gguf"), SimpleNamespace(tokenizer=tokenizer), passages)
