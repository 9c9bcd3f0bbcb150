"""What people read and write in a terminal: text as it stands, replies side by side, lines with their editing."""

import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

NARROW = 80
"""Columns below which two replies stand below each other."""

YOU = "student: "
"""What stands before what a person types."""

# they would turn the direction of what follows
BIDIRECTIONAL = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def console() -> "Console":
    """The terminal; where the output goes into a file or a pipe, 120 columns unless COLUMNS says otherwise."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def plain(text: str) -> str:
    r"""Text whose control characters are shown (``\x1b``), not obeyed, since what a model writes can be anything."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    unsafe = unicodedata.category(character) in {"Cc", "Cs"} or character in BIDIRECTIONAL
    return character.encode("unicode_escape").decode() if unsafe and character not in "\n\t" else character


def side_by_side(prompt: str, replies: Mapping[str, str], notes: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Print the replies to a prompt beside each other, or below each other where the terminal is narrow.

    Args:
        prompt: What was asked.
        replies: By who gave them.
        notes: What to say of each reply, if anything.
        facts: How they were drawn.
    """
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    screen = console()
    width = screen.width // len(replies) - 1 if screen.width >= NARROW else screen.width
    screen.print(Panel(Text(plain(prompt)), title="prompt", title_align="left"))
    panels = [
        Panel(Text(plain(text)), title=Text(name), title_align="left", subtitle=notes[name] or None, width=width)
        for name, text in replies.items()
    ]
    screen.print(Columns(panels, padding=(0, 1)))
    for name, value in facts.items():
        screen.print(Text(f"{name}  {value}", style="dim"))


def lines(commands: Sequence[str]) -> Iterator[str]:
    """What a person types, line by line, until the end of input (Ctrl-D): with editing, history and completion.

    Ctrl-C empties the line. Lines that come through a pipe are read as they are, and shown as if they were typed.
    """
    if not sys.stdin.isatty():
        for row in sys.stdin.buffer:
            line = row.decode("utf-8", errors="replace").strip()
            print(f"{YOU}{plain(line)}", flush=True)
            yield line
        return
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.formatted_text import FormattedText

    session: PromptSession[str] = PromptSession(
        completer=WordCompleter(list(commands), sentence=True), complete_while_typing=False
    )
    while True:
        try:
            yield session.prompt(FormattedText([("bold", YOU)])).strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
