"""A model by transformers, in batches."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from socratic_rl.core.component import ModelSettings
from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import InRounds, Reply, Request, Sampling, fitting
from socratic_rl.generators.sampling import draw_replies
from socratic_rl.models import weights
from socratic_rl.models.tokens import token_ids


class Transformers(InRounds, Sampling):
    """A model by transformers, in batches of prompts of like length.

    Each row draws from its own seed, so what stands beside it changes a reply only where rounding tips two tokens that
    are all but equally likely; the same batch gives the same text.
    """

    model: str
    """A hub id, a folder, a .gguf file, or ``embedded``."""
    revision: str | None
    """The branch, tag or commit of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    """``auto`` is bfloat16 on a GPU that has it, float16 on another, float32 on a CPU."""

    def identity(self) -> dict[str, Any]:
        """Kind, model, its commit or the SHA-256 of its weights, precision and sampling."""
        name = Path(self.model).name if Path(self.model).exists() else self.model
        return {"kind": "transformers", "model": name, **self._version, "dtype": self.dtype, **self.sampling()}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply, batch by batch.

        Raises:
            UserError: The model cannot be loaded, or a prompt is too long for it.
        """
        model, tokenizer = self._loaded
        room = weights.context_length(model.config)
        prompts = [
            fitting(request, partial(_prompt_tokens, tokenizer), room - (request.max_tokens or self.max_tokens))
            for request in requests
        ]
        for prompt in prompts:
            if len(prompt) >= room:
                raise UserError(f"a prompt of {len(prompt)} tokens does not fit into its {room}", key="model")

        def length(index: int) -> int:
            return len(prompts[index])

        yield from draw_replies(model, tokenizer, requests, prompts, self, order=length, most=room)

    @property
    def _settings(self) -> ModelSettings:
        return ModelSettings(
            name=self.model,
            pretrained=self.model,
            revision=self.revision,
            dtype=self.dtype,
            attn_implementation="sdpa",
        )

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        try:
            # what is wrong with the tokenizer is told before the weights are read
            tokenizer = weights.load_tokenizer(self._settings)
            return weights.load_base(self._settings).eval(), tokenizer
        except UserError as error:
            raise UserError(str(error).removeprefix("model.pretrained: "), key="model") from error

    @cached_property
    def _version(self) -> dict[str, str]:
        model, _ = self._loaded
        if commit := getattr(model.config, "_commit_hash", None):
            return {"commit": commit}
        digest = hashlib.sha256()
        for path in sorted(Path(model.config.name_or_path).glob("*.safetensors")):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return {"sha256": digest.hexdigest()}


def _prompt_tokens(tokenizer: PreTrainedTokenizerBase, request: Request) -> list[int]:
    if request.messages:
        return token_ids(tokenizer, request.messages, prompt=True)
    return list(tokenizer(request.text)["input_ids"])
