"""Whether llama.cpp reads an exported file as transformers reads the tutor it came from."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from socratic_rl import llama_file, models, terminal
from socratic_rl.dialogue import Message
from socratic_rl.errors import UserError
from socratic_rl.exporting import Kind
from socratic_rl.fitting import fit_pairs
from socratic_rl.problems import Starter
from socratic_rl.tokens import pair_tokens, token_ids
from socratic_rl.tutors import Tutor

MORE = 1.25
"""How many times the mean difference of the base's file an adapter's may be: right ones were at 0.94 to 1.11."""

ROUNDING = {"float32": 0.01, "float16": 0.01, "bfloat16": 0.04}
"""Nats of mean difference that rounding weights may cost: with the embedded model it was 0.002 and 0.02."""


@dataclass(frozen=True)
class Reading:
    """What a model expects after each token of some sequences but their last; each of shape (n,)."""

    log_probs: NDArray[np.float64]
    """Of the token that comes next, in nats."""
    greedy: NDArray[np.int64]
    """The likeliest token."""


@dataclass(frozen=True)
class Gap:
    """How far two readings of the same n tokens are apart."""

    mean: float
    """Mean of the differences between log-probabilities, without their signs, in nats."""
    largest: float
    """The largest of them."""
    greedy: float
    """Share of tokens after which both hold the same token for the likeliest."""
    n: int


def gap(left: Reading, right: Reading) -> Gap:
    """How far two readings are apart."""
    apart = np.abs(left.log_probs - right.log_probs)
    same = (left.greedy == right.greedy).mean()
    return Gap(float(apart.mean()), float(apart.max()), float(same), len(apart))


@torch.no_grad()
def by_transformers(model: PreTrainedModel, sequences: Sequence[list[int]]) -> Reading:
    """The reading of a model in transformers."""
    model.eval()
    return _reading(
        (model(torch.tensor([tokens], device=model.device), use_cache=False).logits[0].float().cpu(), tokens)
        for tokens in sequences
    )


def by_llama_cpp(llama: llama_cpp.Llama, sequences: Sequence[list[int]]) -> Reading:
    """The reading of a file that was loaded with ``every_token``."""

    def logits(tokens: list[int]) -> torch.Tensor:
        llama.reset()
        llama.eval(tokens)
        return torch.from_numpy(llama.scores[: len(tokens)].copy())

    return _reading((logits(tokens), tokens) for tokens in sequences)


def _reading(read: Iterable[tuple[torch.Tensor, list[int]]]) -> Reading:
    """Of the logits of each sequence, shape (tokens, vocabulary)."""
    log_probs, greedy = [], []
    for logits, tokens in read:
        following = torch.tensor(tokens[1:])
        log_probs.append(logits[:-1].log_softmax(-1).gather(1, following[:, None])[:, 0].double().numpy())
        greedy.append(logits[:-1].argmax(-1).numpy())
    return Reading(np.concatenate(log_probs), np.concatenate(greedy))


@dataclass(frozen=True)
class Passage:
    """What both engines read: a prompt, and where it is known the reply that the dialogue goes on with."""

    prompt: list[Message]
    tokens: list[int]


def passages(tutor: Tutor, count: int) -> list[Passage]:
    """One held-out turn of each of so many problems, or, where the data set is gone, problems of the starter set."""
    pairs = [] if tutor.dataset.mistakes() else tutor.dataset.read()
    by_problem = {pair.problem_id: pair for pair in pairs if pair.split == "test"}
    if not by_problem:
        starter = Starter(name="starter", limit=count).read()
        prompts: list[list[Message]] = [[{"role": "user", "content": problem.question}] for problem in starter]
        return [Passage(prompt, token_ids(tutor.tokenizer, prompt, prompt=True)) for prompt in prompts]
    fitted = fit_pairs(list(by_problem.values())[:count], tutor.tokenizer, tutor.max_length)
    rows = [pair_tokens(pair, tutor.tokenizer) for pair in fitted.pairs]
    return [
        Passage(pair.prompt, row["prompt_ids"] + row["chosen_ids"])
        for pair, row in zip(fitted.pairs, rows, strict=True)
    ]


def expected(tutor: Tutor, read: Sequence[Passage]) -> dict[str, Reading]:
    """The reading of base and tutor by transformers."""
    sequences = [passage.tokens for passage in read]
    readings = {}
    for side, opened in (("base", tutor.base), ("tutor", tutor.tutor)):
        with opened() as model:
            readings[side] = by_transformers(model, sequences)
    return readings


def found(tutor: Tutor, kind: Kind, path: Path, base: Path | None, read: Sequence[Passage]) -> dict[str, Reading]:
    """The reading of what was exported and, in llama.cpp, of the base's file where there is one.

    Raises:
        UserError: llama.cpp does not load a file, or makes other tokens of the prompts.
    """
    sequences = [passage.tokens for passage in read]
    if kind == "folder":
        settings = tutor.settings.model_copy(update={"pretrained": str(path), "revision": None})
        return {"tutor": by_transformers(models.load_base(settings), sequences)}
    files = {"base": (base, None), "tutor": (base, path) if kind == "adapter" else (path, None)}
    readings = {}
    for side, (model, adapter) in files.items():
        if model:
            with contextlib.closing(
                llama_file.load(model, adapter, max(map(len, sequences)), every_token=True)
            ) as loaded:
                _hold_tokens(loaded, model, tutor, read)
                readings[side] = by_llama_cpp(loaded, sequences)
    return readings


def _hold_tokens(llama: llama_cpp.Llama, model: Path, tutor: Tutor, read: Sequence[Passage]) -> None:
    """Refuse a file whose vocabulary makes other tokens of a prompt than the tutor's tokenizer."""
    bos = llama.token_bos()
    start = llama._model.token_get_text(bos) if bos != -1 else ""
    for passage in read:
        text = tutor.tokenizer.apply_chat_template(passage.prompt, add_generation_prompt=True, tokenize=False)
        # llama.cpp puts a BOS before what has none, where the file says so
        add_bos = llama._model.add_bos_token() and not (start and text.startswith(start))
        tokens = llama.tokenize(text.encode(), add_bos=add_bos, special=True)
        if tokens != token_ids(tutor.tokenizer, passage.prompt, prompt=True):
            raise UserError(
                f"base_gguf: llama.cpp with {model} makes other tokens of {text[:60]!r}… than the tutor reads"
            )


