"""What an audit finds: frozen records, and nothing that works on them."""

from dataclasses import dataclass, field

from belvedere.types.data import Note


@dataclass(frozen=True, slots=True)
class Issue:
    """The result of one check for one image."""

    image: str  # path, as given or found
    issue_type: str  # name of the check, such as "label_issue"
    score: float  # 0 to 1; 1: certainly an issue (cleanlab's scores run the other way)
    is_issue: bool  # whether a person should look at it
    message: str = ""  # description
    label: str | None = None  # given label
    suggested_label: str | None = None  # of a label issue
    suggested_probability: float | None = None  # of the suggested label, out of fold
    label_probability: float | None = None  # of the given label or labels, out of fold
    group: int | None = None  # number of its group of duplicates
    sha256: str | None = None  # hash of the file; None where it can't be opened


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Photographs that are copies of one another."""

    number: int  # from 1, leaks first, then contradictions
    kind: str  # "duplicate_file", "duplicate_pixels" or "near_duplicate"
    images: tuple[str, ...]  # M, sorted
    labels: tuple[str, ...]  # M, of the images
    parts: tuple[str, ...]  # M, "train", "val", "test" or "", where the data set names none
    likeness: float  # of the least alike pair that was compared, 0 to 1
    further: tuple[tuple[str, ...], ...] = ()  # M, further labels that a table gives

    @property
    def all_labels(self) -> tuple[str, ...]:
        """All that each photograph is labeled with, M, as `a|b`, sorted."""
        further = self.further or ((),) * len(self.labels)
        return tuple("|".join(sorted({label, *also})) for label, also in zip(self.labels, further, strict=True))

    @property
    def leaks(self) -> bool:
        """Whether it is in more than one part, so that a test would ask what was learnt."""
        return len(set(self.parts)) > 1

    @property
    def contradicts(self) -> bool:
        """Whether its photographs have different labels."""
        return len(set(self.all_labels)) > 1


@dataclass(frozen=True, slots=True)
class ClassIssue:
    """What is wrong with a class as a whole."""

    name: str
    issue_type: str  # "small_class" or "class_imbalance"
    images: int  # photographs to learn from
    message: str


@dataclass(frozen=True, slots=True)
class AuditNetwork:
    """The network that labels were doubted by, as a review finds it again."""

    model: str | None  # full path of its file, or its name in the audit's folder; None where it has none of ours
    sha256: str | None  # of that file
    embeddings: str | None  # name of the store in the cache that holds what it saw in the photographs
    width: int | None  # D, of an embedding


@dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong with labeled photographs."""

    source: str  # the folder or table, as it was given
    class_names: tuple[str, ...]
    images: int  # that were looked at
    issues: tuple[Issue, ...] = field(repr=False)  # check by check, surest first
    groups: tuple[DuplicateGroup, ...]  # leaks first, then contradictions
    classes: tuple[ClassIssue, ...]
    route: str  # how labels were doubted, and why so; empty where they were not
    notes: tuple[Note, ...]
    seconds: float
    labels: str | None = None  # full path of the journal whose labels were audited
    network: AuditNetwork | None = None  # None where labels were not doubted

    @property
    def flagged(self) -> int:
        """How many photographs a person should look at."""
        return len({issue.image for issue in self.issues if issue.is_issue})
