"""What anybody wrote as text that a terminal shows: its control characters are seen and not obeyed."""

import logging
import sys
import unicodedata

BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
"""They would turn the direction of what follows."""


def plain(text: str) -> str:
    r"""Text whose control characters are shown (``\x1b``), not obeyed, since what a model writes can be anything."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    unsafe = unicodedata.category(character) in {"Cc", "Cs"} or character in BIDIRECTIONAL
    return character.encode("unicode_escape").decode() if unsafe and character not in "\n\t" else character


def tell(text: str, *, error: bool = False) -> None:
    """Print some text as it is read, on stdout or as an error on stderr."""
    print(plain(text), file=sys.stderr if error else sys.stdout, flush=True)


class PlainRecord(logging.LogRecord):
    """A line of a log as text."""

    def getMessage(self) -> str:  # noqa: N802
        """The message, its control characters shown."""
        return plain(super().getMessage())
