"""What passes between the modules: frozen records, and nothing that works on them.

Knows the shape of every result; does not know where it comes from or how it is shown.
"""

from dataclasses import dataclass
from pathlib import Path

NONE_OF_THESE = "none of these"  # the answer for an image that is unlike every class


@dataclass(frozen=True, slots=True)
class Sample:
    """One labeled photograph of a data set."""

    path: Path  # where the file is
    image: str  # the path as it was given or found, for people to read
    label: str  # its class; where a table gives several, the first
    part: str  # "train", "val" or "test"
    also: tuple[str, ...] = ()  # further classes that a table gives (`a|b`)
    areas: tuple[float, ...] = ()  # share of the picture of each, where the table gives them (`a:0.6|b:0.3`)


@dataclass(frozen=True, slots=True)
class Note:
    """Something the user should know about the photographs, that stops nothing."""

    message: str  # one line
    names: tuple[str, ...] = ()  # the files it is about


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """A store of the cache: rows of one kind, made by one rule."""

    folder: Path
    kind: str  # "pixels", "embeddings" or "weights"
    rule: str  # such as "150x150-stretch-1": size, way of fitting, version of the reading
    images: int
    size_bytes: int
    used: float  # when it was last opened for training, seconds since 1970


@dataclass(frozen=True, slots=True)
class ModelId:
    """Which model predicted."""

    name: str  # of its file and folder
    sha256: str  # of its file, hexadecimal

    def __str__(self) -> str:
        return f"{self.name}, sha256 {self.short}"

    @property
    def short(self) -> str:
        """The beginning of the hash: enough to tell models apart."""
        return self.sha256[:12]


@dataclass(frozen=True, slots=True)
class Decision:
    """One line of a journal: what a person said of a photograph."""

    id: str  # made by whoever decides, so that a line sent twice counts once
    when: str  # UTC, ISO 8601
    who: str
    sha256: str  # of the photograph's file, hexadecimal
    image: str  # its path at that time
    action: str  # "keep", "relabel", "tag", "exclude" or "undo"
    given: str | None = None  # the label it had; `from` in the file
    to: tuple[str, ...] = ()  # the label, the secondary labels, or the id of what is undone
    why: str = ""
    about: str = "label"  # what was in doubt: "label", "duplicate" or "leak"
    size_bytes: int | None = None  # of the file; `bytes` in the file
    part: str = ""  # of the data set that it stood in; empty where that is not known


@dataclass(frozen=True, slots=True)
class CopyResolution:
    """What was last said of one of several identical files: whether it is left out."""

    image: str  # its path at that time
    part: str  # as in `Decision`
    excluded: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """What all living decisions on one photograph's content come to."""

    label: str | None = None  # None: as it was given
    also: tuple[str, ...] | None = None  # secondary labels; None: as they were given
    copies: tuple[CopyResolution, ...] = ()  # those that were left out or taken back, the last word at the end
