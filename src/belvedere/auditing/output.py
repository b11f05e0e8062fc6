"""The folder of an audit: issues.csv and audit.json for programs and spreadsheets, report.html for people.

Knows which files there are and their columns; does not know how the page looks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from belvedere.auditing.checks import summarise
from belvedere.auditing.report import write_page
from belvedere.runtime.csv_files import write_csv
from belvedere.runtime.environment import command_line, list_versions
from belvedere.runtime.files import write_json
from belvedere.types.audit import Audit, Issue
from belvedere.types.data import Sample

ISSUES, AUDIT = "issues.csv", "audit.json"
NETWORK = "network.onnx"  # the first of those that were trained
COLUMNS = (
    *("image", "issue_type", "score", "is_issue", "message", "label"),
    *("suggested_label", "suggested_probability", "label_probability", "group", "sha256"),
)
VERSIONS_OF = ("numpy", "onnxruntime", "pillow", "simplejpeg")


def write_audit(folder: Path, audit: Audit, samples: Sequence[Sample], *, spreadsheet: bool = False) -> None:
    """Writes issues.csv, audit.json and report.html.

    Args:
        folder: Exists, and is the audit's own.
        audit: What was found.
        samples: The photographs, to show those that were found.
        spreadsheet: Whether cells of issues.csv that a spreadsheet would take for formulas are escaped.
    """
    write_csv(folder / ISSUES, COLUMNS, map(_row, audit.issues), spreadsheet=spreadsheet)
    write_json(folder / AUDIT, collect(audit, samples) | {"spreadsheet": spreadsheet})
    write_page(folder / "report.html", audit, samples, command_line())


def collect(audit: Audit, samples: Sequence[Sample]) -> dict[str, object]:
    """Returns an audit of photographs as JSON holds it: all but the issues, which are in issues.csv."""
    counts = Counter((sample.part, sample.label) for sample in samples)
    parts = sorted({part for part, _ in counts})
    return {
        "photographs": audit.source,
        "labels": audit.labels,
        "classes": list(audit.class_names),
        "images": audit.images,
        "flagged": audit.flagged,
        "checks": {one.issue_type: {"title": one.title, "flagged": one.flagged} for one in summarise(audit)},
        "counts": {part: {name: counts[part, name] for name in audit.class_names} for part in parts},
        "class_issues": [asdict(one) for one in audit.classes],
        "groups": [asdict(group) | {"leaks": group.leaks, "contradicts": group.contradicts} for group in audit.groups],
        "labels_doubted_by": audit.route or None,
        "network": None if audit.network is None else asdict(audit.network),
        "notes": [asdict(note) for note in audit.notes],
        "seconds_total": audit.seconds,
        "versions": list_versions(*VERSIONS_OF),
    }


def _row(issue: Issue) -> list[object]:
    values = asdict(issue) | {"is_issue": "true" if issue.is_issue else "false"}
    return [values[name] for name in COLUMNS]
