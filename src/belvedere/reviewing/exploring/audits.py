"""Reads the issues of an audit for the images of a map."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.reviewing.sources import read_audit, refuse_damaged
from belvedere.types.audit import AUDIT
from belvedere.types.data import Sample

NO_ISSUE = "none"
Key = tuple[str, str]  # SHA-256 and name of a file, by which a moved image is found as well


@dataclass(frozen=True)
class AuditIssues:
    """Flagged images and copies of an audit."""

    issue_types: Mapping[Key, str]  # the most important one of each flagged image
    groups: tuple[tuple[Key, ...], ...]  # images that are copies of one another

    def list_issue_types(self, samples: Sequence[Sample], hashes: Sequence[str]) -> tuple[str, ...]:
        """Return the type of issue of each of N images with their hashes."""
        return tuple(self.issue_types.get(key, NO_ISSUE) for key in _keys(samples, hashes))

    def list_pairs(self, samples: Sequence[Sample], hashes: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return rows of copies: the first of each group with each other one."""
        rows = defaultdict[Key, list[int]](list)
        for row, key in enumerate(_keys(samples, hashes)):
            rows[key].append(row)
        groups = [list(dict.fromkeys(row for key in group for row in rows.get(key, ()))) for group in self.groups]
        return tuple((group[0], other) for group in groups for other in group[1:])


def is_audit(source: Path) -> bool:
    """Return whether a folder is that of an audit."""
    return (source / AUDIT).is_file()


def read_audit_issues(source: Path) -> AuditIssues:
    """Read the issues of an audit.

    Raises:
        UsageError: A file of it is damaged.
    """
    with refuse_damaged(source):
        audit, rows = read_audit(source)
        ranks = {name: rank for rank, name in enumerate(audit["checks"])}  # most important first
        keys = {row["image"]: (row["sha256"], Path(row["image"]).name) for row in rows}
        flagged = [row for row in rows if row["is_issue"] == "true"]
        flagged.sort(key=lambda row: ranks.get(row["issue_type"], len(ranks)), reverse=True)
        groups = tuple(tuple(keys[name] for name in group["images"] if name in keys) for group in audit["groups"])
        return AuditIssues({keys[row["image"]]: row["issue_type"] for row in flagged}, groups)


def _keys(samples: Sequence[Sample], hashes: Sequence[str]) -> list[Key]:
    return [(sha256, sample.path.name) for sample, sha256 in zip(samples, hashes, strict=True)]
