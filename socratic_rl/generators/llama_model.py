"""A GGUF file loaded by llama.cpp: its tokens, its header, and how the next token is drawn."""

import ctypes
import logging
import weakref
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import psutil
from llama_cpp.llama_grammar import json_schema_to_gbnf
from transformers.utils.chat_template_utils import render_jinja_template

from socratic_rl.core.dialogue import Message
from socratic_rl.core.generator import Sampling
from socratic_rl.core.templates import ChatTemplate

logger = logging.getLogger(__name__)

GGML_LOG_LEVEL_ERROR = 4
"""As in ggml.h."""

MOST_BATCHED = 512
"""The most tokens that are evaluated in one step."""


LLAMA_2_TEMPLATE = (
    "{% set system = messages[0].content if messages[0].role == 'system' else none %}"
    "{% for message in (messages[1:] if system else messages) %}"
    "{% if message.role == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if system and loop.first %}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{% endif %}"
    "{{ message.content + ' [/INST]' }}{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
"""How Llama-2-chat was trained to read a dialogue; its older GGUF files carry no template of their own."""


class NotLoadedError(ValueError):
    """llama.cpp cannot load a file; the message is its reason."""


class NotAdaptedError(NotLoadedError):
    """llama.cpp cannot put an adapter on a model that it has loaded."""


class NoRoomError(NotLoadedError):
    """The memory has no room for the context; the message says how much it takes."""


class LlamaModel:
    """A GGUF file in llama.cpp, with a LoRA adapter on it where one is given.

    Args:
        path: The file.
        adapter: A GGUF file of the adapter, as ``export.py`` writes it.
        n_threads: Of the processor.
        n_gpu_layers: Layers that a GPU computes; -1 is all.
        mapped: Whether the file is mapped into memory, or read.
        context: Further settings of llama.cpp's context; ``n_ctx`` is how many tokens it has room for.

    Raises:
        NotLoadedError: llama.cpp cannot load the file.
        NotAdaptedError: It cannot put the adapter on it.
    """

    def __init__(
        self,
        path: Path,
        adapter: Path | None = None,
        *,
        n_threads: int,
        n_gpu_layers: int,
        mapped: bool = True,
        **context: Any,
    ) -> None:
        self.path = path
        errors, _ = quiet_log()
        errors.clear()
        of_model = llama_cpp.llama_model_default_params()
        of_model.n_gpu_layers = n_gpu_layers
        if not mapped:
            of_model.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), of_model)
        if not self.model:
            raise NotLoadedError(errors[0] if errors else "unknown reason")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        settings = llama_cpp.llama_context_default_params()
        settings.n_threads = settings.n_threads_batch = n_threads
        for name, value in context.items():
            setattr(settings, name, value)
        self._check_room(settings)
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise NotLoadedError(
                errors[0] if errors else f"no memory for {settings.n_ctx} tokens; lower width or n_ctx"
            )
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = llama_cpp.llama_batch_init(settings.n_batch, 0, 1)
        self.close = weakref.finalize(self, _free, self.batch, self.context, self.model)
        self._adapter = self._put_on(adapter) if adapter else None

    def _check_room(self, settings: Any) -> None:
        """Refuse a context that has no room in memory, which the system would end this process for."""
        if llama_cpp.llama_supports_gpu_offload():
            # a GPU's own allocation fails by itself
            return
        heads = llama_cpp.llama_model_n_head(self.model)
        width = llama_cpp.llama_model_n_embd(self.model) // max(heads, 1) * llama_cpp.llama_model_n_head_kv(self.model)
        # a key and a value of two bytes a number
        needed = settings.n_ctx * llama_cpp.llama_model_n_layer(self.model) * width * 4
        free = psutil.virtual_memory().available
        logger.debug("the context takes %.2f GB of %.2f GB that are free", needed / 1e9, free / 1e9)
        if needed > free:
            llama_cpp.llama_model_free(self.model)
            raise NoRoomError(
                f"the context takes {needed / 1e9:,.1f} GB for {settings.n_ctx:,} tokens,"
                f" and {free / 1e9:,.1f} GB are free; lower it, or width"
            )

    def _put_on(self, adapter: Path) -> Any:
        errors, _ = quiet_log()
        errors.clear()
        loaded = llama_cpp.llama_adapter_lora_init(self.model, str(adapter).encode())
        scale = (ctypes.c_float * 1)(1.0)
        # a null pointer is no None
        if not loaded or llama_cpp.llama_set_adapters_lora(
            self.context, (llama_cpp.llama_adapter_lora_p_ctypes * 1)(loaded), 1, scale
        ):
            raise NotAdaptedError(errors[0] if errors else "unknown reason")
        return loaded

    @property
    def trained_length(self) -> int:
        """The most tokens that the model was trained to read."""
        return int(llama_cpp.llama_model_n_ctx_train(self.model))

    def metadata(self, key: str) -> str | None:
        """A text of the file's header, or of the adapter's where that has it."""
        return (self._adapter and _text(llama_cpp.llama_adapter_meta_val_str, self._adapter, key)) or _text(
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

    @cached_property
    def _adds_bos(self) -> bool:
        """Whether a prompt gets BOS: as the adapter's template has it, else as the model's file asks for it."""
        adapter_bos = self._adapter and _text(
            llama_cpp.llama_adapter_meta_val_str, self._adapter, gguf.Keys.Tokenizer.ADD_BOS
        )
        return adapter_bos == "true" if adapter_bos else bool(llama_cpp.llama_vocab_get_add_bos(self.vocab))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """The tokens of a prompt, with one BOS where the model wants one.

        Args:
            text: The prompt; it may begin with BOS.
            special: Whether the names of special tokens in the text stand for these.
        """
        bos = llama_cpp.llama_vocab_bos(self.vocab)
        wants_bos = self._adds_bos and bos != -1 and not (self.bos and text.startswith(self.bos))
        return [bos] * wants_bos + self.encode(text, special=special)

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The tokens of a text as it stands."""
        data = text.encode()
        count = -len(data) - 1
        # where there is no room for them, it answers with minus their number
        while count < 0:
            tokens = (llama_cpp.llama_token * -count)()
            count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, len(tokens), False, special)
        return list(tokens[:count])

    @cached_property
    def chat(self) -> ChatTemplate:
        """The file's own chat template, as transformers applies it.

        Raises:
            ValueError: The file has none.
        """
        template = self.metadata("tokenizer.chat_template")
        if template is None:
            if self.metadata("general.architecture") != "llama":
                raise ValueError("a chat model is needed, this has no chat template")
            logger.warning("%s has no chat template; it is spoken to as Llama-2-chat", self.path.name)
            template = LLAMA_2_TEMPLATE
        names = {"bos_token": self.bos, "eos_token": self.eos}

        def render(messages: Sequence[Message], prompt: bool) -> str:
            (text,), _ = render_jinja_template(
                [list(messages)], chat_template=template, add_generation_prompt=prompt, **names
            )
            return str(text)

        return ChatTemplate(template, render)

    def render(self, messages: Sequence[Message]) -> str:
        """Chat messages as the file's own template writes them, up to where the reply begins.

        Raises:
            ValueError: The file has no template, or it fails; says which.
        """
        return self.chat.prompt(messages)

    def piece(self, token: int) -> bytes:
        """The bytes of a token's text; none of a special token's."""
        buffer = ctypes.create_string_buffer(256)
        length = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[: max(length, 0)]

    def name(self, token: int) -> str:
        """How the vocabulary writes a special token."""
        return "" if token == -1 else llama_cpp.llama_vocab_get_text(self.vocab, token).decode(errors="replace")

    def ends(self, token: int) -> bool:
        """Whether a token ends a reply."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    def sampler(self, sampling: Sampling, seed: int, schema: str = "") -> Any:
        """A new llama.cpp sampler for one reply; the caller frees it.

        Args:
            sampling: How they are drawn.
            seed: Of this reply.
            schema: A JSON schema that the reply follows; empty for none.
        """
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        if schema:
            rules = llama_cpp.llama_sampler_init_grammar(self.vocab, _grammar(schema).encode(), b"root")
            if not rules:
                raise ValueError(f"llama.cpp cannot hold a reply to the schema {schema}")
            llama_cpp.llama_sampler_chain_add(chain, rules)
        if sampling.temperature > 0:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(sampling.temperature))
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(seed))
        else:
            llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_greedy())
        return chain


def shared_start(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(left), len(right)))


@cache
def _grammar(schema: str) -> str:
    return str(json_schema_to_gbnf(schema))


def _text(read: Callable[..., int], source: Any, key: str) -> str | None:
    """A text that llama.cpp writes into a buffer."""
    size = 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = read(source, key.encode(), buffer, size)
        if length < size:
            return buffer.value.decode(errors="replace") if length >= 0 else None
        size = length + 1


def _free(batch: Any, context: Any, model: Any) -> None:
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


@cache
def quiet_log() -> tuple[list[str], Any]:
    """The errors that llama.cpp has logged, and the hook that collects them; nothing goes to stderr any more.

    llama.cpp goes on calling the hook, so it must not be freed: the cache holds it.
    """
    errors: list[str] = []

    def keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if level == GGML_LOG_LEVEL_ERROR:
            errors.append(text.decode(errors="replace").strip())

    hook = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(hook, ctypes.c_void_p(0))
    return errors, hook
