"""How a command ends: arguments in messages of the library are shown as options."""

import pytest

from belvedere.cli.ending import name_options


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        ("Give another `out`, or set `overwrite`.", ["train", "photos"], "Give another --out, or set --overwrite."),
        ("More `max_minutes`.", ["train", "--seed", "1"], "More --max-minutes."),
        ("Leave out `accept_rate` of `model`.", ["evaluate", "m", "d"], "Leave out --accept-rate of MODEL."),
        ("Leave out `model`.", ["audit", "d"], "Leave out --model."),
        ("`null` names", ["predict", "-"], "--null names"),
        ("`no_such_argument` in `a b`", ["train"], "`no_such_argument` in `a b`"),
        (
            "Use `ema_decay=0` or `horizontal_flip=false`.",
            ["train"],
            "Use --set ema_decay=0 or --set horizontal_flip=false.",
        ),
        ("`out`", [], "`out`"),
        ("`out`", ["unknown"], "`out`"),
    ],
)
def test_arguments_are_shown_as_options_of_the_command(message: str, arguments: list[str], shown: str) -> None:
    assert name_options(message, arguments) == shown
