"""Progress of the command `review`, whose messages name options."""

from collections.abc import Iterable
from dataclasses import replace

from belvedere.cli.ending import name_options
from belvedere.runtime.progress import ForwardedProgress, console_progress
from belvedere.types.data import DataWarning

COMMAND = ["review"]


class ReviewProgress(ForwardedProgress):
    """Shows arguments in messages, as in `data`, as options of the command."""

    def __init__(self) -> None:
        super().__init__(console_progress())

    def log(self, message: str) -> None:
        """Show a message, with options."""
        super().log(name_options(message, COMMAND))

    def log_warnings(self, warnings: Iterable[DataWarning]) -> None:
        """Show warnings, with options."""
        super().log_warnings([replace(each, message=name_options(each.message, COMMAND)) for each in warnings])
