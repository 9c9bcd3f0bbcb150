"""A GGUF file by llama.cpp."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from socratic_rl.core import embedded
from socratic_rl.core.component import Whole, gguf_file
from socratic_rl.core.errors import UserError, in_short
from socratic_rl.core.generator import Reply, Request, Sampling, Talk, fitting

if TYPE_CHECKING:
    from socratic_rl.generators.llama_decoder import Decoder

T = TypeVar("T")


class LlamaCpp(Sampling):
    """A GGUF file by llama.cpp, several talks or requests at once.

    llama.cpp keeps the ``top_p`` likeliest tokens before it applies the temperature; other generators do so after it.
    """

    model_path: str | None
    """A GGUF file; None is the embedded model."""
    lora_path: str | None = None
    """A GGUF file of a LoRA adapter that goes on the model."""
    n_ctx: Whole = Field(ge=64, le=2**24)
    """Tokens that prompt and reply may have together; memory holds as many for 2 · ``width`` + 1."""
    n_threads: Whole | None = Field(ge=1, le=512)
    """None is one for each physical core; more only wait for each other."""
    n_gpu_layers: Whole = Field(ge=-1, le=10_000)
    """Layers that a GPU computes; -1 is all, and none where llama.cpp was built without GPU support."""

    @property
    def path(self) -> Path:
        """The GGUF file."""
        return _path(self.model_path)

    @field_validator("model_path", "lora_path")
    @classmethod
    def _is_gguf(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None or info.field_name == "model_path":
            gguf_file(str(_path(name)))
        return name

    def identity(self) -> dict[str, Any]:
        """Kind, file name, SHA-256 of the file and of the adapter's where there is one, and sampling."""
        return {"kind": "llama_cpp", "model": self.path.name, **self._digests, **self.sampling()}

    def generate(
        self, requests: Sequence[Request], tokens: Callable[[Request], list[int]] | None = None
    ) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply, as they finish.

        Args:
            requests: What to write.
            tokens: Makes a request's prompt, of fewer than ``n_ctx`` tokens; None is by the file's own chat template.

        Raises:
            UserError: The file cannot be loaded, or a prompt is longer than ``n_ctx``.
        """
        return self._decoder.hold(map(_ask, requests), tokens or self._prompt, self)

    def hold(self, talks: Iterable[Talk[T]]) -> Iterator[tuple[int, T]]:
        """Each talk's index and result, as they end.

        Raises:
            UserError: The file cannot be loaded, or a prompt is longer than ``n_ctx``.
        """
        return self._decoder.hold(talks, self._prompt, self)

    def _prompt(self, request: Request) -> list[int]:
        """A request's tokens; none where it may be shortened and still does not fit."""
        tokens = fitting(request, self._tokens, self.n_ctx - (request.max_tokens or self.max_tokens))
        if len(tokens) >= self.n_ctx:
            raise UserError(f"a prompt of {len(tokens)} tokens does not fit into {self.n_ctx}; raise it", key="n_ctx")
        return tokens

    @cached_property
    def _digests(self) -> dict[str, str]:
        files = {"sha256": self.path} | ({"lora_sha256": _path(self.lora_path)} if self.lora_path else {})
        digests = {}
        for name, path in files.items():
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return digests

    @cached_property
    def _decoder(self) -> "Decoder":
        # llama.cpp is slow to import, and a config is checked without it
        from joblib import cpu_count

        from socratic_rl.generators.llama_decoder import Decoder
        from socratic_rl.generators.llama_model import NoRoomError, NotAdaptedError, NotLoadedError

        try:
            return Decoder(
                self.path,
                _path(self.lora_path) if self.lora_path else None,
                width=self.width,
                n_ctx=self.n_ctx,
                n_threads=self.n_threads or cpu_count(only_physical_cores=True),
                n_gpu_layers=self.n_gpu_layers,
            )
        except NotAdaptedError as error:
            reason = f"{self.lora_path}: llama.cpp cannot put it on {self.path.name}: {in_short(str(error))}"
            raise UserError(reason, key="lora_path") from error
        except NoRoomError as error:
            raise UserError(f"{self.n_ctx} tokens for each of {2 * self.width + 1}: {error}", key="n_ctx") from error
        except NotLoadedError as error:
            reason = f"{self.path}: llama.cpp cannot load it: {in_short(str(error))}"
            raise UserError(reason, key="model_path") from error

    def _tokens(self, request: Request) -> list[int]:
        """The prompt's tokens, with one BOS where the model wants one, also where its template writes it."""
        try:
            text = self._decoder.render(request.messages) if request.messages else request.text
        except ValueError as error:
            raise UserError(f"{self.path}: {error}", key="model_path") from error
        return self._decoder.tokenize(text, special=bool(request.messages))


def _path(name: str | None) -> Path:
    return embedded.gguf_path() if name is None else Path(name).expanduser()


def _ask(request: Request) -> Talk[Reply]:
    return (yield request)
