"""Base and tutor as generators: by transformers, or as GGUF files by llama.cpp."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from socratic_rl.core.dialogue import Message
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Generator, InRounds, Reply, Request, Sampling, fitting
from socratic_rl.generators.llama_generator import LlamaCpp
from socratic_rl.generators.llama_reader import LlamaReader
from socratic_rl.generators.sampling import draw_replies, text_streamer
from socratic_rl.models import weights
from socratic_rl.models.tokens import token_ids
from socratic_rl.models.tutor import Opened

N_CTX = 4096
"""The most tokens for which llama.cpp keeps a chat's cache."""


class TutorGenerator(Generator, Protocol):
    """Base or tutor; its prompts are made by the tutor's tokenizer and chat template, as in training."""

    engine: ClassVar[str]
    """What computes the replies, for the record."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tutor's."""
        ...

    @property
    def sampling(self) -> Sampling:
        """How its replies are drawn."""
        ...

    def context(self) -> int:
        """The most tokens that prompt and reply may have together; loads the weights."""
        ...


def prompt_room(generator: TutorGenerator) -> int:
    """The most tokens of a prompt, of those that prompt and reply may have together.

    Raises:
        UserError: A reply may fill all that the model reads.
    """
    most, reply = generator.context(), generator.sampling.max_tokens
    if most <= reply:
        raise UserError(f"sampling.max_new_tokens: leaves no room in the {most} tokens that the model reads")
    return most - reply


def chat_requests(prompts: Sequence[Sequence[Message]], seeds: Sequence[int]) -> list[Request]:
    """A request for each prompt.

    Args:
        prompts: Chat messages that end in a user's.
        seeds: One a prompt.
    """
    return [Request(seed=seed, messages=tuple(prompt)) for prompt, seed in zip(prompts, seeds, strict=True)]


def _prompt(generator: TutorGenerator, request: Request) -> list[int]:
    """A request's tokens; none where it may be shortened and still does not fit."""
    room = prompt_room(generator) if request.shorten else 0
    return fitting(request, lambda asked: token_ids(generator.tokenizer, asked.messages, prompt=True), room)


@dataclass(frozen=True)
class ByTransformers(InRounds):
    """Base or tutor by transformers."""

    engine: ClassVar[str] = "transformers"
    opened: Opened
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling

    @property
    def width(self) -> int:
        """Prompts in a batch."""
        return self.sampling.width

    def identity(self) -> dict[str, Any]:
        """Kind and sampling."""
        return {"kind": self.engine, **self.sampling.sampling()}

    def context(self) -> int:
        """What the model reads."""
        with self.opened() as model:
            return weights.context_length(model.config)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply, in batches; the model is open until the last one."""
        prompts = [_prompt(self, request) for request in requests]

        def longest_first(index: int) -> int:
            # so that memory runs out at once or not at all
            return -len(prompts[index])

        with self.opened() as model:
            yield from draw_replies(model, self.tokenizer, requests, prompts, self.sampling, order=longest_first)


@dataclass(frozen=True)
class ByLlamaCpp(InRounds):
    """Base or tutor as a GGUF file by llama.cpp, with a LoRA adapter on it where one is given."""

    engine: ClassVar[str] = "llama.cpp"
    model: Path
    adapter: Path | None
    tokenizer: PreTrainedTokenizerBase
    sampling: Sampling

    @property
    def width(self) -> int:
        """Prompts that are decoded together."""
        return self.sampling.width

    def identity(self) -> dict[str, Any]:
        """Kind, file and sampling."""
        return {"kind": self.engine, "model": self.model.name, **self.sampling.sampling()}

    def context(self) -> int:
        """What the model reads, as far as a cache is kept for it."""
        return min(self._reader.n_ctx, self._reader.trained_length)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply: decoded together, or one after another where they are written as drawn.

        At a temperature llama.cpp draws other tokens from a seed than transformers does.

        Raises:
            UserError: llama.cpp cannot load a file.
        """
        prompts = [_prompt(self, request) for request in requests]
        if all(request.write and not request.stop and not request.schema for request in requests):
            yield from ((index, self._write(request, prompts[index])) for index, request in enumerate(requests))
            return
        generator = LlamaCpp(
            model_path=str(self.model),
            lora_path=str(self.adapter) if self.adapter else None,
            n_ctx=max(64, *(len(prompt) + self.sampling.max_tokens for prompt in prompts)),
            width=self.width,
            n_threads=None,
            n_gpu_layers=-1,
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
            max_tokens=self.sampling.max_tokens,
        )
        yield from generator.generate(requests, partial(_prompt, self))

    def _write(self, request: Request, prompt: list[int]) -> Reply:
        """One reply, written as it is drawn."""
        if not prompt:
            return Reply("", "length")
        streamer = text_streamer(self.tokenizer, request.write, skip_prompt=False)
        drawn: list[int] = []
        ended = False
        for token in self._reader.draw(prompt, self.sampling, request.seed):
            if ended := self._reader.ends(token):
                break
            drawn.append(token)
            if streamer:
                streamer.put(torch.tensor([token]))
            if len(drawn) == (request.max_tokens or self.sampling.max_tokens):
                break
        if streamer:
            streamer.end()
        text = str(self.tokenizer.decode(drawn, skip_special_tokens=True))
        return Reply(text.strip(), "stop" if ended else "length")

    @cached_property
    def _reader(self) -> LlamaReader:
        return LlamaReader(self.model, self.adapter, N_CTX)
