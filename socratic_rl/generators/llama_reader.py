"""A GGUF file that llama.cpp reads one sequence at a time: a chat that goes on, or a text whose logits are wanted."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from numpy.typing import NDArray

from socratic_rl.core.errors import UserError, in_short
from socratic_rl.core.generator import Sampling
from socratic_rl.generators.llama_model import MOST_BATCHED, LlamaModel, NotAdaptedError, NotLoadedError, shared_start


class LlamaReader(LlamaModel):
    """A GGUF file, with a LoRA adapter on it where one is given, that reads one sequence.

    Args:
        path: The file.
        adapter: One that ``export.py`` wrote.
        n_ctx: The most tokens of a sequence.
        at_once: Whether a sequence is read in one step, as ``logits`` needs it.

    Raises:
        UserError: llama.cpp does not load it; says why.
    """

    def __init__(self, path: Path, adapter: Path | None, n_ctx: int, *, at_once: bool = False) -> None:
        n_batch = n_ctx if at_once else min(n_ctx, MOST_BATCHED)
        try:
            super().__init__(
                path,
                adapter,
                n_threads=torch.get_num_threads(),
                n_gpu_layers=-1,
                mapped=adapter is None,
                n_ctx=n_ctx,
                n_batch=n_batch,
                n_ubatch=min(n_batch, MOST_BATCHED),
                flash_attn_type=llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
            )
        except NotAdaptedError as error:
            raise UserError(f"llama.cpp does not put {adapter} on {path}: {in_short(str(error))}") from error
        except NotLoadedError as error:
            raise UserError(f"llama.cpp does not load {path}: {in_short(str(error))}") from error
        self._n_batch = n_batch
        self._cached: list[int] = []

    @property
    def n_ctx(self) -> int:
        """The most tokens of a sequence."""
        return int(llama_cpp.llama_n_ctx(self.context))

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """What the model expects after each token of a sequence, shape (tokens, vocabulary)."""
        self._forget(0)
        self._evaluate(tokens, every=True)
        shape = (len(tokens), llama_cpp.llama_vocab_n_tokens(self.vocab))
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), shape=shape).copy()

    def draw(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> Iterator[int]:
        """The tokens of a reply as they are drawn, without end; the caller stops.

        What a prompt begins with as the last sequence did is not read again.

        Args:
            prompt: Its tokens.
            sampling: How the reply is drawn.
            seed: Of this reply.
        """
        # at least the last token is read, since the first new one is drawn from what follows it
        self._forget(shared_start(self._cached, prompt[:-1]))
        sampler = self.sampler(sampling, seed)
        try:
            coming = list(prompt[len(self._cached) :])
            while True:
                self._evaluate(coming)
                coming = [llama_cpp.llama_sampler_sample(sampler, self.context, -1)]
                yield coming[0]
        finally:
            llama_cpp.llama_sampler_free(sampler)

    def _forget(self, length: int) -> None:
        """Keep only the first tokens of the cache, or none where the model cannot go back."""
        if not llama_cpp.llama_memory_seq_rm(self.memory, 0, length, -1):
            llama_cpp.llama_memory_clear(self.memory, True)
            length = 0
        del self._cached[length:]

    def _evaluate(self, tokens: Sequence[int], every: bool = False) -> None:
        """Read tokens after those in the cache, and work out the logits of the last one or of every one."""
        for start in range(0, len(tokens), self._n_batch):
            step = tokens[start : start + self._n_batch]
            for row, token in enumerate(step):
                self.batch.token[row] = token
                self.batch.pos[row] = len(self._cached) + row
                self.batch.n_seq_id[row] = 1
                self.batch.seq_id[row][0] = 0
                self.batch.logits[row] = every or row + 1 == len(step)
            self.batch.n_tokens = len(step)
            if code := llama_cpp.llama_decode(self.context, self.batch):
                raise RuntimeError(f"llama.cpp could not evaluate {len(step)} tokens (code {code})")
            self._cached += step
