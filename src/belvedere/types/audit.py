"""What an audit finds: frozen records, and nothing that works on them."""

from dataclasses import dataclass, field

from belvedere.types.data import Note


@dataclass(frozen=True, slots=True)
class Issue:
    """What one check says of one photograph."""

    image: str  # the path as it was given or found
    check: str  # its name, such as "wrong_label"
    score: float  # 0 to 1; 1: surely wrong
    flagged: bool  # whether a person should look
    detail: str = ""  # what was seen, in words
    label: str | None = None  # the given one
    suggestion: str | None = None  # of a doubtful label: the class it should rather have
    probability: float | None = None  # of the suggestion, by a network that had not seen the photograph
    given_probability: float | None = None  # of the given label, or of all that are given, by the same
    group: int | None = None  # of a duplicate: the number of its group
    sha256: str | None = None  # of the photograph's file; None where it can't be opened


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Photographs that are copies of one another."""

    number: int  # from 1, leaks first, then contradictions
    kind: str  # "same_bytes", "same_pixels" or "near_duplicate"
    images: tuple[str, ...]  # M, sorted
    labels: tuple[str, ...]  # M, of the images
    parts: tuple[str, ...]  # M, "train", "val", "test" or "", where the data set names none
    likeness: float  # of the least alike pair that was compared, 0 to 1
    further: tuple[tuple[str, ...], ...] = ()  # M, further labels that a table gives

    @property
    def all_labels(self) -> tuple[str, ...]:
        """All that each photograph is labelled with, M, as `a|b`, sorted."""
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
    check: str  # "small_class" or "imbalance"
    images: int  # photographs to learn from
    detail: str


@dataclass(frozen=True, slots=True)
class AuditNetwork:
    """The network that labels were doubted by, as a review finds it again."""

    model: str | None  # full path of its file, or its name in the audit's folder; None where it has none of ours
    sha256: str | None  # of that file
    embeddings: str | None  # name of the store in the cache that holds what it saw in the photographs
    width: int | None  # D, of an embedding


@dataclass(frozen=True, slots=True)
class Audit:
    """What is wrong with labelled photographs."""

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
        return len({issue.image for issue in self.issues if issue.flagged})
