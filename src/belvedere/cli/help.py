"""Help of commands: in groups on the first page, with arguments in capitals, examples and -h.

The pages are plain text: Rich, which typer can print help with, takes longer to import than the whole command.
"""

import shlex
from typing import Any

from typer.core import TyperCommand, TyperGroup

GROUPS = {
    "Start": ("demo", "fetch"),
    "Data": ("label", "explore", "audit", "review", "corrections", "cache"),
    "Train": ("train", "evaluate", "assess", "calibrate", "compare", "networks"),
    "Use": ("predict", "export", "push", "serve", "monitor", "show"),
}
NO_LIMIT = 10_000  # characters of a command's first sentence, so that it is never truncated


class CommandGroup(TyperGroup):
    """The commands, which the help page lists in groups."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - argument of click
        """Return the names of the commands, in the order of the groups."""
        return [name for names in GROUPS.values() for name in names]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - argument of click
        """Write a section for each group."""
        width = max(map(len, self.commands))
        for title, names in GROUPS.items():
            rows = [(f"{name:<{width}}", self.commands[name].get_short_help_str(NO_LIMIT)) for name in names]
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - argument of click
        """Write the line about the help of a command."""
        formatter.write_paragraph()
        formatter.write_text("belvedere COMMAND -h shows the options of a command, with examples.")


class Command(TyperCommand):
    """A command with examples, whose help shows arguments as MODEL instead of {model}; `epilog` has the examples."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for param in self.params:
            if param.param_type_name == "argument":
                dots = "..." if param.nargs != 1 else ""
                param.metavar = param.metavar or f"{param.human_readable_name.upper()}{dots}"
            elif param.type.name.endswith(" range"):  # the help says which range
                param.metavar = f"<{param.type.name.removesuffix(' range').removeprefix('integer') or 'int'}>"

    @property
    def examples(self) -> list[list[str]]:
        """The words of each example, after those of "belvedere COMMAND"."""
        return [shlex.split(line)[2:] for line in (self.epilog or "").splitlines()]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the line of usage."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - argument of click
        """Write the examples, a line each."""
        with formatter.section("Examples"):
            for line in (self.epilog or "").splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
