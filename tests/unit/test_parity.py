from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from socratic_rl import exporting, models, parity
from socratic_rl.dialogue import PreferencePair, Turn
from socratic_rl.preference_data import SocraticPairs
from socratic_rl.storage import write_jsonl


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
    ("kind", "dtype", "base", "tutor", "agrees"),
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
def test_a_tutor_agrees_that_is_no_further_off_than_its_base_and_rounding(
    kind: exporting.Kind, dtype: str, base: float | None, tutor: float, agrees: bool
):
    apart = {side: parity.Gap(mean, 1, 1, 10) for side, mean in (("base", base), ("tutor", tutor)) if mean is not None}
    assert parity.agrees(apart, kind, dtype) == agrees


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
