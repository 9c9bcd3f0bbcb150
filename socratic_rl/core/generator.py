"""What all generators share: a request, its reply, and how text is drawn."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Generator as Coroutine
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeVar

from pydantic import AfterValidator, AliasChoices, Field

from socratic_rl.core.component import Component, Real, Tokens, Whole
from socratic_rl.core.dialogue import Message, shortened
from socratic_rl.core.text import plain


@dataclass(frozen=True)
class Request:
    """What to write next: the answer to chat messages, or the continuation of a plain text."""

    seed: int
    """Everything drawn for the reply comes from it; from 0 to 2³¹ - 1."""
    messages: tuple[Message, ...] = ()
    text: str = ""
    stop: tuple[str, ...] = ()
    """The reply ends before the first of these strings."""
    max_tokens: int | None = None
    """The most tokens of the reply; None leaves it to the generator."""
    schema: str = ""
    """A JSON schema that the reply follows; empty for none."""
    shorten: bool = False
    """Whether messages that do not fit lose their oldest exchanges after the first; else they are a mistake."""
    write: Callable[[str], None] | None = None
    """Takes the reply's text as it is drawn: piece by piece by base and tutor, from others all at once. What it raises
    ends the reply."""

    def __post_init__(self) -> None:
        if bool(self.messages) == bool(self.text):
            raise ValueError("a request has either messages or a text")


@dataclass(frozen=True)
class Reply:
    """What a generator wrote."""

    text: str
    finish: Literal["stop", "length"]
    """``length`` where it was cut off at its limit."""


T = TypeVar("T")


Talk: TypeAlias = Coroutine[Request, Reply, T]
"""What asks for one reply after another, such as a conversation in the making, and ends in its result."""


class Generator(Protocol):
    """Writes replies; its weights are loaded once, when they are first needed."""

    @property
    def width(self) -> int:
        """How many requests it works on at once."""
        ...

    def identity(self) -> dict[str, Any]:
        """What its text depends on, for the record: kind, model, hash of the weights, sampling."""
        ...

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Each request's index and reply, as they finish."""
        ...

    def hold(self, talks: Iterable[Talk[T]]) -> Iterator[tuple[int, T]]:
        """Each talk's index and result, as they end; the same talks in the same order give the same."""
        ...


def in_order(replies: Iterable[tuple[int, Reply]], total: int, label: str | None, unit: str = "replies") -> list[Reply]:
    """What ``generate`` gives, in the order of its requests, behind a progress bar where that has a label."""
    from tqdm import tqdm

    drawn = dict(tqdm(replies, label and plain(label), total, unit=f" {unit}", delay=2, disable=label is None))
    return [drawn[index] for index in range(total)]


class InRounds:
    """Talks held turn by turn: all that wait for a reply get one, then those that go on the next."""

    def hold(self: Generator, talks: Iterable[Talk[T]]) -> Iterator[tuple[int, T]]:
        """Each talk's index and result, as they end."""
        started = list(talks)
        # a talk that begins takes None
        replies: Iterable[tuple[int, Any]] = [(number, None) for number in range(len(started))]
        numbers = list(range(len(started)))
        while numbers:
            waiting: dict[int, Request] = {}
            for position, reply in replies:
                number = numbers[position]
                try:
                    waiting[number] = started[number].send(reply)
                except StopIteration as end:
                    yield number, end.value
            numbers = sorted(waiting)
            replies = self.generate([waiting[number] for number in numbers]) if numbers else ()


def _none_or_some(temperature: float) -> float:
    if 0 < temperature < LOWEST:
        raise ValueError(f"must be 0, which takes the likeliest token, or at least {LOWEST} (got {temperature:g})")
    return temperature


LOWEST = 0.001
"""Logits divided by less are past what float32 holds."""


class Sampling(Component):
    """How replies are drawn, and how many at once.

    A generator has these keys among its own. What base and tutor share is ``sampling`` in a config, where two keys have
    the names that transformers gives them: ``max_new_tokens`` and ``batch_size``.
    """

    temperature: Annotated[Real, Field(ge=0, le=100), AfterValidator(_none_or_some)]
    """0 always takes the likeliest token."""
    top_p: Real = Field(gt=0, le=1)
    """Draws among the likeliest tokens whose probabilities add up to this."""
    max_tokens: Tokens = Field(validation_alias=AliasChoices("max_tokens", "max_new_tokens"))
    """The most tokens of one reply."""
    width: Whole = Field(ge=1, le=4096, validation_alias=AliasChoices("width", "batch_size"))
    """How many replies are drawn at once."""

    def sampling(self) -> dict[str, Any]:
        """What a generator's text depends on, for the record."""
        return {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}

    def as_config(self) -> dict[str, Any]:
        """The ``sampling`` of a config."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_tokens,
            "batch_size": self.width,
        }


def fitting(request: Request, tokens: Callable[[Request], list[int]], room: int) -> list[int]:
    """The tokens of a request's prompt, of one that may be shortened without the exchanges that do not fit.

    Args:
        request: What to write next.
        tokens: The tokens of a request's prompt.
        room: The most tokens of a prompt that is shortened. One that may not be is left as it is.

    Returns:
        The tokens; none where not even the first message and the last exchange fit.
    """
    if not request.shorten:
        return tokens(request)
    prompts = (tokens(replace(request, messages=tuple(left))) for left in shortened(request.messages))
    return next((prompt for prompt in prompts if len(prompt) <= room), [])
