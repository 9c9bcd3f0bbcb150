import contextlib
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from socratic_rl import exporting, gguf_files, llama_file, models, parity
from socratic_rl.dialogue import PreferencePair, Turn
from socratic_rl.preference_data import SocraticPairs
from socratic_rl.storage import write_jsonl
from tests.conftest import SharpModel


def reading(*log_probs: float, greedy: tuple[int, ...] = (1, 2)) -> parity.Reading:
    return parity.Reading(np.array(log_probs), np.array(greedy))


def test_gaps_are_of_each_side_and_of_what_training_changed():
    wanted = {"base": reading(-1.0, -2.0), "tutor": reading(-3.0, -2.0, greedy=(1, 3))}
    found = parity.gaps(wanted, {"tutor": reading(-3.5, -1.75, greedy=(1, 3))})
    assert found == {
        "tutor": parity.Gap(mean=0.375, largest=0.5, greedy=1.0, n=2),
        "training": parity.Gap(mean=1.0, largest=2.0, greedy=0.5, n=2),
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
    kind: exporting.Kind, dtype: str, base: float | None, tutor: float, right: bool
):
    apart = {side: parity.Gap(mean, 1, 1, 10) for side, mean in (("base", base), ("tutor", tutor)) if mean is not None}
    found = parity.mistake(apart, parity.Share(1.0, 0.01, 0.1, 10), kind, dtype)
    # computing in bfloat16 costs more than rounding weights does
    assert parity.mistake(apart, None, kind, dtype, bfloat16=True) is None
    assert (found is None) == right
    assert right or found.startswith(f"is {tutor:.4f} nats from the tutor, where rounding accounts for 0.0")


def test_the_share_is_a_slope_through_the_origin_from_the_base_in_the_same_engine():
    wanted = {"base": reading(-1.0, -2.0), "tutor": reading(-2.0, -4.0)}
    read = {"base": reading(-1.5, -2.5), "tutor": reading(-2.0, -4.5)}
    # over (-1, -2): (-0.5, -2), residuals (0.4, -0.2)
    of_adapter = parity.share(wanted, read, "adapter")
    assert of_adapter == parity.Share(0.9, pytest.approx(0.4 * 2**0.5 / 5), parity.NEAR + 0.5, 2)
    # merged weights from the base in transformers: (-1, -2.5)
    for kind, found in (("model", read), ("folder", {"tutor": read["tutor"]})):
        assert parity.share(wanted, found, kind) == parity.Share(
            pytest.approx(1.2), pytest.approx(0.2 * 2**0.5 / 5), parity.NEAR, 2
        )
    assert parity.share({"base": wanted["base"], "tutor": wanted["base"]}, read, "model") is None
    # of two changes of 1 and 2 nats the noise of bfloat16 is a small part
    wanted["tutor"] = dataclasses.replace(wanted["tutor"], bfloat16=True)
    assert parity.share(wanted, read, "model").near == pytest.approx(parity.NEAR + 2 * (2 * parity.BFLOAT16) ** 2 / 5)


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
    apart = {"base": parity.Gap(0.4, 1, 1, 10), "tutor": parity.Gap(0.4, 1, 1, 10)}
    shown = parity.Share(value, error, near, 10)
    assert shown.tells == tells
    found = parity.mistake(apart, shown, "adapter", "float16")
    assert (found is None) == right
    assert right or found.startswith(f"shows {value:.2f} ± {error:.2f} of what training changed")


def test_what_sequences_begin_with_alike_is_read_once():
    logits = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))
    sequences = [[1, 2, 3, 4], [1, 2, 5], [6, 2, 3], [1, 2, 3, 4, 7], [1, 2]]
    found = parity._reading((logits[: len(tokens)], tokens) for tokens in sequences)
    every = logits.log_softmax(-1)
    after = [(0, 2), (1, 3), (2, 4), (1, 5), (0, 2), (1, 3), (3, 7)]
    assert found.log_probs == pytest.approx([every[place, token].item() for place, token in after])
    assert list(found.greedy) == [logits[place].argmax() for place, _ in after]


