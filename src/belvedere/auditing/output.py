"""The results folder of an audit: issues.csv, audit.json and report.html."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from belvedere.runtime.environment import command_line, list_versions
from belvedere.runtime.serialization import write_csv, write_json
from belvedere.types.audit import AUDIT, ISSUES, Audit, Issue
from belvedere.types.data import Sample

NETWORK = "network.onnx"  # the first network trained by the audit
COLUMNS = (
    *("image", "issue_type", "issue_score", "is_issue", "message", "label"),
    *("suggested_label", "suggested_probability", "label_probability", "group", "sha256"),
)
PACKAGES = ("numpy", "onnxruntime", "pillow", "simplejpeg")


def write_audit(
    folder: Path, audit: Audit, samples: Sequence[Sample], *, out: Path | None = None, spreadsheet: bool = False
) -> None:
    """Write issues.csv, audit.json and report.html of an audit.

    Args:
        folder: Folder to write to.
        audit: The audit.
        samples: The images.
        out: Name that the folder will have. Default: `folder`.
        spreadsheet: Whether formulas are escaped.
    """
    from belvedere.auditing.report import write_audit_page  # needs the extra `report`

    write_csv(folder / ISSUES, COLUMNS, map(_row, audit.issues), spreadsheet=spreadsheet)
    write_json(folder / AUDIT, to_json(audit) | {"spreadsheet": spreadsheet})
    write_audit_page(folder / "report.html", audit, samples, command_line(), out or folder)


def to_json(audit: Audit) -> dict[str, object]:
    """Return the content of audit.json: everything except the issues, which are in issues.csv."""
    content = audit.to_dict() | {"versions": list_versions(*PACKAGES)}
    del content["issues"]
    return content


def _row(issue: Issue) -> list[object]:
    values = asdict(issue) | {"is_issue": "true" if issue.is_issue else "false"}
    return [values[name] for name in COLUMNS]
