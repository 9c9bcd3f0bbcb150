"""Asking a server that speaks OpenAI's protocol, and waiting for one that is away."""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import httpx
import openai
import tenacity

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request

if TYPE_CHECKING:
    from socratic_rl.generators.openai_generator import OpenAI

logger = logging.getLogger(__name__)


AWAY = (502, 503, 504)
"""What is answered in place of a server that is down or still loads its model."""


MOST_BYTES = 10_000_000
"""Of one answer; a reply of 100,000 tokens takes half a million."""


class TooLargeError(Exception):
    """An answer has more bytes than any reply needs."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """Asks a server, and reads an answer whole within a time and a size, at whatever pace it comes.

    Args:
        seconds: From the question to the end of its answer.
        options: Of httpx' client.
    """

    def __init__(self, seconds: float, **options: Any) -> None:
        super().__init__(**options)
        self._seconds = seconds

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """The answer.

        Raises:
            httpx.ReadTimeout: It is not whole in time.
            TooLargeError: It has more than ``MOST_BYTES``.
        """
        try:
            async with asyncio.timeout(self._seconds):
                answer = await super().send(request, **options | {"stream": True})
                try:
                    content = await _content(answer)
                finally:
                    await answer.aclose()
        except TimeoutError as error:
            raise httpx.ReadTimeout("not whole in time", request=request) from error
        # the content is decoded, and of another length, by now
        headers = {
            name: value for name, value in answer.headers.items() if not name.startswith(("content-e", "content-l"))
        }
        return httpx.Response(answer.status_code, headers=headers, content=content, request=request)


async def _content(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise TooLargeError
    return bytes(content)


class Server:
    """The connection to a server, in a thread that ends with the process.

    Args:
        settings: Its address and key, and how replies are drawn.
    """

    def __init__(self, settings: "OpenAI") -> None:
        self.settings = settings
        # it writes a line for every request
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._client = openai.AsyncOpenAI(
            base_url=str(settings.base_url),
            api_key=os.environ[settings.api_key_env] if settings.api_key_env else "none",
            timeout=settings.timeout,
            max_retries=settings.max_retries,
            http_client=BoundedClient(settings.timeout, timeout=settings.timeout),
        )
        self._away = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="openai", daemon=True).start()

    def begin(self, requests: Sequence[Request]) -> dict[Future[Reply], int]:
        """The replies to come, at most ``width`` asked for at once, each with its request's index.

        Cancelling one ends its request at once.
        """
        free = asyncio.Semaphore(self.settings.width)
        return {
            asyncio.run_coroutine_threadsafe(self._in_turn(request, free), self._loop): index
            for index, request in enumerate(requests)
        }

    async def _in_turn(self, request: Request, free: asyncio.Semaphore) -> Reply:
        async with free:
            return await self._ask(request)

    async def _ask(self, request: Request) -> Reply:
        """The reply; where the server is away, as soon as it is back.

        Raises:
            UserError: It did not come back in time, or fails otherwise.
        """
        asking = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_away),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
            stop=tenacity.stop_after_delay(self.settings.wait),
            sleep=asyncio.sleep,
            before_sleep=lambda state: self._report(state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        try:
            answer: Any = await asking(self._send, request)
        except openai.APITimeoutError as error:
            seconds = self.settings.timeout
            raise self._failed(f"no reply within {seconds:g} s; raise timeout or lower width") from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, TooLargeError):
                raise self._failed(f"answers more than {MOST_BYTES // 10**6} MB, which no reply takes") from error
            raise self._failed(f"{_why_away(error)}; is the server running?") from error
        except openai.APIStatusError as error:
            raise self._failed(f"answered {error.status_code}: {_line(error.message)}") from error
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise self._failed(f"answered what is not OpenAI's protocol: {_line(str(error))}") from error
        self._report(None)
        reply = self._read(answer, chat=bool(request.messages))
        if request.write:
            request.write(reply.text)
        return reply

    async def _send(self, request: Request) -> Any:
        settings: dict[str, Any] = {
            "model": self.settings.model,
            "temperature": self.settings.temperature,
            "top_p": self.settings.top_p,
            "max_tokens": request.max_tokens or self.settings.max_tokens,
            "seed": request.seed,
            "stop": list(request.stop) or openai.omit,
        }
        if not request.messages:
            return await self._client.completions.create(prompt=request.text, **settings)
        messages: Any = list(request.messages)
        if request.schema:
            schema = {"name": "reply", "schema": json.loads(request.schema), "strict": True}
            settings["response_format"] = {"type": "json_schema", "json_schema": schema}
        return await self._client.chat.completions.create(messages=messages, **settings)

    def _report(self, error: BaseException | None) -> None:
        """Say once, whatever the number of requests, that the server went away, and that it is back."""
        if self._away == (error is not None):
            return
        self._away = error is not None
        address = self.settings.base_url
        if error is None:
            logger.warning("%s: is back", address)
        else:
            logger.warning("%s: %s; waiting up to %g s for it", address, _why_away(error), self.settings.wait)

    def _read(self, answer: Any, *, chat: bool) -> Reply:
        """The reply in an answer, which a server may send in any shape."""
        choices = getattr(answer, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        text = getattr(getattr(choice, "message", None), "content", None) if chat else getattr(choice, "text", None)
        if not isinstance(text, str):
            body = answer if isinstance(answer, str) else repr(answer)
            raise self._failed(f"answered what is not OpenAI's protocol: {_line(body)}")
        return Reply(text.strip(), "length" if getattr(choice, "finish_reason", None) == "length" else "stop")

    def _failed(self, reason: str) -> UserError:
        return UserError(f"{self.settings.base_url}: {reason}", key="base_url")


def _is_away(error: BaseException) -> bool:
    """Whether the server is down for now; one that is too slow is there."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in AWAY
    if isinstance(error, openai.APITimeoutError) or isinstance(error.__cause__, TooLargeError):
        return False
    return isinstance(error, openai.APIConnectionError)


def _why_away(error: BaseException) -> str:
    if isinstance(error, openai.APIStatusError):
        return f"answers {error.status_code}"
    return f"cannot be reached ({_line(str(error.__cause__ or error))})"


def _line(text: str) -> str:
    """Some text as one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"
