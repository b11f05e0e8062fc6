"""The page of an audit."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.auditing.checks import CHECKS
from belvedere.auditing.class_checks import IMBALANCE, SMALL_CLASS
from belvedere.auditing.duplicates.groups import (
    CONFLICTING_LABELS,
    DUPLICATE_FILE,
    DUPLICATE_PIXELS,
    NEAR_DUPLICATE,
    SPLIT_LEAK,
)
from belvedere.auditing.label_issues import LABEL_ISSUE
from belvedere.evaluation.report.pages import EmbeddedImage, embed_image, explore_command, write_page
from belvedere.images.encode import thumbnail_or_none
from belvedere.types.audit import Audit, CheckSummary, DuplicateGroup, Issue
from belvedere.types.data import Sample

TEMPLATE = Path(__file__).parent / "templates" / "audit.html"
MAX_IMAGES = 24  # of a check
MAX_LABEL_ISSUES = 60
MAX_GROUPS = 24
MAX_GROUP_IMAGES = 6
TILE_SIZE = 240  # longer side, pixels: as large as an image is shown where it is enlarged
GROUPED = {SPLIT_LEAK, CONFLICTING_LABELS, DUPLICATE_FILE, DUPLICATE_PIXELS, NEAR_DUPLICATE}


@dataclass(frozen=True, slots=True)
class _Section:
    """One check on the page."""

    summary: CheckSummary
    advice: str
    images: tuple[EmbeddedImage, ...] = ()
    groups: tuple[tuple[str, tuple[EmbeddedImage, ...]], ...] = ()  # heading and images
    lines: tuple[str, ...] = ()  # issues without an image
    num_hidden: int = 0


def write_audit_page(path: Path, audit: Audit, samples: Sequence[Sample], command: str, out: Path) -> None:
    """Write the page of an audit of `samples` into `out`, with the command line that made it."""
    paths = {sample.name: sample.path for sample in samples}
    write_page(
        path,
        TEMPLATE,
        audit=audit,
        num_classes=len({issue.name for issue in audit.class_issues}),
        summaries=audit.checks,
        sections=[_section(summary, audit, paths, out) for summary in audit.checks if summary.num_flagged],
        command=command,
    )


def _section(summary: CheckSummary, audit: Audit, paths: Mapping[str, Path], out: Path) -> _Section:
    issue_type, advice = summary.issue_type, CHECKS[summary.issue_type].advice
    review = f"belvedere review {shlex.quote(str(out))}"
    if issue_type in (SMALL_CLASS, IMBALANCE):
        lines = tuple(
            f"{issue.name}: {issue.message}" for issue in audit.class_issues if issue.issue_type == issue_type
        )
        return _Section(summary, advice, lines=lines)
    if issue_type in GROUPED:
        groups = groups_of(issue_type, audit.groups)
        shown = tuple(_embed_group(group, paths, review) for group in groups[:MAX_GROUPS])
        return _Section(summary, advice, groups=shown, num_hidden=max(0, len(groups) - MAX_GROUPS))
    issues = [issue for issue in audit.issues if issue.issue_type == issue_type and issue.is_issue]
    limit = MAX_LABEL_ISSUES if issue_type == LABEL_ISSUE else MAX_IMAGES
    embedded = [
        (issue, _embed(path, *describe_issue(issue), command=_command(issue, audit.data, path, review)))
        for issue in issues[:limit]
        if (path := paths[issue.image])
    ]
    images = tuple(image for _, image in embedded if image is not None)
    lines = tuple(f"{issue.image}: {issue.message}" for issue, image in embedded if image is None)
    return _Section(summary, advice, images, lines=lines, num_hidden=max(0, len(issues) - limit))


def groups_of(issue_type: str, groups: Sequence[DuplicateGroup]) -> list[DuplicateGroup]:
    """Return the groups of duplicates that a check flags."""
    if issue_type == SPLIT_LEAK:
        return [group for group in groups if group.is_split_leak]
    if issue_type == CONFLICTING_LABELS:
        return [group for group in groups if group.has_conflicting_labels]
    return [group for group in groups if group.kind == issue_type]


def _embed_group(
    group: DuplicateGroup, paths: Mapping[str, Path], command: str
) -> tuple[str, tuple[EmbeddedImage, ...]]:
    kind = CHECKS[group.kind].title.lower()
    similarity = f", similarity {group.similarity:.2f} or more" if group.kind == NEAR_DUPLICATE else ""
    members = list(zip(group.images, group.labels, group.splits, strict=True))
    first = {member[1:]: member for member in reversed(members)}  # one of each label and split is shown
    members.sort(key=lambda member: first[member[1:]] != member)
    shown = [
        _embed(paths[image], f"{label}{f', {split}' if split else ''}\n{Path(image).name}", command=command)
        for image, label, split in members[:MAX_GROUP_IMAGES]
    ]
    more = f", {len(members) - MAX_GROUP_IMAGES} more" if len(members) > MAX_GROUP_IMAGES else ""
    heading = f"Group {group.number}: {kind}, {len(members)} images{similarity}{more}"
    return heading, tuple(image for image in shown if image is not None)


def describe_issue(issue: Issue) -> tuple[str, str]:
    """Return the caption of an issue's image, and its status."""
    name = Path(issue.image).name
    if issue.issue_type == LABEL_ISSUE:
        suggestion = f"suggested: {issue.suggested_label} ({issue.suggested_probability:.1%})"
        return f"labeled {issue.label}\n{suggestion}\nissue score {issue.issue_score:.2f}\n{name}", "issue"
    return f"{issue.message}\n{issue.label}/{name}", "plain"


def _command(issue: Issue, data: str, path: Path, review: str) -> str:
    """Return the command that opens an image: label issues are in the review, others on the map of the dataset."""
    return review if issue.issue_type == LABEL_ISSUE else explore_command(data, path)


def _embed(path: Path, caption: str, status: str = "plain", *, command: str) -> EmbeddedImage | None:
    pixels = thumbnail_or_none(path, TILE_SIZE)
    return None if pixels is None else embed_image(pixels, caption, status, path=str(path), command=command)
