"""How transformers draws replies: in batches, each row from its own seed and, where asked, held to a JSON schema."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TextStreamer,
)

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request, Sampling
from socratic_rl.models.tokens import chat_of


def draw_replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    prompts: Sequence[list[int]],
    sampling: Sampling,
    *,
    order: Callable[[int], Any],
    most: int | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Each request's index and reply, drawn in batches of requests with the same limit and the same stop strings.

    Each row draws from its own seed, so that two models with the same seeds draw with the same luck. A request that is
    written as it is drawn is a batch of its own.

    Args:
        model: Any causal language model; it is not changed.
        tokenizer: Its tokenizer.
        requests: What to reply to.
        prompts: Each request's tokens; one that has none gets an empty reply.
        sampling: How replies are drawn, and how many at once.
        order: What requests of a kind are sorted by, of their index; rows of like length belong together.
        most: The most tokens of prompt and reply together, for models that fail past their window; None for no limit.
    """

    def kind(index: int) -> tuple[bool, tuple[str, ...], int]:
        request = requests[index]
        return request.write is not None, request.stop, request.max_tokens or sampling.max_tokens

    yield from ((index, Reply("", "length")) for index, prompt in enumerate(prompts) if not prompt)
    filled = [index for index, prompt in enumerate(prompts) if prompt]
    for (written, stop, max_tokens), alike in groupby(sorted(filled, key=lambda n: (kind(n), order(n))), key=kind):
        rows, width = list(alike), 1 if written else sampling.width
        for batch in (rows[start : start + width] for start in range(0, len(rows), width)):
            longest = max(len(prompts[index]) for index in batch)
            replies = _draw(
                model,
                tokenizer,
                [prompts[index] for index in batch],
                max_new_tokens=max_tokens if most is None else min(max_tokens, most - longest),
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seeds=[requests[index].seed for index in batch],
                stop=stop,
                schemas=[requests[index].schema for index in batch],
                streamer=text_streamer(tokenizer, requests[batch[0]].write),
            )
            yield from zip(batch, replies, strict=True)


def text_streamer(
    tokenizer: PreTrainedTokenizerBase, write: Callable[[str], None] | None, *, skip_prompt: bool = True
) -> TextStreamer | None:
    """A streamer that passes text on word by word; None without a ``write``."""
    if write is None:
        return None
    streamer = TextStreamer(tokenizer, skip_prompt=skip_prompt, skip_special_tokens=True)
    streamer.on_finalized_text = lambda text, **_: write(text)
    return streamer


def _draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[list[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seeds: Sequence[int],
    stop: Sequence[str] = (),
    schemas: Sequence[str | None] = (),
    streamer: TextStreamer | None = None,
) -> list[Reply]:
    """One batch, padded on the left; a streamer takes a batch of one."""
    settings = model.generation_config
    of_model = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    # a base's own settings may not know the token that the template ends replies with
    of_tokenizer = (tokenizer.eos_token_id, chat_of(tokenizer).end)
    ends = sorted({token for token in (*of_model, *of_tokenizer) if token is not None})
    padded = tokenizer.pad({"input_ids": list(rows)}, padding_side="left", return_tensors="pt").to(model.device)
    # set aside, since a model may come with sampling settings of its own, which fill those that are not given
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        stop_strings=list(stop) or None,
    )
    forms: list[Any] = [_Forms(schemas, tokenizer, _vocabulary(model), tuple(ends))] if any(schemas) else []
    sampler: list[Any] = [_Sampler(seeds, temperature, top_p)] if temperature > 0 else []
    read: dict[str, Any] = {}
    try:
        with torch.inference_mode():
            distinct = list(dict.fromkeys(map(tuple, rows)))
            if len(distinct) < len(rows) and min(map(len, distinct)) > 1:
                # a prompt that stands in several rows is read once, up to the token that the first new one follows
                first = tokenizer.pad(
                    {"input_ids": [list(row[:-1]) for row in distinct]}, padding_side="left", return_tensors="pt"
                ).to(model.device)
                cache = model.generate(**first, max_new_tokens=1, return_dict_in_generate=True).cache
                cache.batch_select_indices(torch.tensor([distinct.index(tuple(row)) for row in rows]).to(model.device))
                read["cache"] = cache
            tokens = model.generate(
                **padded,
                **read,
                tokenizer=tokenizer,
                logits_processor=LogitsProcessorList(forms + sampler),
                streamer=streamer,
            )
    finally:
        model.generation_config = settings
    written = tokens[:, padded["input_ids"].shape[1] :].tolist()
    return [_reply(tokenizer, row, ends, stop) for row in written]


