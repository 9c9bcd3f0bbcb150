"""Whether llama.cpp reads an exported file as transformers reads the tutor it came from."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from socratic_rl.conversations.own_problems import Starter
from socratic_rl.core.dialogue import Message
from socratic_rl.core.errors import UserError
from socratic_rl.generators.llama_model import shared_start
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.models import weights
from socratic_rl.models.tokens import chat_of, fit_pairs, pair_tokens, token_ids
from socratic_rl.models.tutor import Tutor
from socratic_rl.sharing.exports import Kind

MORE = 1.25
"""How many times the mean difference of the base's file an adapter's may be: right ones were at 0.94 to 1.11."""


GROWS = 0.03
"""Part of training's own mean change that rounding may add: wrong files of strongly trained models were off by 0.3."""


ROUNDING = {"float32": 0.01, "float16": 0.01, "bfloat16": 0.04}
"""Nats of mean difference that rounding weights may cost: with the embedded model it was 0.002 and 0.02."""


BFLOAT16 = 0.08
"""Nats of mean difference that computing in bfloat16 may cost in transformers: with the embedded model it was 0.04."""


NEAR = 0.1
"""How far from 1 the share of training's change may lie beside what chance and rounding account for."""


@dataclass(frozen=True)
class Reading:
    """What a model expects after each token of some sequences but their last; each of shape (n,).

    Where sequences begin alike, that part is read once: it would be off by the same, however often it is counted.
    """

    log_probs: NDArray[np.float64]
    """Of the token that comes next, in nats."""
    greedy: NDArray[np.int64]
    """The likeliest token."""
    bfloat16: bool = False
    """Whether it was computed so, which rounds log-probabilities by as much as a small training moves them."""


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


@dataclass(frozen=True)
class Share:
    """The share of training's change that the exported tutor shows: 1 is all of it, 0 nothing.

    The slope, through the origin, of the exported tutor's change in log-probability over that of the trained one, over
    n tokens. Chance differences cancel, so that it tells where training moved less than rounding does.
    """

    value: float
    error: float
    """Standard error; each token has a variance of its own."""
    near: float
    """How far from 1 that of a right tutor may lie beside chance."""
    n: int

    @property
    def chance(self) -> float:
        """How far chance reaches: three standard errors, since tokens of one text are not quite independent."""
        return 3 * self.error

    @property
    def tells(self) -> bool:
        """Whether chance keeps that of a right tutor from 0."""
        return 1 - self.near - self.chance > self.chance

    @property
    def is_all(self) -> bool:
        """Whether all of training's change may be there."""
        return abs(self.value - 1) <= self.near + self.chance


def gap(left: Reading, right: Reading) -> Gap:
    """How far two readings are apart."""
    apart = np.abs(left.log_probs - right.log_probs)
    same = (left.greedy == right.greedy).mean()
    return Gap(float(apart.mean()), float(apart.max()), float(same), len(apart))


@torch.no_grad()
def by_transformers(model: PreTrainedModel, sequences: Sequence[list[int]]) -> Reading:
    """The reading of a model in transformers."""
    model.eval()
    read = _reading(
        (model(torch.tensor([tokens], device=model.device), use_cache=False).logits[0].float().cpu(), tokens)
        for tokens in sequences
    )
    return replace(read, bfloat16=model.dtype == torch.bfloat16)


def by_llama_cpp(model: LlamaReader, sequences: Sequence[list[int]]) -> Reading:
    """The reading of a file that reads ``at_once``."""
    return _reading((torch.from_numpy(model.logits(tokens)), tokens) for tokens in sequences)


def _reading(read: Iterable[tuple[torch.Tensor, list[int]]]) -> Reading:
    """The reading that the logits of sequences give; each of shape (tokens, vocabulary)."""
    log_probs, greedy = [], []
    earlier: list[list[int]] = []
    for logits, tokens in read:
        new = max((shared_start(tokens, other) for other in earlier), default=0) or 1
        earlier.append(tokens)
        following = torch.tensor(tokens[new:])
        before = logits[new - 1 : -1]
        log_probs.append(before.log_softmax(-1).gather(1, following[:, None])[:, 0].double().numpy())
        greedy.append(before.argmax(-1).numpy())
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
    some = list(by_problem.values())[:count]
    fitted = fit_pairs(some, tutor.tokenizer, tutor.max_length, trained_in=f"adapter: {tutor.dataset.path}")
    rows = [pair_tokens(pair, tutor.tokenizer) for pair in fitted.pairs]
    return [
        Passage(pair.prompt, row["prompt_ids"] + row["chosen_ids"])
        for pair, row in zip(fitted.pairs, rows, strict=True)
    ]


