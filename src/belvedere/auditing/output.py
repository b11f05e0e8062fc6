"""The results folder of an audit: issues.csv, audit.json and report.html."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from belvedere.auditing.checks import summarize
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


def write_audit(folder: Path, audit: Audit, samples: Sequence[Sample], *, spreadsheet: bool = False) -> None:
    """Write issues.csv, with formulas escaped if `spreadsheet`, audit.json and report.html of an audit of `samples`."""
    from belvedere.auditing.report import write_audit_page  # needs the extra `report`

    write_csv(folder / ISSUES, COLUMNS, map(_row, audit.issues), spreadsheet=spreadsheet)
    write_json(folder / AUDIT, to_json(audit, samples) | {"spreadsheet": spreadsheet})
    write_audit_page(folder / "report.html", audit, samples, command_line())


def to_json(audit: Audit, samples: Sequence[Sample]) -> dict[str, object]:
    """Return the content of audit.json: everything except the issues, which are in issues.csv."""
    counts = Counter((sample.split or "", sample.label) for sample in samples)
    splits = sorted({split for split, _ in counts})
    return {
        "data": audit.data,
        "corrections": audit.corrections,
        "class_names": list(audit.class_names),
        "num_images": audit.num_images,
        "num_flagged": audit.num_flagged,
        "checks": {
            summary.issue_type: {"title": summary.title, "num_flagged": summary.num_flagged}
            for summary in summarize(audit)
        },
        "num_images_by_split": {split: {name: counts[split, name] for name in audit.class_names} for split in splits},
        "class_issues": [asdict(issue) for issue in audit.class_issues],
        "groups": [
            asdict(group)
            | {"is_split_leak": group.is_split_leak, "has_conflicting_labels": group.has_conflicting_labels}
            for group in audit.groups
        ],
        "label_issue_method": audit.label_issue_method or None,
        "network": None if audit.network is None else asdict(audit.network),
        "warnings": [asdict(warning) for warning in audit.warnings],
        "total_seconds": audit.total_seconds,
        "versions": list_versions(*PACKAGES),
    }


def _row(issue: Issue) -> list[object]:
    values = asdict(issue) | {"is_issue": "true" if issue.is_issue else "false"}
    return [values[name] for name in COLUMNS]
