"""A generator whose replies a test writes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from socratic_rl.core.generator import Reply, Request


class Scripted:
    """Says what a function makes of each request, and answers the last request first."""

    width = 2

    def __init__(self, say: Callable[[Request], str]) -> None:
        self.say = say
        self.asked: list[Request] = []

    def identity(self) -> dict[str, Any]:
        return {"kind": "scripted"}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        self.asked += requests
        for index in reversed(range(len(requests))):
            yield index, Reply(self.say(requests[index]), "stop")
