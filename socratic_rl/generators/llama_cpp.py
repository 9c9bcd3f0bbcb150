"""A GGUF file by llama.cpp."""

import ctypes
import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from socratic_rl import embedded
from socratic_rl.dialogue import Message
from socratic_rl.errors import UserError
from socratic_rl.generators.base import Reply, Request, Sampling, fitting, without_system

if TYPE_CHECKING:
    from llama_cpp import Llama

logger = logging.getLogger(__name__)

LLAMA_2_TEMPLATE = (
    "{% set system = messages[0].content if messages[0].role == 'system' else none %}"
    "{% for message in (messages[1:] if system else messages) %}"
    "{% if message.role == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if system and loop.first %}{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{% endif %}"
    "{{ message.content + ' [/INST]' }}{% else %}{{ ' ' + message.content + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
"""How Llama-2-chat was trained to read a dialogue; its older GGUF files carry no template of their own."""

GGML_LOG_LEVEL_ERROR = 4
"""As in ggml.h."""


class LlamaCpp(Sampling):
    """A GGUF file by llama.cpp, one request after another.

    llama.cpp keeps the ``top_p`` likeliest tokens before it applies the temperature; other generators do so after it.
    """

    model_path: str | None
    """A GGUF file; None is the embedded model."""
    n_ctx: int = Field(ge=64)
    """Tokens that prompt and reply may have together."""
    n_threads: int | None = Field(ge=1)
    """None is one for each physical core; more only wait for each other."""
    n_gpu_layers: int = Field(ge=-1)
    """Layers that a GPU computes; -1 is all, and none where llama.cpp was built without GPU support."""

    @property
    def width(self) -> int:
        """One request at once."""
        return 1

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return _path(self.model_path)

    @field_validator("model_path")
    @classmethod
    def _is_gguf(cls, given: str | None) -> str | None:
        path = _path(given)
        try:
            with path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise ValueError(f"{path}: {(error.strerror or str(error)).lower()}; a GGUF file is needed") from error
        if magic != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file (it begins with {magic!r})")
        return given

    def identity(self) -> dict[str, Any]:
        """Kind, file name, SHA-256 of the file and sampling."""
        return {"kind": "llama_cpp", "model": self.path.name, "sha256": self._sha256, **self.sampling()}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply, in their order.

        Raises:
            UserError: The file cannot be loaded, or a prompt is longer than ``n_ctx``.
        """
        for index, request in enumerate(requests):
            tokens = fitting(request, self._tokens, self.n_ctx - (request.max_tokens or self.max_tokens))
            if not tokens:
                yield index, Reply("", "length")
                continue
            if len(tokens) >= self.n_ctx:
                raise UserError(
                    f"generator.n_ctx: a prompt of {len(tokens)} tokens does not fit into {self.n_ctx}; raise it"
                )
            # what is left in the cache changes how the prompt is cut into batches, and by rounding the text
            self._llama.reset()
            completion = self._llama.create_completion(
                tokens,
                max_tokens=request.max_tokens or self.max_tokens,
                temperature=self.temperature,
                top_p=self.top_p,
                # the library's own defaults would cut further
                top_k=0,
                min_p=0.0,
                stop=list(request.stop),
                seed=request.seed,
            )["choices"][0]
            yield index, Reply(completion["text"].strip(), completion["finish_reason"])

    @cached_property
    def _sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def _llama(self) -> "Llama":
        import llama_cpp
        from joblib import cpu_count

        threads = self.n_threads or cpu_count(only_physical_cores=True)
        errors, _ = _quiet_log()
        errors.clear()
        try:
            return llama_cpp.Llama(
                str(self.path),
                n_ctx=self.n_ctx,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=self.n_gpu_layers,
                verbose=False,
            )
        except ValueError as error:
            told = errors[0] if errors else str(error)
            raise UserError(f"generator.model_path: {self.path}: llama.cpp cannot load it: {told}") from error

    @cached_property
    def _chat_template(self) -> Any:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        metadata = self._llama.metadata
        template = metadata.get("tokenizer.chat_template")
        if template is None:
            if metadata.get("general.architecture") != "llama":
                raise UserError(f"generator.model_path: {self.path}: a chat model is needed, this has no chat template")
            logger.warning("%s has no chat template; it is spoken to as Llama-2-chat", self.path.name)
            template = LLAMA_2_TEMPLATE
        return Jinja2ChatFormatter(
            template=template,
            eos_token=self._token_text(self._llama.token_eos()),
            bos_token=self._token_text(self._llama.token_bos()),
        )

    def _token_text(self, token: int) -> str:
        return "" if token == -1 else str(self._llama._model.token_get_text(token))

    def _tokens(self, request: Request) -> list[int]:
        """The prompt's tokens, with one BOS where the model wants one, also where its template writes it."""
        text = self._render(request.messages) if request.messages else request.text
        bos = self._token_text(self._llama.token_bos())
        add_bos = self._llama._model.add_bos_token() and not (bos and text.startswith(bos))
        tokens: list[int] = self._llama.tokenize(text.encode(), add_bos=add_bos, special=bool(request.messages))
        return tokens

    def _render(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        try:
            return str(self._chat_template(messages=list(messages)).prompt)
        except (ValueError, TemplateError) as error:
            if messages[0]["role"] == "system":
                return self._render(without_system(messages))
            raise UserError(f"generator.model_path: {self.path}: its chat template fails: {error}") from error


def _path(given: str | None) -> Path:
    return embedded.gguf_path() if given is None else Path(given).expanduser()


@cache
def _quiet_log() -> tuple[list[str], Any]:
    """The errors that llama.cpp told of, as it writes nothing to stderr from here on; and the hook that keeps them.

    llama.cpp goes on calling the hook, so it must not be freed: the cache holds it.
    """
    import llama_cpp

    errors: list[str] = []

    def keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
        if level == GGML_LOG_LEVEL_ERROR:
            errors.append(text.decode(errors="replace").strip())

    hook = llama_cpp.llama_log_callback(keep)
    llama_cpp.llama_log_set(hook, ctypes.c_void_p(0))
    return errors, hook
