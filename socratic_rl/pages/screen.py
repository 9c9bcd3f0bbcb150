"""The terminal that rich draws tables and dialogues on; what it is handed is text, never markup."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from socratic_rl.core.text import plain


class Screen(Console):
    """A terminal that shows strings as they are: no markup, no emoji by name, and no escape sequence but its own.

    Args:
        options: Of rich's console.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string, such as a table's cell, as text."""
        return super().render_str(plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is drawn, piece by piece; whatever way it took here, its control characters are shown."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))
