"""The command `review` shows arguments in messages of the library as its options."""

import pytest

from belvedere.cli.progress import CommandProgress
from belvedere.types.data import DataWarning


def test_messages_name_options(capsys: pytest.CaptureFixture[str]) -> None:
    progress = CommandProgress("review")
    progress.log("Give it as `data`.")
    progress.log_warnings([DataWarning("1 image not found. Give the dataset as `data`", ("`model`.jpg",))])
    assert capsys.readouterr().err.splitlines() == [
        "Give it as --data.",
        "Warning: 1 image not found. Give the dataset as --data: `model`.jpg",
    ]
