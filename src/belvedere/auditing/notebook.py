"""HTML of an audit for notebooks."""

from collections.abc import Sequence
from pathlib import Path

from belvedere.auditing.report import GROUPED, describe_issue, groups_of
from belvedere.evaluation.report.notebook import load_figure, short_name, warning_lines
from belvedere.runtime import notebook
from belvedere.runtime.notebook import Figure
from belvedere.runtime.terminal import count
from belvedere.types.audit import Audit, DuplicateGroup

MAX_IMAGES = 36  # in all
MAX_CHECK_IMAGES = 6
MAX_GROUPS, MAX_GROUP_IMAGES = 3, 2  # of a check; images of a group


def audit_html(audit: Audit) -> str:
    """Return an audit: the result of each check, and the images with the highest scores."""
    return notebook.block(notebook.title(f"Audit of {audit.data}"), *audit_parts(audit))


def audit_parts(audit: Audit) -> list[str]:
    """Return the parts of an audit's HTML, for a larger output."""
    found = [each for each in audit.checks if each.num_flagged]
    summary = (
        f"{count(audit.num_images, 'image')}, {count(len(audit.class_names), 'class', 'classes')}: "
        f"{count(audit.num_flagged, 'image')} with issues. "
        f"{len(audit.checks) - len(found)} of {len(audit.checks)} checks found nothing."
    )
    rows = [(each.title, f"{each.num_flagged:,}", each.example) for each in found]
    parts = [notebook.line(summary)]
    if rows:
        parts.append(notebook.table(("check", "found", "most severe"), rows, num_texts=3))
    parts += warning_lines(audit.warnings)
    num_images, shown = 0, set[int]()
    for check in found:
        figures = _load_figures(audit, check.issue_type, shown)[: MAX_IMAGES - num_images]
        num_images += len(figures)
        if figures:
            parts += [notebook.title(f"{check.title} ({check.num_flagged:,})"), notebook.images(figures)]
    return parts


def _load_figures(audit: Audit, issue_type: str, shown: set[int]) -> list[Figure]:
    """Load the images of a check; groups that an earlier check has `shown` are left out."""
    if issue_type in GROUPED:
        groups = [group for group in groups_of(issue_type, audit.groups) if group.number not in shown][:MAX_GROUPS]
        shown.update(group.number for group in groups)
        return [figure for group in groups for figure in _load_group(audit, group)]
    issues = [issue for issue in audit.issues if issue.issue_type == issue_type and issue.is_issue]
    return [_load(audit, issue.image, describe_issue(issue)[0].split("\n")) for issue in issues[:MAX_CHECK_IMAGES]]


def _load_group(audit: Audit, group: DuplicateGroup) -> list[Figure]:
    members = zip(group.images, group.labels, group.splits, strict=True)
    return [
        _load(audit, image, [f"group {group.number}", f"{label}{f', {split}' if split else ''}", short_name(image)])
        for image, label, split in list(members)[:MAX_GROUP_IMAGES]
    ]


def _load(audit: Audit, image: str, lines: Sequence[str]) -> Figure:
    return load_figure(audit.paths.get(image, Path(image)), lines)