def _reply(tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: Sequence[int], stop: Sequence[str]) -> Reply:
    length = next((number for number, token in enumerate(tokens) if token in ends), None)
    text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
    cut = min((start for string in stop if (start := text.find(string)) >= 0), default=None)
    return Reply(text[:cut].strip(), "length" if length is None and cut is None else "stop")


class _Forms:
    """Masks the tokens that cannot go on to JSON of a row's schema; rows without one keep every token."""

    def __init__(
        self,
        schemas: Sequence[str | None],
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: int,
        ends: tuple[int, ...],
    ) -> None:
        vocabulary_tokens = _guided_tokens(tokenizer, vocabulary, ends)
        # without white space, which a small model may go on with to the end
        self.rows = [
            LLMatcher(vocabulary_tokens, LLMatcher.grammar_from_json_schema(schema, {"whitespace_flexible": False}))
            if schema
            else None
            for schema in schemas
        ]
        self.ends = ends
        self.begun = False

    def __call__(self, tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for number, row in enumerate(self.rows):
            if row is None:
                continue
            if self.begun and not row.is_stopped():
                row.consume_token(int(tokens[number, -1]))
            allowed = np.zeros(scores.shape[-1], dtype=bool)
            if row.is_stopped():
                allowed[list(self.ends)] = True
            else:
                bits = np.frombuffer(row.compute_bitmask(), dtype=np.uint8)
                allowed = np.unpackbits(bits, bitorder="little", count=len(allowed)).astype(bool)
            scores[number, ~torch.from_numpy(allowed).to(scores.device)] = -torch.inf
        self.begun = True
        return scores


def _vocabulary(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)


@lru_cache(maxsize=1)
def _guided_tokens(tokenizer: PreTrainedTokenizerBase, vocabulary: int, ends: tuple[int, ...]) -> Any:
    """A tokenizer as llguidance reads it, which takes a second.

    Raises:
        UserError: It is not one of the tokenizers library.
    """
    if not tokenizer.is_fast:
        raise UserError("only a fast tokenizer can be held to a schema; generator=llama_cpp holds any", key="model")
    return llguidance.hf.from_tokenizer(tokenizer, vocabulary, list(ends))


class _Sampler:
    """Draws each row's token from the row's own seed, by leaving only that one possible.

    Tokens are ordered from the likeliest on, and the first is taken at which the probability summed up passes a number
    drawn evenly between 0 and the sum that ``top_p`` keeps.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature
        self.top_p = top_p

    def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        probabilities = torch.softmax(scores.float() / self.temperature, dim=-1)
        # ordering all of a large vocabulary is slow, and the first thousand nearly always hold top_p
        for count in (min(1024, scores.shape[-1]), scores.shape[-1]):
            likeliest, order = probabilities.topk(count, dim=-1)
            summed = likeliest.cumsum(dim=-1)
            if bool((summed[:, -1] >= self.top_p).all()):
                break
        last = (summed < self.top_p).sum(dim=-1, keepdim=True).clamp(max=summed.shape[-1] - 1)
        luck = torch.stack([torch.rand(1, generator=generator) for generator in self.generators]).to(scores.device)
        column = torch.searchsorted(summed, luck * summed.gather(-1, last), right=True).minimum(last)
        return torch.full_like(scores, -torch.inf).scatter(-1, order.gather(-1, column), 0.0)