def gaps(wanted: Mapping[str, Reading], read: Mapping[str, Reading]) -> dict[str, Gap]:
    """How far what was read is from what was to be read, by side, and ``training``: the tutor's from the base's."""
    apart = {side: gap(wanted[side], reading) for side, reading in read.items()}
    return apart | {"training": gap(wanted["base"], wanted["tutor"])}


def agrees(apart: Mapping[str, Gap], kind: Kind, dtype: str) -> bool:
    """Whether the tutor is no further off than rounding or, under an adapter, the file of its base accounts for."""
    if kind == "adapter":
        return apart["tutor"].mean <= max(MORE * apart["base"].mean, ROUNDING["float32"])
    return apart["tutor"].mean <= ROUNDING[dtype]


def print_table(apart: Mapping[str, Gap], turns: int) -> None:
    """Print how far the exported tutor is from the trained one, beside the base's file and what training changed."""
    from rich import box
    from rich.table import Table

    title = f"Exported against trained, {turns} held-out turns, {apart['tutor'].n} tokens"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("difference")
    sides = {"base": "base", "tutor": "tutor", "training": "tutor against base"}
    for name in sides.values():
        table.add_column(name, justify="right")
    rows = {
        "mean |Δ log-prob|": ("mean", ".4f"),
        "largest |Δ log-prob|": ("largest", ".4f"),
        "same likeliest token": ("greedy", ".1%"),
    }
    for name, (figure, form) in rows.items():
        table.add_row(name, *(format(getattr(apart[side], figure), form) if side in apart else "–" for side in sides))
    terminal.console().print(table)
