"""The command cache."""

import json
import os
from pathlib import Path

import pytest

from command_line import belvedere


@pytest.mark.usefixtures("trained")
def test_the_cache_is_shown_and_cleared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shown = json.loads(belvedere("cache", "--json").stdout)
    assert shown["folder"] == os.environ["BELVEDERE_CACHE"]
    assert {store["key"] for store in shown["caches"]}  # of the training above
    monkeypatch.setenv("BELVEDERE_CACHE", str(tmp_path))
    store = tmp_path / "images" / "8x8-stretch-1"
    store.mkdir(parents=True)
    (store / "index.jsonl").write_text("{}\n" * 3)
    (store / "CACHEDIR.TAG").touch()
    (store / "images").write_bytes(bytes(1_000_000))
    plain = belvedere("cache")
    assert plain.returncode == 0, plain.stderr
    assert "8x8-stretch-1" in plain.stdout
    assert str(tmp_path) in plain.stderr
    cleared = belvedere("cache", "--clear")
    assert cleared.stderr == f"Freed 1 MB in {tmp_path}.\n"
    assert json.loads(belvedere("cache", "--json").stdout)["caches"] == []
