"""Data types of datasets, caches and corrections."""

from dataclasses import dataclass
from pathlib import Path

NONE_OF_THESE = "none of these"  # the answer for an image that resembles no class


@dataclass(frozen=True, slots=True)
class Sample:
    """One labeled image of a dataset."""

    path: Path  # path of the file
    name: str  # path as it was given or found, for messages
    label: str  # class; the first label where a table gives several
    split: str | None  # "train", "val" or "test"; None: unassigned
    extra_labels: tuple[str, ...] = ()  # further labels of a table cell (`a|b`)
    area_fractions: tuple[float, ...] = ()  # fraction of the image for each label, if given (`a:0.6|b:0.3`)
    group: str | None = None  # images of one group are never divided between splits


@dataclass(frozen=True, slots=True)
class DataWarning:
    """A problem in the data that does not stop the work."""

    message: str  # one line
    names: tuple[str, ...] = ()  # files concerned


@dataclass(frozen=True, slots=True)
class CacheStats:
    """One array cache: rows of one kind and one configuration; or a download."""

    folder: Path
    kind: str  # "images", "embeddings", "graphs" or "downloads"
    key: str  # configuration, such as "150x150-stretch-1": size, resize rule, decoder version; or the name of a file
    num_images: int
    size_bytes: int
    last_used: float  # last time it was opened for training, in seconds since 1970


@dataclass(frozen=True, slots=True)
class ModelId:
    """Name and hash of a model."""

    name: str  # folder and file name
    sha256: str  # of its file, hexadecimal

    def __str__(self) -> str:
        return f"{self.name}, sha256 {self.short}"

    @property
    def short(self) -> str:
        """The first 12 digits of the hash."""
        return self.sha256[:12]


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of a corrections file: a person's decision on an image. The fields are the keys of the line."""

    id: str  # made by the client, so that a repeated request counts once
    timestamp: str  # UTC, ISO 8601
    annotator: str
    sha256: str  # of the image file, hexadecimal
    image: str  # path of the image at that time
    action: str  # "keep", "relabel", "tag", "exclude", "unsure" or "undo"
    old_label: str | None = None
    to: tuple[str, ...] = ()  # new label, extra labels, or the id of the decision to undo
    comment: str = ""
    issue_type: str = "label_issue"  # or "split_leak", "duplicate" (of any kind) or "assessment" (of a random image)
    size_bytes: int | None = None  # of the file
    split: str | None = None  # of the image at that time; None: unknown or none


@dataclass(frozen=True, slots=True)
class CopyResolution:
    """Whether one of several identical files is excluded."""

    image: str  # path at the time of the decision
    split: str | None  # as in `Decision`
    excluded: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """Result of all active decisions on one image content."""

    label: str | None = None  # None: unchanged
    extra_labels: tuple[str, ...] | None = None  # None: unchanged
    copies: tuple[CopyResolution, ...] = ()  # identical files that were excluded or included again, latest last
