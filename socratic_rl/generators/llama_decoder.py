"""Talks decoded together by llama.cpp: a batch with a sequence for each, whose cache is kept from turn to turn."""

import ctypes
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import llama_cpp

from socratic_rl.core.generator import Reply, Request, Sampling, Talk
from socratic_rl.generators.llama_model import _free, _text, quiet_log

T = TypeVar("T")


N_BATCH = 512
"""The most tokens that are evaluated in one step."""


MIN_SHARED = 16
"""A cache that shares fewer tokens with a prompt is not worth copying or waiting for."""


@dataclass
class _Place:
    """Where one of the talks that are held at once is decoded, in a sequence of its own number."""

    sequence: int
    talk: Talk[Any] | None = None
    index: int = 0
    """Of the talk."""
    seated: bool = False
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
    sampler: Any = None


class Decoder:
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
    adapter: Any = None
    """What was put on the model."""

    def __init__(self, path: Path, *, width: int, n_ctx: int, n_threads: int, n_gpu_layers: int) -> None:
        """Load the file.

        Args:
            path: A GGUF file.
            width: Talks that are held at once.
            n_ctx: Tokens that a prompt and its reply may have together.
            n_threads: Of the processor.
            n_gpu_layers: Layers that a GPU computes; -1 is all.

        Raises:
            ValueError: llama.cpp cannot load it; says why.
        """
        self.width, self.n_ctx = width, n_ctx
        errors, _ = quiet_log()
        errors.clear()
        of_model = llama_cpp.llama_model_default_params()
        of_model.n_gpu_layers = n_gpu_layers
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), of_model)
        if not self.model:
            raise ValueError(errors[0] if errors else "unknown reason")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        settings = llama_cpp.llama_context_default_params()
        # a place's second cache, and one to change two over
        settings.n_seq_max = 2 * width + 1
        settings.n_ctx = n_ctx * settings.n_seq_max
        settings.n_batch = settings.n_ubatch = N_BATCH
        settings.n_threads = settings.n_threads_batch = n_threads
        # in a cache of its own, a talk's attention takes no time for the others' tokens
        settings.kv_unified = False
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise ValueError(errors[0] if errors else f"no memory for {settings.n_ctx} tokens; lower width or n_ctx")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(N_BATCH, 0, 1)
        weakref.finalize(self, _free, self.batch, self.context, self.model)
        self._caches: list[list[int]] = []
        self._held: list[int] = []

    def put_on(self, path: Path) -> None:
        """Put a LoRA adapter on the model.

        Args:
            path: A GGUF file of one, as ``export.py`` writes it.

        Raises:
            ValueError: llama.cpp cannot do so; says why.
        """
        errors, _ = quiet_log()
        errors.clear()
        adapter = llama_cpp.llama_adapter_lora_init(self.model, str(path).encode())
        scale = (ctypes.c_float * 1)(1.0)
        # a null pointer is no None
        if not adapter or llama_cpp.llama_set_adapters_lora(
            self.context, (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter), 1, scale
        ):
            raise ValueError(errors[0] if errors else "unknown reason")
        self.adapter = adapter

    def metadata(self, key: str) -> str | None:
        """A text of the file's header, or of the adapter's where that has it."""
        return (self.adapter and _text(llama_cpp.llama_adapter_meta_val_str, self.adapter, key)) or _text(
            llama_cpp.llama_model_meta_val_str, self.model, key
        )

    @cached_property
    def bos(self) -> str:
        """The text of the token that begins a prompt; empty where there is none."""
        return self.name(llama_cpp.llama_vocab_bos(self.vocab))

    @cached_property
    def eos(self) -> str:
        """The text of the token that ends a reply; empty where there is none."""
        return self.name(llama_cpp.llama_vocab_eos(self.vocab))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """The tokens of a prompt, with one BOS where the model wants one.

        Args:
            text: The prompt; it may begin with BOS.
            special: Whether the names of special tokens in the text stand for these.
        """
        wants_bos = llama_cpp.llama_vocab_get_add_bos(self.vocab) and not (self.bos and text.startswith(self.bos))
        data = text.encode()
        count = -len(data) - 1
        # where there is no room for them, it answers with minus their number
        while count < 0:
            tokens = (llama_cpp.llama_token * -count)()
            count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, len(tokens), wants_bos, special)
        return list(tokens[:count])

    def hold(
        self, talks: Iterable[Talk[T]], prompt: Callable[[Request], list[int]], sampling: Sampling
    ) -> Iterator[tuple[int, T]]:
        """Hold talks; what was held before leaves nothing behind.

        Args:
            talks: Each asks for one reply after another and ends in its result.
            prompt: A request's tokens, fewer than ``n_ctx``; none where it gets no reply.
            sampling: How replies are drawn.

        Yields:
            A talk's index and result, as they end.
        """
        llama_cpp.llama_memory_clear(self.memory, False)
        self._caches = [[] for _ in range(2 * self.width + 1)]
        self._held = [-1] * len(self._caches)
        coming = enumerate(talks)
        places = [_Place(sequence) for sequence in range(self.width)]
        try:
            for place in places:
                yield from self._go_on(place, None, coming, prompt, sampling)
            while held := self._closed_up(places):
                for place in held:
                    if not place.seated:
                        self._seat(place, held)
                for place, row in self._evaluate(held):
                    if reply := self._draw(place, row):
                        yield from self._go_on(place, reply, coming, prompt, sampling)
        finally:
            for place in places:
                self._free_sampler(place)

    def _go_on(
        self,
        place: _Place,
        reply: Reply | None,
        coming: Iterator[tuple[int, Talk[T]]],
        prompt: Callable[[Request], list[int]],
        sampling: Sampling,
    ) -> Iterator[tuple[int, T]]:
        """Give a place's talk its reply; where it ends, the next one begins there."""
        while True:
            if place.talk is None:
                if (following := next(coming, None)) is None:
                    return
                place.index, place.talk = following
                reply = None
            try:
                # a talk that begins takes None
                request = place.talk.send(reply)  # type: ignore[arg-type]
            except StopIteration as end:
                place.talk = None
                yield place.index, end.value
                continue
            if tokens := prompt(request):
                self._ask(place, request, tokens, sampling)
                return
            reply = Reply("", "length")

    def _closed_up(self, places: list[_Place]) -> list[_Place]:
        """The places that have a talk, with sequences from 0 on: llama.cpp batches only those without a gap."""
        held = [place for place in places if place.talk]
        for sequence in range(len(held)):
            if all(place.sequence != sequence for place in held):
                last = max(held, key=lambda place: place.sequence)
                self._copy(last.sequence, sequence)
                self._copy(self.width + last.sequence, self.width + sequence)
                last.sequence = sequence
        return sorted(held, key=lambda place: place.sequence)

    def _seat(self, place: _Place, places: list[_Place]) -> None:
        """Have a place's cache begin as its prompt does; or wait, where another place is reading what they share."""
        goal = place.tokens[:-1]
        shared = [_shared(cache, goal) for cache in self._caches]
        best = max(range(len(shared)), key=shared.__getitem__)
        being_read = (_shared(other.tokens, goal) for other in places if other.seated)
        if max(being_read, default=0) >= shared[best] + MIN_SHARED:
            return
        own, aside = place.sequence, self.width + place.sequence
        if best == aside:
            spare = 2 * self.width
            self._copy(own, spare)
            self._copy(aside, own)
            self._copy(spare, aside)
        else:
            if self._held[own] == place.index and 2 * shared[own] < len(self._caches[own]):
                # what this talk's other side has heard
                self._copy(own, aside)
            if shared[best] >= shared[own] + MIN_SHARED:
                self._copy(best, own)
        self._shorten(own, _shared(self._caches[own], goal))
        self._held[own] = place.index
        place.seated = True

    def _copy(self, source: int, target: int) -> None:
        """Copy a sequence's cache; llama.cpp copies between sequences with caches of their own only the whole."""
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, -1, -1)
        self._caches[target] = list(self._caches[source])
        self._held[target] = self._held[source]

    def _shorten(self, sequence: int, length: int) -> None:
        """Keep only the first tokens of a sequence's cache, or none where the model cannot go back."""
        if not llama_cpp.llama_memory_seq_rm(self.memory, sequence, length, -1):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            length = 0
        del self._caches[sequence][length:]

    def _evaluate(self, places: list[_Place]) -> list[tuple[_Place, int]]:
        """Evaluate a batch; which places can draw now, from which of its rows."""
        waiting = {place.sequence: len(place.tokens) - len(self._caches[place.sequence]) for place in places}
        room = N_BATCH
        taken: dict[int, int] = {}
        # replies first
        for place in sorted((place for place in places if place.seated), key=lambda place: waiting[place.sequence]):
            taken[place.sequence] = min(waiting[place.sequence], room)
            room -= taken[place.sequence]
        ready = []
        row = 0
        for place in places:
            cache = self._caches[place.sequence]
            for token in place.tokens[len(cache) : len(cache) + taken.get(place.sequence, 0)]:
                self.batch.token[row] = token
                self.batch.pos[row] = len(cache)
                self.batch.n_seq_id[row] = 1
                self.batch.seq_id[row][0] = place.sequence
                self.batch.logits[row] = len(cache) + 1 == len(place.tokens)
                self.read += len(cache) < place.start
                cache.append(token)
                row += 1
            if place.seated and len(cache) == len(place.tokens):
                ready.append((place, row - 1))
        self.batch.n_tokens = row
        if code := llama_cpp.llama_decode(self.context, self.batch):
            raise RuntimeError(f"llama.cpp could not evaluate {row} tokens (code {code})")
        return ready

    def _draw(self, place: _Place, row: int) -> Reply | None:
        """Draw a place's next token; its reply, where that is done."""
        token = llama_cpp.llama_sampler_sample(place.sampler, self.context, row)
        self.drawn += 1
        finish: Literal["stop", "length"] | None = None
        if llama_cpp.llama_vocab_is_eog(self.vocab, token):
            finish = "stop"
        else:
            place.tokens.append(token)
            place.written += self.piece(token)
            if found := [at for stop in place.stops if (at := place.written.find(stop)) >= 0]:
                del place.written[min(found) :]
                finish = "stop"
            elif len(place.tokens) >= place.end:
                finish = "length"
        if finish is None:
            return None
        self._free_sampler(place)
        return Reply(place.written.decode(errors="ignore").strip(), finish)

    def _ask(self, place: _Place, request: Request, tokens: list[int], sampling: Sampling) -> None:
        """Set a place up to reply to a request."""
        place.tokens, place.seated, place.start = tokens, False, len(tokens)
        place.end = min(place.start + (request.max_tokens or sampling.max_tokens), self.n_ctx)
        place.stops = tuple(stop.encode() for stop in request.stop)
        place.written = bytearray()
        place.sampler = chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if grammar := request.grammar or (request.schema and _grammar(request.schema)):
            rules = llama_cpp.llama_sampler_init_grammar(self.vocab, grammar.encode(), b"root")
            if not rules:
                raise ValueError(f"not a GBNF grammar with a rule root: {grammar}")
            llama_cpp.llama_sampler_chain_add(chain, rules)
        if sampling.temperature > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(sampling.temperature))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(request.seed))
        else:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())

    def _free_sampler(self, place: _Place) -> None:
        if place.sampler is not None:
            llama_cpp.llama_sampler_free(place.sampler)
            place.sampler = None

    def piece(self, token: int) -> bytes:
        """The bytes of a token's text; none of a special token's."""
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(length, 0)]

    def name(self, token: int) -> str:
        """How the vocabulary writes a special token."""
        return "" if token == -1 else llama_cpp.llama_vocab_get_text(self.vocab, token).decode()


@cache
def _grammar(schema: str) -> str:
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    return str(json_schema_to_gbnf(schema))


def _shared(one: list[int], other: list[int]) -> int:
    """How many tokens two prompts begin with alike."""
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))  # noqa: B905
