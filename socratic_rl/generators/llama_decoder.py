"""Talks decoded together by llama.cpp: a batch with a sequence for each, whose cache is kept from turn to turn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import llama_cpp

from socratic_rl.core.generator import Reply, Request, Sampling, Talk
from socratic_rl.generators.llama_model import MOST_BATCHED, LlamaModel, shared_start

T = TypeVar("T")


MIN_SHARED = 16
"""A cache that shares fewer tokens with a prompt is not worth copying or waiting for."""


@dataclass
class _Seat:
    """One of the talks that are held at once, and the sequence in which llama.cpp decodes it."""

    sequence: int
    talk: Talk[Any] | None = None
    index: int = 0
    """Of the talk."""
    begun: bool = False
    """Whether the sequence's cache begins as the prompt does."""
    tokens: list[int] = field(default_factory=list)
    """The prompt's, and those drawn after it."""
    start: int = 0
    """How many tokens the prompt has."""
    end: int = 0
    """How many tokens prompt and reply may have together."""
    stops: tuple[bytes, ...] = ()
    """The reply ends before the first of these."""
    written: bytearray = field(default_factory=bytearray)
    write: Callable[[str], None] | None = None
    """Takes the reply."""
    sampler: Any = None


class Decoder(LlamaModel):
    """A GGUF file in llama.cpp, on which ``width`` talks are held at once.

    Every step evaluates one batch: the newest token of each talk that is being replied to, and as much of the other
    talks' prompts as fits. A talk that ends makes room for the next one at once. Each has two caches, since its two
    sides hear it with prompts of their own: what a prompt shares with either is not evaluated again, and what it
    shares with any other talk's, such as instructions and examples, is copied from there.

    A reply is drawn by a sampler of its own from the request's seed. The same talks in the same order give the same
    text; other neighbours only change it where rounding tips two tokens that are all but equally likely.
    """

    read = 0
    """Tokens of prompts that were evaluated so far, for the benchmark."""
    drawn = 0
    """Tokens that were drawn so far."""

    def __init__(
        self, path: Path, adapter: Path | None, *, width: int, n_ctx: int, n_threads: int, n_gpu_layers: int
    ) -> None:
        """Load the file.

        Args:
            path: A GGUF file.
            adapter: One of a LoRA adapter that goes on it; None for none.
            width: Talks that are held at once.
            n_ctx: Tokens that a prompt and its reply may have together.
            n_threads: Of the processor.
            n_gpu_layers: Layers that a GPU computes; -1 is all.

        Raises:
            NotLoadedError: llama.cpp cannot load the file.
            NotAdaptedError: It cannot put the adapter on it.
        """
        self.width, self.n_ctx = width, n_ctx
        # a seat's second cache, and one to change two over
        sequences = 2 * width + 1
        super().__init__(
            path,
            adapter,
            n_threads=n_threads,
            n_gpu_layers=n_gpu_layers,
            n_seq_max=sequences,
            n_ctx=n_ctx * sequences,
            n_batch=MOST_BATCHED,
            n_ubatch=MOST_BATCHED,
            # in a cache of its own, a talk's attention takes no time for the others' tokens
            kv_unified=False,
        )
        self._caches: list[list[int]] = []
        self._talk_of: list[int] = []

    def hold(
        self, talks: Iterable[Talk[T]], prompt: Callable[[Request], list[int]], sampling: Sampling
    ) -> Iterator[tuple[int, T]]:
        """Each talk's index and result, as they end; the caches begin empty.

        Args:
            talks: Each asks for one reply after another and ends in its result.
            prompt: A request's tokens, fewer than ``n_ctx``; none where it gets no reply.
            sampling: How replies are drawn.

        Yields:
            A talk's index and result, as they end.
        """
        llama_cpp.llama_memory_clear(self.memory, False)
        self._caches = [[] for _ in range(2 * self.width + 1)]
        self._talk_of = [-1] * len(self._caches)
        coming = enumerate(talks)
        seats = [_Seat(sequence) for sequence in range(self.width)]
        try:
            for seat in seats:
                yield from self._go_on(seat, None, coming, prompt, sampling)
            while busy := self._closed_up(seats):
                for seat in busy:
                    if not seat.begun:
                        self._begin(seat, busy)
                for seat, row in self._evaluate(busy):
                    if reply := self._draw(seat, row):
                        yield from self._go_on(seat, reply, coming, prompt, sampling)
        finally:
            for seat in seats:
                self._free_sampler(seat)

    def _go_on(
        self,
        seat: _Seat,
        reply: Reply | None,
        coming: Iterator[tuple[int, Talk[T]]],
        prompt: Callable[[Request], list[int]],
        sampling: Sampling,
    ) -> Iterator[tuple[int, T]]:
        """Give a seat's talk its reply; where it ends, the next one begins there."""
        while True:
            if seat.talk is None:
                if (following := next(coming, None)) is None:
                    return
                seat.index, seat.talk = following
                reply = None
            try:
                # a talk that begins takes None
                request = seat.talk.send(reply)  # type: ignore[arg-type]
            except StopIteration as end:
                seat.talk = None
                yield seat.index, end.value
                continue
            if tokens := prompt(request):
                self._ask(seat, request, tokens, sampling)
                return
            reply = Reply("", "length")

    def _closed_up(self, seats: list[_Seat]) -> list[_Seat]:
        """The seats that have a talk, with sequences from 0 on: llama.cpp batches only those without a gap."""
        busy = [seat for seat in seats if seat.talk]
        for sequence in range(len(busy)):
            if all(seat.sequence != sequence for seat in busy):
                last = max(busy, key=lambda seat: seat.sequence)
                self._copy(last.sequence, sequence)
                self._copy(self.width + last.sequence, self.width + sequence)
                last.sequence = sequence
        return sorted(busy, key=lambda seat: seat.sequence)

    def _begin(self, seat: _Seat, seats: list[_Seat]) -> None:
        """Have a seat's cache begin as its prompt does; or wait, where another seat is reading what they share."""
        goal = seat.tokens[:-1]
        shared = [shared_start(cache, goal) for cache in self._caches]
        best = max(range(len(shared)), key=shared.__getitem__)
        being_read = (shared_start(other.tokens, goal) for other in seats if other.begun)
        if max(being_read, default=0) >= shared[best] + MIN_SHARED:
            return
        main, aside = seat.sequence, self.width + seat.sequence
        if best == aside:
            spare = 2 * self.width
            self._copy(main, spare)
            self._copy(aside, main)
            self._copy(spare, aside)
        else:
            if self._talk_of[main] == seat.index and 2 * shared[main] < len(self._caches[main]):
                # what this talk's other side has heard
                self._copy(main, aside)
            if shared[best] >= shared[main] + MIN_SHARED:
                self._copy(best, main)
        self._shorten(main, shared_start(self._caches[main], goal))
        self._talk_of[main] = seat.index
        seat.begun = True

    def _copy(self, source: int, target: int) -> None:
        """Copy a sequence's cache; llama.cpp copies between sequences with caches of their own only the whole."""
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, -1, -1)
        self._caches[target] = list(self._caches[source])
        self._talk_of[target] = self._talk_of[source]

    def _shorten(self, sequence: int, length: int) -> None:
        """Keep only the first tokens of a sequence's cache, or none where the model cannot go back."""
        if not llama_cpp.llama_memory_seq_rm(self.memory, sequence, length, -1):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            length = 0
        del self._caches[sequence][length:]

    def _evaluate(self, seats: list[_Seat]) -> list[tuple[_Seat, int]]:
        """Evaluate a batch; returns the seats that can draw now, and from which of its rows."""
        waiting = {seat.sequence: len(seat.tokens) - len(self._caches[seat.sequence]) for seat in seats}
        room = MOST_BATCHED
        taken: dict[int, int] = {}
        # replies first
        for seat in sorted((seat for seat in seats if seat.begun), key=lambda seat: waiting[seat.sequence]):
            taken[seat.sequence] = min(waiting[seat.sequence], room)
            room -= taken[seat.sequence]
        ready = []
        row = 0
        for seat in seats:
            cache = self._caches[seat.sequence]
            for token in seat.tokens[len(cache) : len(cache) + taken.get(seat.sequence, 0)]:
                self.batch.token[row] = token
                self.batch.pos[row] = len(cache)
                self.batch.n_seq_id[row] = 1
                self.batch.seq_id[row][0] = seat.sequence
                self.batch.logits[row] = len(cache) + 1 == len(seat.tokens)
                self.read += len(cache) < seat.start
                cache.append(token)
                row += 1
            if seat.begun and len(cache) == len(seat.tokens):
                ready.append((seat, row - 1))
        self.batch.n_tokens = row
        if code := llama_cpp.llama_decode(self.context, self.batch):
            raise RuntimeError(f"llama.cpp could not evaluate {row} tokens (code {code})")
        return ready

    def _draw(self, seat: _Seat, row: int) -> Reply | None:
        """Draw a seat's next token; returns its reply once that is complete."""
        token = llama_cpp.llama_sampler_sample(seat.sampler, self.context, row)
        self.drawn += 1
        finish: Literal["stop", "length"] | None = None
        if self.ends(token):
            finish = "stop"
        else:
            seat.tokens.append(token)
            seat.written += self.piece(token)
            if matches := [at for stop in seat.stops if (at := seat.written.find(stop)) >= 0]:
                del seat.written[min(matches) :]
                finish = "stop"
            elif len(seat.tokens) >= seat.end:
                finish = "length"
        if finish is None:
            return None
        self._free_sampler(seat)
        reply = Reply(seat.written.decode(errors="ignore").strip(), finish)
        if seat.write:
            seat.write(reply.text)
        return reply

    def _ask(self, seat: _Seat, request: Request, tokens: list[int], sampling: Sampling) -> None:
        """Set a seat up to reply to a request."""
        seat.tokens, seat.begun, seat.start = tokens, False, len(tokens)
        seat.end = min(seat.start + (request.max_tokens or sampling.max_tokens), self.n_ctx)
        seat.stops = tuple(stop.encode() for stop in request.stop)
        seat.written, seat.write = bytearray(), request.write
        seat.sampler = self.sampler(sampling, request.seed, request.schema)

    def _free_sampler(self, seat: _Seat) -> None:
        if seat.sampler is not None:
            llama_cpp.llama_sampler_free(seat.sampler)
            seat.sampler = None
