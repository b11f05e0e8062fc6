"""The page of an audit: what was found, in the order in which to look, with the photographs.

Knows which photographs are shown and what stands beside them; does not know how anything was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.auditing.checks import FINDINGS, Summary, summarise
from belvedere.auditing.class_checks import IMBALANCE, SMALL_CLASS
from belvedere.auditing.duplicates.groups import CONTRADICTION, LEAK, NEAR, SAME_BYTES, SAME_PIXELS
from belvedere.auditing.label_issues import WRONG_LABEL
from belvedere.errors import InvalidImageError
from belvedere.evaluation.report import plots
from belvedere.evaluation.report.html import EmbeddedPicture, embed_tile, environment
from belvedere.evaluation.report.image_grid import Tile
from belvedere.images.decode import read_image
from belvedere.images.resize import resize_image, within
from belvedere.runtime import files
from belvedere.types.audit import Audit, DuplicateGroup, Issue
from belvedere.types.data import Sample

SHOWN = 24  # photographs of a check
SHOWN_DOUBTS = 60  # of doubtful labels
SHOWN_GROUPS = 24
SHOWN_OF_A_GROUP = 6
TILE_PIXELS = 150  # longer side of a photograph on the page
_GROUPED = {LEAK, CONTRADICTION, SAME_BYTES, SAME_PIXELS, NEAR}


@dataclass(frozen=True, slots=True)
class _Section:
    """One check on the page."""

    summary: Summary
    advice: str
    pictures: tuple[EmbeddedPicture, ...]
    groups: tuple[tuple[str, tuple[EmbeddedPicture, ...]], ...]  # heading and pictures of each
    lines: tuple[str, ...]  # where there is nothing to show, what it is about
    left: int  # that are not shown


def write_page(path: Path, audit: Audit, samples: Sequence[Sample], command: str) -> None:
    """Writes a page that needs no other file.

    Args:
        path: Of the page.
        audit: What was found.
        samples: The photographs.
        command: How the audit was called, or nothing.
    """
    paths = {sample.image: sample.path for sample in samples}
    summaries = summarise(audit)
    page = (
        environment(Path(__file__).parent / "templates")
        .get_template("audit.html")
        .render(
            audit=audit,
            summaries=summaries,
            sections=[_make_section(one, audit, paths) for one in summaries if one.flagged],
            command=command,
            colours=plots.COLOURS,
        )
    )
    files.write_text(path, page.encode(errors="backslashreplace").decode())


def _make_section(summary: Summary, audit: Audit, paths: Mapping[str, Path]) -> _Section:
    advice = FINDINGS[summary.issue_type].advice
    if summary.issue_type in (SMALL_CLASS, IMBALANCE):
        lines = tuple(f"{one.name}: {one.message}" for one in audit.classes if one.issue_type == summary.issue_type)
        return _Section(summary, advice, (), (), lines, 0)
    if summary.issue_type in _GROUPED:
        groups = _groups_of(summary.issue_type, audit.groups)
        shown = tuple(_show_group(group, paths) for group in groups[:SHOWN_GROUPS])
        return _Section(summary, advice, (), shown, (), max(0, len(groups) - SHOWN_GROUPS))
    issues = [issue for issue in audit.issues if issue.issue_type == summary.issue_type and issue.is_issue]
    most = SHOWN_DOUBTS if summary.issue_type == WRONG_LABEL else SHOWN
    tiles = [(issue, _show(paths[issue.image], *_caption(issue))) for issue in issues[:most]]
    pictures = tuple(picture for _, picture in tiles if picture is not None)
    lines = tuple(f"{issue.image}: {issue.message}" for issue, picture in tiles if picture is None)
    return _Section(summary, advice, pictures, (), lines, max(0, len(issues) - most))


def _groups_of(check: str, groups: Sequence[DuplicateGroup]) -> list[DuplicateGroup]:
    if check == LEAK:
        return [group for group in groups if group.leaks]
    if check == CONTRADICTION:
        return [group for group in groups if group.contradicts]
    return [group for group in groups if group.kind == check]


def _show_group(group: DuplicateGroup, paths: Mapping[str, Path]) -> tuple[str, tuple[EmbeddedPicture, ...]]:
    kind = FINDINGS[group.kind].title.lower()
    alike = f", alike {group.likeness:.2f} or more" if group.kind == NEAR else ""
    members = list(zip(group.images, group.labels, group.parts, strict=True))
    first = {member[1:]: member for member in reversed(members)}  # of each label and part: so that they are seen
    members.sort(key=lambda member: first[member[1:]] != member)
    shown = [
        _show(paths[image], f"{label}{f', {part}' if part else ''}\n{Path(image).name}", "plain")
        for image, label, part in members[:SHOWN_OF_A_GROUP]
    ]
    more = f", {len(members) - SHOWN_OF_A_GROUP} more" if len(members) > SHOWN_OF_A_GROUP else ""
    heading = f"Group {group.number}: {kind}, {len(members)} photographs{alike}{more}"
    return heading, tuple(picture for picture in shown if picture is not None)


def _caption(issue: Issue) -> tuple[str, str]:
    if issue.issue_type == WRONG_LABEL:
        rather = f"suggested: {issue.suggested_label} ({issue.suggested_probability:.0%})"
        return f"labeled {issue.label}\n{rather}\nissue score {issue.score:.2f}\n{Path(issue.image).name}", "wrong"
    return f"{issue.message}\n{issue.label}/{Path(issue.image).name}", "plain"


def _show(path: Path, caption: str, tone: str) -> EmbeddedPicture | None:
    try:
        pixels = read_image(path)
    except InvalidImageError:
        return None
    return embed_tile(Tile(resize_image(pixels, within(pixels.shape[0], pixels.shape[1], TILE_PIXELS)), caption, tone))
