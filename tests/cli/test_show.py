"""The command show."""

import json
import re
from pathlib import Path

from command_line import belvedere


def test_show(trained: Path) -> None:
    network = belvedere("show", "article")
    assert network.returncode == 0, network.stderr
    assert re.search(r"\b135,942 parameters, 128\b", network.stdout)  # all, and those that are not trained
    assert "148 x 148 x 16" in network.stdout
    model = belvedere("show", "run", cwd=trained)
    assert "dark, light" in model.stdout
    card = json.loads(belvedere("show", "run", "--json", cwd=trained).stdout)
    assert card["class_names"] == ["dark", "light"]
