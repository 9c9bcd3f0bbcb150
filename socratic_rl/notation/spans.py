"""Where in a text something stands, also when it was found after the text had been rewritten."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

Span = tuple[int, int]
"""Start and end of a piece of a text, as a slice takes them."""


Replacement = str | Callable[[re.Match[str]], str]


def pieces(separator: re.Pattern[str], text: str) -> Iterator[Span]:
    """Where the pieces stand that ``separator.split`` gives."""
    start = 0
    for match in separator.finditer(text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


Sub = Callable[[re.Pattern[str], Replacement, str], str]
"""``re.Pattern.sub``, or one that keeps where things stood."""


class Rewrite(NamedTuple):
    """What is written in another way; searching for it takes long, so the text is first looked at for what it needs."""

    needs: tuple[str, ...]
    """The text in lower case has one of these."""
    pattern: re.Pattern[str]
    replacement: Replacement


def rewrite(needs: str, pattern: str, replacement: Replacement) -> Rewrite:
    """A rewrite, without regard to case; ``needs`` are divided by " | "."""
    return Rewrite(tuple(needs.split(" | ")), re.compile(pattern, re.IGNORECASE), replacement)


def rewritten(text: str, rewrites: Iterable[Rewrite], sub: Sub = re.Pattern.sub) -> str:
    """The text after every rewrite that it has need of, in their order."""
    lower = text.lower()
    for needs, pattern, replacement in rewrites:
        for need in needs:
            if need in lower:
                text = sub(pattern, replacement, text)
                break
    return text


class Origins:
    """Where each character of a text that is rewritten step by step stood in the first one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = list(range(len(text)))
        self._ends = list(range(1, len(text) + 1))

    def sub(self, pattern: re.Pattern[str], replacement: Replacement, text: str) -> str:
        """What ``pattern.sub(replacement, text)`` gives, where ``text`` is the last such result.

        A replacement that stands in what it replaces ("12" for "**12**") comes from there, any other from all of it.
        """
        new_text, starts, ends = "", [], []
        done = 0
        for match in pattern.finditer(text):
            new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
            copied = slice(done, match.start())
            new_text += text[copied] + new
            starts += self._starts[copied]
            ends += self._ends[copied]
            within = match[0].find(new)
            if within >= 0:
                copied = slice(match.start() + within, match.start() + within + len(new))
                starts += self._starts[copied]
                ends += self._ends[copied]
            else:
                starts += [self._starts[match.start()]] * len(new)
                ends += [self._ends[match.end() - 1]] * len(new)
            done = match.end()
        self._starts = starts + self._starts[done:]
        self._ends = ends + self._ends[done:]
        return new_text + text[done:]

    def span(self, start: int, end: int) -> Span:
        """Where a piece of the last text, not empty, stood in the first one, without white space around it."""
        first, last = self._starts[start], self._ends[end - 1]
        piece = self._text[first:last]
        return first + len(piece) - len(piece.lstrip()), last - len(piece) + len(piece.rstrip())
