"""Results of an audit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belvedere.types.data import DataWarning
from belvedere.types.result import Result, short_repr, to_plain

AUDIT, ISSUES = "audit.json", "issues.csv"  # files of an audit


@dataclass(frozen=True, slots=True)
class Issue:
    """Result of one check for one image."""

    image: str  # path, as given or found
    issue_type: str  # name of the check, such as "label_issue"
    issue_score: float  # 0 to 1; 1: certainly an issue (cleanlab's scores run the other way)
    is_issue: bool  # whether the score reaches the check's threshold
    message: str = ""
    label: str | None = None
    suggested_label: str | None = None  # of a label issue
    suggested_probability: float | None = None  # out-of-fold probability of the suggested label
    label_probability: float | None = None  # out-of-fold probability of the given label or labels
    group: int | None = None  # number of the duplicate group
    sha256: str | None = None  # of the file; None where it cannot be opened


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that are copies of one another."""

    number: int  # from 1; split leaks first, then conflicting labels
    kind: str  # "duplicate_file", "duplicate_pixels" or "near_duplicate"
    images: tuple[str, ...]  # M, sorted
    labels: tuple[str, ...]  # M
    splits: tuple[str | None, ...]  # M: "train", "val", "test"; None: unassigned
    similarity: float  # of the least similar pair that was compared, 0 to 1
    extra_labels: tuple[tuple[str, ...], ...] = ()  # M

    @property
    def all_labels(self) -> tuple[str, ...]:
        """All labels of each image, M, as `a|b`, sorted."""
        extra_labels = self.extra_labels or ((),) * len(self.labels)
        return tuple("|".join(sorted({label, *extra})) for label, extra in zip(self.labels, extra_labels, strict=True))

    @property
    def is_split_leak(self) -> bool:
        """Whether the images are in more than one split."""
        return len(set(self.splits)) > 1

    @property
    def has_conflicting_labels(self) -> bool:
        """Whether the images have different labels."""
        return len(set(self.all_labels)) > 1


@dataclass(frozen=True, slots=True)
class ClassIssue:
    """An issue of a whole class."""

    name: str
    issue_type: str  # "small_class" or "class_imbalance"
    num_images: int  # training images
    message: str


@dataclass(frozen=True, slots=True)
class AuditNetwork:
    """Network that embedded the images of an audit, for a later review."""

    model: str | None  # full path of a model file, or file name in the audit's folder; None for a timm network
    sha256: str | None  # of that file
    embeddings: str | None  # name of the embeddings in the cache
    embedding_dim: int | None


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """Result of one check for a whole dataset."""

    issue_type: str  # name of the check
    title: str
    num_flagged: int  # images, or classes
    example: str  # the issue with the highest score


@dataclass(frozen=True, slots=True, repr=False)
class Audit(Result):
    """Issues of a labeled dataset. In a notebook, it shows them with their images."""

    data: str  # folder or table, as given
    class_names: tuple[str, ...]
    num_images: int
    issues: tuple[Issue, ...]  # by check, highest score first
    groups: tuple[DuplicateGroup, ...]  # split leaks first, then conflicting labels
    class_issues: tuple[ClassIssue, ...]
    label_issue_method: str  # source of the out-of-fold predictions; empty where labels were not checked
    warnings: tuple[DataWarning, ...]
    total_seconds: float
    corrections: str | None = None  # full path of the corrections that were applied to the labels
    root: str | None = None  # of the dataset
    layout: str = "auto"  # of the dataset
    network: AuditNetwork | None = None  # None where labels were not checked
    checks: tuple[CheckSummary, ...] = ()  # that were run, most important first
    num_images_by_split: Mapping[str, Mapping[str, int]] = field(default_factory=dict, compare=False)  # and by class
    paths: Mapping[str, Path] = field(default_factory=dict, compare=False)  # files of images with another name

    def __repr__(self) -> str:
        return short_repr(self, data=self.data, num_images=self.num_images, num_flagged=self.num_flagged)

    @property
    def num_flagged(self) -> int:
        """Number of images with an issue."""
        return len({issue.image for issue in self.issues if issue.is_issue})

    def to_dict(self) -> dict[str, Any]:
        """Return the audit ready for JSON: the keys of audit.json, and `issues` with the columns of issues.csv."""
        return {
            "data": self.data,
            "corrections": self.corrections,
            "root": self.root,
            "layout": self.layout,
            "class_names": list(self.class_names),
            "num_images": self.num_images,
            "num_flagged": self.num_flagged,
            "checks": {each.issue_type: {"title": each.title, "num_flagged": each.num_flagged} for each in self.checks},
            "num_images_by_split": to_plain(self.num_images_by_split),
            "class_issues": to_plain(self.class_issues),
            "groups": [
                to_plain(group)
                | {"is_split_leak": group.is_split_leak, "has_conflicting_labels": group.has_conflicting_labels}
                for group in self.groups
            ],
            "label_issue_method": self.label_issue_method or None,
            "network": to_plain(self.network),
            "warnings": to_plain(self.warnings),
            "total_seconds": self.total_seconds,
            "issues": to_plain(self.issues),
        }
