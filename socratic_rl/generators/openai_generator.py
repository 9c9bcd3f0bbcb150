"""A server that speaks OpenAI's protocol: vLLM, llama.cpp's own, or any other."""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from pydantic import Field, HttpUrl, PrivateAttr, field_validator

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import InRounds, Reply, Request, Sampling

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)


AWAY = (502, 503, 504)
"""What is answered in place of a server that is down or still loads its model."""


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
    timeout: float = Field(gt=0)
    """Seconds to wait for one reply."""
    max_retries: int = Field(ge=0)
    """How often a failed request is tried again, each time after a longer pause."""
    wait: float = Field(ge=0)
    """Seconds to wait for a server that is away, such as one that is started again."""

    _away: bool = PrivateAttr(default=False)
    _telling: Lock = PrivateAttr(default_factory=Lock)

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
        workers = ThreadPoolExecutor(self.width)
        enough = Event()
        try:
            running = {workers.submit(self._ask, request, enough): index for index, request in enumerate(requests)}
            for finished in as_completed(running):
                yield running[finished], finished.result()
        finally:
            # nobody waits on for a server whose replies are not wanted any more
            enough.set()
            workers.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _client(self) -> "openai.OpenAI":
        import openai

        # it writes a line for every request
        logging.getLogger("httpx").setLevel(logging.WARNING)
        return openai.OpenAI(
            base_url=str(self.base_url),
            api_key=os.environ[self.api_key_env] if self.api_key_env else "none",
            timeout=self.timeout,
            max_retries=self.max_retries,
        )

    def _ask(self, request: Request, enough: Event) -> Reply:
        """The reply; where the server is away, as soon as it is back.

        Raises:
            UserError: It did not come back in time, or fails otherwise.
        """
        import openai
        import tenacity

        asking = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_away),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
            stop=tenacity.stop_after_delay(self.wait) | tenacity.stop_when_event_set(enough),
            sleep=tenacity.sleep_using_event(enough),
            before_sleep=lambda state: self._tell(state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        try:
            answer = asking(self._send, request)
        except openai.APITimeoutError as error:
            raise self._failed(f"no reply within {self.timeout:g} s; raise timeout or lower width") from error
        except openai.APIConnectionError as error:
            raise self._failed(f"{_why_away(error)}; is the server running?") from error
        except openai.APIStatusError as error:
            raise self._failed(f"answered {error.status_code}: {_line(error.message)}") from error
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            raise self._failed(f"answered what is not OpenAI's protocol: {_line(str(error))}") from error
        self._tell(None)
        reply = self._read(answer, chat=bool(request.messages))
        if request.write:
            request.write(reply.text)
        return reply

    def _send(self, request: Request) -> Any:
        import openai

        settings: dict[str, Any] = {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": request.max_tokens or self.max_tokens,
            "seed": request.seed,
            "stop": list(request.stop) or openai.omit,
        }
        if not request.messages:
            return self._client.completions.create(prompt=request.text, **settings)
        messages: Any = list(request.messages)
        if request.schema:
            schema = {"name": "reply", "schema": json.loads(request.schema), "strict": True}
            settings["response_format"] = {"type": "json_schema", "json_schema": schema}
        return self._client.chat.completions.create(messages=messages, **settings)

    def _tell(self, error: BaseException | None) -> None:
        """Say once, whatever the number of requests, that the server went away, and that it is back."""
        with self._telling:
            if self._away == (error is not None):
                return
            self._away = error is not None
        if error is None:
            logger.warning("%s: is back", self.base_url)
        else:
            logger.warning("%s: %s; waiting up to %g s for it", self.base_url, _why_away(error), self.wait)

    def _read(self, answer: Any, *, chat: bool) -> Reply:
        """The reply in an answer, which a server may send in any shape."""
        choices = getattr(answer, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        text = getattr(getattr(choice, "message", None), "content", None) if chat else getattr(choice, "text", None)
        if not isinstance(text, str):
            body = answer if isinstance(answer, str) else repr(answer)
            raise self._failed(f"answered what is not OpenAI's protocol: {_line(body)}")
        return Reply(text.strip(), "length" if getattr(choice, "finish_reason", None) == "length" else "stop")

    def _failed(self, what: str) -> UserError:
        return UserError(f"generator.base_url: {self.base_url}: {what}")


def _is_away(error: BaseException) -> bool:
    """Whether the server is down for now; one that is too slow is there."""
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in AWAY
    return isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)


def _why_away(error: BaseException) -> str:
    import openai

    if isinstance(error, openai.APIStatusError):
        return f"answers {error.status_code}"
    return f"cannot be reached ({_line(str(error.__cause__ or error))})"


def _line(text: str) -> str:
    """Some text as one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"