def test_an_adapter_that_is_not_applied_or_in_another_order_is_found_however_little_training_moved(
    sharp_model: SharpModel, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tokenizer = models.tokenizer_from(str(tiny_llama))
    monkeypatch.setitem(gguf_files.TYPES, "8 bits", (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0))
    base = sharp_model("llama")
    file, adapter = tmp_path / "base.gguf", tmp_path / "adapter.gguf"
    gguf_files.write_model(base, tokenizer, file, "tiny", "8 bits", None)
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, len(tokenizer), 180).tolist() for _ in range(16)]

    def by_llama_cpp(adapter: Path | None) -> parity.Reading:
        with contextlib.closing(llama_file.load(file, adapter, 180, every_token=True)) as llama:
            return parity.by_llama_cpp(llama, sequences)

    wanted, of_base = {"base": parity.by_transformers(base, sequences)}, by_llama_cpp(None)

    def found(scale: float, tutor: parity.Reading | None = None) -> tuple[bool, str | None]:
        """What is told of an adapter so small; by default of one that is applied as it is written."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(2)
            lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
            model = get_peft_model(sharp_model("llama"), lora)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.mul_(scale)
        wanted["tutor"] = parity.by_transformers(model, sequences)
        if tutor is None:
            gguf_files.write_adapter(model, "", adapter, "tiny")
            tutor = by_llama_cpp(adapter)
        read = {"base": of_base, "tutor": tutor}
        apart, shown = parity.gaps(wanted, read), parity.share(wanted, read, "adapter")
        # the mean alone is right with all of these
        assert apart["tutor"].mean < parity.MORE * apart["base"].mean
        return shown.tells, parity.mistake(apart, shown, "adapter", "float16")

    for scale in (0.01, 0.005):
        assert found(scale) == (True, None)
        assert found(scale, of_base)[1].startswith("shows 0.00 ± 0.00 of what training changed")
    # so little that nothing can be told
    assert found(2e-4) == (False, None)
    with monkeypatch.context() as patched:
        patched.setattr(gguf_files, "NEIGHBOURS", set())
        assert found(0.01)[1].startswith("shows 0.")


def test_the_table_shows_the_share(capsys: pytest.CaptureFixture[str]):
    apart = {side: parity.Gap(0.05, 0.5, 0.9, 10) for side in ("base", "tutor", "training")}
    for shown, cells in ((parity.Share(0.994, 0.01, 0.1, 10), "– 0.99 ± 0.01 1"), (None, "– – 1")):
        parity.print_table(apart, shown, 3)
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
        tokenizer=models.tokenizer_from(str(tiny_llama)),
        max_length=500,
    )
    read = parity.passages(tutor, 2)
    assert [passage.prompt[0]["content"] for passage in read] == ["What is 3?", "What is 5?"]
    assert tutor.tokenizer.decode(read[0].tokens).endswith("assistant\nWhy?<|im_end|>\n")
    tutor.dataset = SocraticPairs(path="gone.jsonl")
    starter = parity.passages(tutor, 2)
    assert len(starter) == 2
    assert tutor.tokenizer.decode(starter[0].tokens).endswith("<|im_start|>assistant\n")


def test_a_file_that_makes_other_tokens_of_a_prompt_is_refused(tiny_llama: Path):
    tokenizer = models.tokenizer_from(str(tiny_llama))
    prompt = [{"role": "user", "content": "one?"}]
    ids = parity.token_ids(tokenizer, prompt, prompt=True)
    for adds_bos, refused in ((False, False), (True, True)):
        llama = SimpleNamespace(
            token_bos=lambda: 0,
            _model=SimpleNamespace(token_get_text=lambda _: "<s>", add_bos_token=lambda adds=adds_bos: adds),
            tokenize=lambda _, add_bos, special: [0] * add_bos + ids,
        )
        passages = [parity.Passage(prompt, ids)]
        if refused:
            with pytest.raises(parity.UserError, match=r"base_gguf: llama.cpp with base.gguf makes other tokens of"):
                parity._hold_tokens(llama, Path("base.gguf"), SimpleNamespace(tokenizer=tokenizer), passages)
        else:
            parity._hold_tokens(llama, Path("base.gguf"), SimpleNamespace(tokenizer=tokenizer), passages)
