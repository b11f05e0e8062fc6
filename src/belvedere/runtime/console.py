"""A Rich console that prints names from files as plain text: no markup, no control characters."""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from belvedere.runtime.terminal import printable_lines

SPACES_AT_END = re.compile(" +\n")


class PlainConsole(Console):
    """Prints text unchanged, with escapes for characters that a terminal would act on."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string before a table is laid out, so that columns have room for escapes."""
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Rich does, without spaces at the end of lines in a file; every text of the console passes here."""
        spaces = ""
        for text, style, control in super().render(renderable, options):
            shown = text if control else printable_lines(text)
            if not self.is_terminal:
                whole = SPACES_AT_END.sub("\n", spaces + shown)
                shown = whole.rstrip(" ")
                spaces = whole[len(shown) :]
            yield Segment(shown, style, control)
        if spaces:
            yield Segment(spaces)
