"""Who can be talked to: a model in transformers, or a GGUF file in llama.cpp."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from transformers import PreTrainedTokenizerBase, TextStreamer

from socratic_rl.core.component import SamplingSettings
from socratic_rl.core.dialogue import Message
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request, in_order
from socratic_rl.generators.llama_generator import LlamaCpp
from socratic_rl.generators.sampling import decode, stream
from socratic_rl.models import weights
from socratic_rl.models.tokens import token_ids

if TYPE_CHECKING:
    from llama_cpp import Llama

    from socratic_rl.models.tutor import Opened

N_CTX = 4096
"""The most tokens for which llama.cpp keeps a cache."""


def room_for(most: int, sampling: SamplingSettings) -> int:
    """The most tokens of a prompt, of those that prompt and reply may have together.

    Raises:
        UserError: A reply may fill all that the model reads.
    """
    if most <= sampling.max_new_tokens:
        raise UserError(f"sampling.max_new_tokens: leaves no room in the {most} tokens that the model reads")
    return most - sampling.max_new_tokens


class Speaker(Protocol):
    """Replies to a dialogue; its weights are loaded when they are first needed."""

    engine: ClassVar[str]
    """What computes the replies, for the record."""

    def context(self) -> int:
        """The most tokens that prompt and reply may have together."""
        ...

    def stream(
        self, prompt: Sequence[Message], write: Callable[[str], None], sampling: SamplingSettings, seed: int
    ) -> Reply:
        """One reply, handed on piece by piece as it is drawn.

        Args:
            prompt: Chat messages that end in a user's.
            write: Takes each piece of text; what it raises ends the reply.
            sampling: How it is drawn.
            seed: Of this reply.
        """
        ...

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: SamplingSettings, seeds: Sequence[int], label: str
    ) -> list[Reply]:
        """A reply to each prompt, several at once.

        Args:
            prompts: Chat messages that end in a user's.
            sampling: How they are drawn, and how many at once.
            seeds: One a prompt.
            label: What the progress bar is called.
        """
        ...


@dataclass(frozen=True)
class InTransformers:
    """A model in transformers."""

    engine: ClassVar[str] = "transformers"
    opened: "Opened"
    tokenizer: PreTrainedTokenizerBase

    def context(self) -> int:
        """What the model reads."""
        with self.opened() as model:
            return weights.context_length(model)

    def stream(
        self, prompt: Sequence[Message], write: Callable[[str], None], sampling: SamplingSettings, seed: int
    ) -> Reply:
        """One reply, the same as ``decode`` gives."""
        settings = sampling.model_dump(exclude={"batch_size"})
        with self.opened() as model:
            return stream(model, self.tokenizer, prompt, write, seed=seed, **settings)

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: SamplingSettings, seeds: Sequence[int], label: str
    ) -> list[Reply]:
        """A reply to each prompt, in batches."""
        with self.opened() as model:
            return decode(model, self.tokenizer, prompts, seeds=seeds, label=label, **sampling.model_dump())


@dataclass(frozen=True)
class InLlamaCpp:
    """A GGUF file in llama.cpp, with a LoRA adapter on it where one is given.

    Prompts are made into tokens by the tutor's tokenizer and chat template, as in training.
    """

    engine: ClassVar[str] = "llama.cpp"
    model: Path
    adapter: Path | None
    tokenizer: PreTrainedTokenizerBase

    def context(self) -> int:
        """What the model reads, as far as a cache is kept for it."""
        return int(min(self._llama.n_ctx(), self._llama._model.n_ctx_train()))

    def stream(
        self, prompt: Sequence[Message], write: Callable[[str], None], sampling: SamplingSettings, seed: int
    ) -> Reply:
        """One reply; at a temperature llama.cpp draws other tokens from a seed than transformers does."""
        import llama_cpp
        import torch

        streamer = TextStreamer(self.tokenizer, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, **_: write(text)
        said: list[int] = []
        self._llama.set_seed(seed)
        # the library's own defaults would cut further
        cuts = {"top_k": 0, "min_p": 0.0, "top_p": sampling.top_p}
        for token in self._llama.generate(
            token_ids(self.tokenizer, prompt, prompt=True), temp=sampling.temperature, **cuts
        ):
            if ended := llama_cpp.llama_vocab_is_eog(self._llama._model.vocab, token):
                break
            said.append(token)
            streamer.put(torch.tensor([token]))
            if len(said) == sampling.max_new_tokens:
                break
        streamer.end()
        text = str(self.tokenizer.decode(said, skip_special_tokens=True))
        return Reply(text.strip(), "stop" if ended else "length")

    def replies(
        self, prompts: Sequence[Sequence[Message]], sampling: SamplingSettings, seeds: Sequence[int], label: str
    ) -> list[Reply]:
        """A reply to each prompt, decoded together.

        Raises:
            UserError: llama.cpp cannot load a file.
        """

        def tokens(request: Request) -> list[int]:
            return token_ids(self.tokenizer, request.messages, prompt=True)

        requests = [Request(seed=seed, messages=tuple(prompt)) for prompt, seed in zip(prompts, seeds, strict=True)]
        generator = LlamaCpp(
            model_path=str(self.model),
            lora_path=str(self.adapter) if self.adapter else None,
            n_ctx=max(64, *(len(tokens(request)) + sampling.max_new_tokens for request in requests)),
            width=sampling.batch_size,
            n_threads=None,
            n_gpu_layers=-1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
        )
        return in_order(generator.generate(requests, tokens), len(requests), label)

    @cached_property
    def _llama(self) -> "Llama":
        from socratic_rl.sharing import export_check

        return export_check.load(self.model, self.adapter, N_CTX)
