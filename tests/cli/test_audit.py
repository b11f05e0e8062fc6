"""The command audit."""

import hashlib
import json
import shutil
from pathlib import Path

from belvedere.data.corrections.corrections_file import CorrectionsFile, utc_now
from belvedere.types.data import Decision
from command_line import assert_one_line, belvedere
from conftest import new_id, write_classes


def test_audit(trained: Path) -> None:
    broken = trained / "images" / "train" / "dark" / "broken.jpg"
    broken.write_bytes(b"no image")
    try:
        done = belvedere("audit", "images", "--skip-label-issues", "--out", "audit", "--json", cwd=trained)
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        assert printed["checks"]["unreadable"]["num_flagged"] == 1
        assert sorted(printed["num_images_by_split"]) == ["test", "train"]
        strict = belvedere(
            "audit",
            "images",
            "--skip-label-issues",
            "--out",
            "audit",
            "--fail-on-issues",
            "--overwrite",
            cwd=trained,
        )
    finally:
        broken.unlink()
    assert strict.returncode == 1
    assert "broken.jpg" in "".join(strict.stdout.split())  # folded where the terminal is narrow
    assert "Report: audit/report.html" in strict.stderr
    assert (trained / "audit" / "issues.csv").read_text().startswith("image,issue_type,issue_score,is_issue,message,")


def test_audit_fails_on_the_named_checks(tmp_path: Path) -> None:
    write_classes(tmp_path / "images", 3)
    (tmp_path / "images" / "red" / "broken.png").write_bytes(b"no image")
    command = ("audit", "images", "--skip-label-issues", "--skip-near-duplicates", "--overwrite")
    for names, code in (
        (("conflicting_labels",), 0),
        (("label_issue",), 0),  # was not run
        (("unreadable",), 1),
        (("conflicting_labels", "unreadable"), 1),
    ):
        done = belvedere(*command, *(word for name in names for word in ("--fail-on", name)), cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert (tmp_path / "audit" / "report.html").is_file()
    shutil.rmtree(tmp_path / "audit")
    assert_one_line(belvedere(*command, "--fail-on", "unreadible", cwd=tmp_path), 2, "unreadible", "unreadable")
    assert not (tmp_path / "audit").exists()


def test_audit_applies_corrections(trained: Path) -> None:
    copy = trained / "images" / "train" / "light" / "copy.jpg"
    shutil.copy(trained / "images" / "train" / "dark" / "0.jpg", copy)
    content = hashlib.sha256(copy.read_bytes()).hexdigest()
    CorrectionsFile(trained / "j.jsonl").append(
        Decision(new_id(), utc_now(), "Ana", content, str(copy), "exclude", "light")
    )
    command = ("audit", "images", "--skip-label-issues", "--json", "--out")
    try:
        before, after = (
            json.loads(belvedere(*command, f"mended{len(more)}", *more, cwd=trained).stdout)["checks"]
            for more in ((), ("--corrections", "j.jsonl"))
        )
    finally:
        copy.unlink()
    assert before["conflicting_labels"]["num_flagged"] == 2
    assert after["conflicting_labels"]["num_flagged"] == 0
    written = json.loads((trained / "mended2" / "audit.json").read_text())
    assert written["corrections"] == str((trained / "j.jsonl").resolve())
