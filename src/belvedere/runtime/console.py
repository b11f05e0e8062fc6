"""Rich's console for tables and lines whose texts come from files: nothing in them is markup or moves the cursor."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from belvedere.runtime.terminal import printable_lines


class PlainConsole(Console):
    """Prints text as it is, with escapes instead of what a terminal may act on; only styles come from Rich."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string; done before a table is laid out, so that escapes have their room."""
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Rich does; every text on its way to the terminal passes here."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable_lines(text), style, control)
