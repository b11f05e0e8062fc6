"""The demo: the whole job on a small practice set."""

import json
from pathlib import Path

import pytest

from belvedere.demo import run_demo
from belvedere.errors import FolderExists


def test_the_demo_does_the_whole_job(tmp_path: Path) -> None:
    shown = run_demo(tmp_path / "demo", train_per_class=6, test_per_class=3, epochs=1)
    assert shown.report.is_file()
    assert (tmp_path / "demo" / "fjord.png").is_file()
    assert shown.fjord.prediction in shown.run.evaluation.class_names
    assert max(shown.fjord_shares, key=lambda name: shown.fjord_shares[name]) == "sea"
    truth = json.loads((shown.photographs / "truth.json").read_text())
    report = shown.report.read_text(encoding="utf-8")
    log = (shown.run.folder / "train.log").read_text(encoding="utf-8")
    for name in truth["unreadable"]:
        assert name in report
    for group in truth["duplicates"]:
        assert all(name in log for name in group)  # found without being told
    found = {one.what: one for one in shown.found}
    assert set(found) == {"wrong labels", "groups of copies", "leaks into the test part", "unreadable files"}
    for what in ("groups of copies", "leaks into the test part", "unreadable files"):
        assert found[what].recall == found[what].precision == 1, what
    assert found["wrong labels"].planted == len(truth["wrong_labels"])
    assert (tmp_path / "demo" / "audit" / "report.html").is_file()
    with pytest.raises(FolderExists, match="--overwrite"):
        run_demo(tmp_path / "demo")
