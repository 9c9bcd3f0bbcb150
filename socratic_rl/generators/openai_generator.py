"""A server that speaks OpenAI's protocol: vLLM, llama.cpp's own, or any other."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, HttpUrl, field_validator

from socratic_rl.core.component import Real, Whole
from socratic_rl.core.errors import secret_in_url
from socratic_rl.core.generator import InRounds, Reply, Request, Sampling

if TYPE_CHECKING:
    from socratic_rl.generators.openai_server import Server


class OpenAI(InRounds, Sampling):
    """A server that speaks OpenAI's protocol. Whether a seed gives the same text again is up to the server.

    A server may be stopped and started again: what it had not answered is asked again.
    """

    base_url: HttpUrl
    """The server's address, mostly with ``/v1`` at its end."""
    model: str
    """What the server calls the model."""
    api_key_env: str | None
    """The environment variable that holds the key; None where the server wants none."""
    timeout: Real = Field(gt=0, le=86_400)
    """Seconds to wait for one whole reply, each time that it is asked for."""
    max_retries: Whole = Field(ge=0, le=100)
    """How often a failed request is tried again, each time after a longer pause."""
    wait: Real = Field(ge=0, le=604_800)
    """Seconds to wait for a server that is away, such as one that is started again."""

    @field_validator("base_url", mode="before")
    @classmethod
    def _holds_no_secret(cls, url: object) -> object:
        if mistake := secret_in_url(str(url)):
            raise ValueError(mistake)
        return url

    @field_validator("api_key_env")
    @classmethod
    def _is_set(cls, name: str | None) -> str | None:
        if name is not None and not os.environ.get(name):
            raise ValueError(f"the environment variable {name} is not set; export it with the server's key")
        return name

    def identity(self) -> dict[str, Any]:
        """Kind, model and sampling."""
        return {"kind": "openai", "model": self.model, **self.sampling()}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply, as they finish.

        Raises:
            UserError: The server is down, too slow, refuses a request or answers rubbish.
        """
        replies = self._server.begin(requests)
        try:
            for finished in as_completed(replies):
                yield replies[finished], finished.result()
        finally:
            # nobody waits on for a server whose replies are not wanted any more
            for reply in replies:
                reply.cancel()

    @cached_property
    def _server(self) -> "Server":
        # the library takes a second to import, and a config is checked without it
        from socratic_rl.generators.openai_server import Server

        return Server(self)
