"""Asking a server that speaks OpenAI's protocol, and waiting for one that is away."""

import json
import logging
import os
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import openai
import tenacity

from socratic_rl.core.errors import UserError
from socratic_rl.core.generator import Reply, Request

if TYPE_CHECKING:
    from socratic_rl.generators.openai_generator import OpenAI

logger = logging.getLogger(__name__)


AWAY = (502, 503, 504)
"""What is answered in place of a server that is down or still loads its model."""


class Server:
    """The connection to a server, shared by all threads of a generator.

    Args:
        settings: Its address and key, and how replies are drawn.
    """

    def __init__(self, settings: "OpenAI") -> None:
        self.settings = settings
        # it writes a line for every request
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._client = openai.OpenAI(
            base_url=str(settings.base_url),
            api_key=os.environ[settings.api_key_env] if settings.api_key_env else "none",
            timeout=settings.timeout,
            max_retries=settings.max_retries,
        )
        self._away = False
        self._reporting = Lock()

    def ask(self, request: Request, enough: Event) -> Reply:
        """The reply; where the server is away, as soon as it is back.

        Args:
            request: What to reply to.
            enough: Ends the wait for a server that is away.

        Raises:
            UserError: It did not come back in time, or fails otherwise.
        """
        asking = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_away),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
            stop=tenacity.stop_after_delay(self.settings.wait) | tenacity.stop_when_event_set(enough),
            sleep=tenacity.sleep_using_event(enough),
            before_sleep=lambda state: self._report(state.outcome.exception() if state.outcome else None),
            reraise=True,
        )
        try:
            answer = asking(self._send, request)
        except openai.APITimeoutError as error:
            seconds = self.settings.timeout
            raise self._failed(f"no reply within {seconds:g} s; raise timeout or lower width") from error
        except openai.APIConnectionError as error:
            raise self._failed(f"{_why_away(error)}; is the server running?") from error
        except openai.APIStatusError as error:
            raise self._failed(f"answered {error.status_code}: {_line(error.message)}") from error
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            raise self._failed(f"answered what is not OpenAI's protocol: {_line(str(error))}") from error
        self._report(None)
        reply = self._read(answer, chat=bool(request.messages))
        if request.write:
            request.write(reply.text)
        return reply

    def _send(self, request: Request) -> Any:
        settings: dict[str, Any] = {
            "model": self.settings.model,
            "temperature": self.settings.temperature,
            "top_p": self.settings.top_p,
            "max_tokens": request.max_tokens or self.settings.max_tokens,
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

    def _report(self, error: BaseException | None) -> None:
        """Say once, whatever the number of requests, that the server went away, and that it is back."""
        with self._reporting:
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
        return UserError(f"generator.base_url: {self.settings.base_url}: {reason}")


def _is_away(error: BaseException) -> bool:
    """Whether the server is down for now; one that is too slow is there."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in AWAY
    return isinstance(error, openai.APIConnectionError) and not isinstance(error, openai.APITimeoutError)


def _why_away(error: BaseException) -> str:
    if isinstance(error, openai.APIStatusError):
        return f"answers {error.status_code}"
    return f"cannot be reached ({_line(str(error.__cause__ or error))})"


def _line(text: str) -> str:
    """Some text as one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"