def trained_readings(tutor: Tutor, read: Sequence[Passage]) -> dict[str, Reading]:
    """The reading of base and tutor by transformers."""
    sequences = [passage.tokens for passage in read]
    readings = {}
    for side, opened in (("base", tutor.base), ("tutor", tutor.tutor)):
        with opened() as model:
            readings[side] = by_transformers(model, sequences)
    return readings


def exported_readings(
    tutor: Tutor, kind: Kind, path: Path, base: Path | None, read: Sequence[Passage]
) -> dict[str, Reading]:
    """The reading of what was exported and, in llama.cpp, of the base's file where there is one.

    Raises:
        UserError: llama.cpp does not load a file, or makes other tokens of the prompts.
    """
    sequences = [passage.tokens for passage in read]
    if kind == "folder":
        settings = tutor.settings.model_copy(update={"pretrained": str(path), "revision": None})
        return {"tutor": by_transformers(weights.load_base(settings), sequences)}
    files = {"base": (base, None), "tutor": (base, path) if kind == "adapter" else (path, None)}
    readings = {}
    for side, (model, adapter) in files.items():
        if model:
            longest = max(map(len, sequences))
            with contextlib.closing(LlamaReader(model, adapter, longest, at_once=True)) as loaded:
                _hold_tokens(loaded, model, tutor, read, exported=side == "tutor", key="base_gguf" if base else "check")
                readings[side] = by_llama_cpp(loaded, sequences)
    return readings


def _hold_tokens(
    reader: LlamaReader,
    model: Path,
    tutor: Tutor,
    read: Sequence[Passage],
    *,
    exported: bool = True,
    key: str = "base_gguf",
) -> None:
    """Refuse a file whose vocabulary makes other tokens of a prompt than the tutor's tokenizer."""
    for passage in read:
        text = chat_of(tutor.tokenizer).prompt(passage.prompt)
        # the base's file alone may put BOS where the tutor's template has none
        tokens = reader.tokenize(text, special=True) if exported else reader.encode(text, special=True)
        if tokens != token_ids(tutor.tokenizer, passage.prompt, prompt=True):
            raise UserError(f"{key}: llama.cpp with {model} makes other tokens of {text[:60]!r}… than the tutor reads")


def gaps(wanted: Mapping[str, Reading], read: Mapping[str, Reading]) -> dict[str, Gap]:
    """How far what was read is from what was to be read, by side, and ``training``: the tutor's from the base's."""
    apart = {side: gap(wanted[side], reading) for side, reading in read.items()}
    return apart | {"training": gap(wanted["base"], wanted["tutor"])}


def share(wanted: Mapping[str, Reading], read: Mapping[str, Reading], kind: Kind) -> Share | None:
    """The share of training's change that what was read shows; None where training changed nothing.

    An adapter's change is counted from the base's file in llama.cpp, since both are rounded alike; that of merged
    weights, which owe this file nothing, from the base in transformers. The further a file of the base is from it, the
    less of a change it shows: with one x nats off it was up to x less.
    """
    base = wanted["base"].log_probs
    own_base = read["base"].log_probs if kind == "adapter" else base
    trained = wanted["tutor"].log_probs - base
    exported = read["tutor"].log_probs - own_base
    squares = float(trained @ trained)
    if not squares:
        return None
    value = float(trained @ exported) / squares
    error = float(np.linalg.norm(trained * (exported - value * trained))) / squares
    near = NEAR + float(np.abs(own_base - base).mean())
    if wanted["tutor"].bfloat16:
        # that of a change which is rounding no file can show, and what is added to a larger number is partly lost
        near += len(trained) * (2 * BFLOAT16) ** 2 / squares
    return Share(value, error, near, len(trained))


def mistake(
    apart: Mapping[str, Gap], portion: Share | None, kind: Kind, dtype: str, bfloat16: bool = False
) -> str | None:
    """What is wrong with what was exported, if anything that this can tell.

    It is further off than rounding or, under an adapter, the file of its base accounts for; or it shows another share
    of training's change than all of it.
    """
    rounding = MORE * apart["base"].mean if kind == "adapter" else ROUNDING[dtype]
    rounding = max(rounding, BFLOAT16 if bfloat16 else ROUNDING["float32"])
    if "training" in apart:
        rounding += GROWS * apart["training"].mean
    if apart["tutor"].mean > rounding:
        return f"is {apart['tutor'].mean:.4f} nats from the tutor, where rounding accounts for {rounding:.4f}"
    if portion and portion.tells and not portion.is_all:
        return f"shows {portion.value:.2f} ± {portion.error:.2f} of what training changed, where all of it is 1"
    return None
