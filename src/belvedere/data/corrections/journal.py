"""A person's decisions on photographs: an append-only file, one line of JSON a decision, and what they come to.

Knows lines, how several processes add to them at once, and which decision holds; does not know data sets, pages or why
a photograph is in doubt. A line is on disk before `append` returns. A line that can't be read, such as one torn by a
power cut, is left out and named; the others hold. A photograph is meant by the SHA-256 of its file, never by its path
alone: only where one of several identical files is to be left out does the path say which.

    {"id": "...", "when": "...", "who": "Ana", "sha256": "...", "bytes": 9173, "image": "train/sea/1.jpg",
     "action": "relabel", "from": "sea", "to": "glacier", "about": "label", "why": "", "part": "train"}
"""

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath

from filelock import FileLock

from belvedere.errors import UsageError
from belvedere.types.data import CopyResolution, Decision, Note, Resolution

ACTIONS = ("keep", "relabel", "tag", "exclude", "undo")
SUBJECTS = ("label", "duplicate", "leak")
LOCK_SUFFIX = ".lock"  # of the file beside a journal that is held while a line is added
_IN_FILE = {"given": "from", "size_bytes": "bytes"}  # fields whose keys in the file are other words
_FIELDS = {field.name for field in fields(Decision)}
_HEAD_BYTES = 1 << 20  # that are looked at to tell a journal from another file
_FIRST_BYTES = b'{"id": "'  # of a line
_SHA256, _ID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9A-Za-z_-]{8,64}")


@dataclass(frozen=True)
class JournalContents:
    """What a journal holds."""

    decisions: tuple[Decision, ...]  # in their order, each id once
    damaged: tuple[int, ...]  # numbers of the lines that can't be read, from 1


class Journal:
    """A journal that is open for adding, by this process and others at the same time."""

    def __init__(self, path: Path) -> None:
        """Opens a journal; its file is made with the first decision.

        Raises:
            UsageError: It is there and can't be read, or not be added to, or is a file of another kind.
        """
        self.path = path
        self.damaged: list[int] = []  # numbers of lines that can't be read
        self._known: dict[str, Decision] = {}
        self._bytes = self._lines = 0  # of what was read
        if path.exists():
            _check_kind(path)
            with self._locked():
                _end_last_line(path)
        self.read_new()

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions read so far, in their order, those undone among them."""
        return tuple(self._known.values())

    def read_new(self) -> bool:
        """Reads what was added since; says whether there was anything.

        Raises:
            UsageError: The file can't be read.
        """
        content = _read(self.path, self._bytes)
        whole = content[: content.rfind(b"\n") + 1]  # the rest is being written at this moment
        decisions, damaged = _parse_lines(whole.split(b"\n")[:-1], self._lines + 1)
        for decision in decisions:
            self._known.setdefault(decision.id, decision)
        self.damaged += damaged
        self._bytes += len(whole)
        self._lines += whole.count(b"\n")
        return bool(whole)

    def append(self, decision: Decision) -> bool:
        """Adds a decision; it is on disk when this returns.

        Args:
            decision: What was said; where its id is there already, nothing is added.

        Returns:
            Whether it was added.

        Raises:
            UsageError: The file can't be written, or the decision is none that could be read back.
        """
        line = to_line(decision)
        if parse_line(line) != decision:
            raise UsageError(f"A journal can't hold this decision: {line.decode()}")
        with self._locked():
            _end_last_line(self.path)
            self.read_new()
            if decision.id in self._known:
                return False
            _append(self.path, line + b"\n")
            self.read_new()
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(f"{self.path}{LOCK_SUFFIX}"):
                yield
        except OSError as error:
            raise UsageError(
                f"Can't write {self.path}: {error.strerror or error}. Nothing was recorded. Make room, or name another "
                "journal."
            ) from error


def read_corrections(path: Path | str) -> JournalContents:
    """Reads a journal without changing it.

    Raises:
        UsageError: It isn't there, or can't be read.
    """
    if not Path(path).is_file():
        raise UsageError(f"There is no journal {path}. Give the file that belvedere review wrote.")
    return parse_journal(_read(Path(path), 0))


def parse_journal(content: bytes) -> JournalContents:
    """Reads the lines of a journal; what is no decision is named by its line's number and left out."""
    decisions, damaged = _parse_lines(content.split(b"\n"), 1)
    known: dict[str, Decision] = {}
    for decision in decisions:
        known.setdefault(decision.id, decision)
    return JournalContents(tuple(known.values()), tuple(damaged))


def damaged_note(path: Path | str, damaged: Sequence[int]) -> list[Note]:
    """Names the lines of a journal that could not be read."""
    lines = tuple(f"line {number}" for number in damaged)
    return [Note(f"{len(lines)} torn or damaged in the journal {path}: left out", lines)] if lines else []


def to_line(decision: Decision) -> bytes:
    """Writes a decision as one line of ASCII, without its end."""
    values = {_IN_FILE.get(name, name): value for name, value in asdict(decision).items()}
    to = list(decision.to) if decision.action == "tag" else next(iter(decision.to), None)
    return json.dumps(values | {"to": to}).encode()


def parse_line(line: bytes) -> Decision | None:
    """Reads one line; None where it is no decision. Keys that are not known are passed over."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    found = {name: values[key] for name in _FIELDS if (key := _IN_FILE.get(name, name)) in values}
    if not all(isinstance(found.get(name, ""), str) for name in _FIELDS - {"given", "to", "size_bytes"}):
        return None
    if found.get("action") != "tag":
        found["to"] = [] if found.get("to") is None else [found["to"]]
    to = found.get("to")
    if not isinstance(to, list) or not all(isinstance(name, str) and name for name in to):
        return None
    try:
        decision = Decision(**found | {"to": tuple(to)})
    except TypeError:  # a key is missing
        return None
    return decision if _is_valid(decision) else None


def _is_valid(decision: Decision) -> bool:
    """Whether the values of a decision make sense together."""
    known = decision.action in ACTIONS and decision.about in SUBJECTS
    named = _ID.fullmatch(decision.id) and _SHA256.fullmatch(decision.sha256)
    given = decision.given is None or isinstance(decision.given, str)
    sized = decision.size_bytes is None or (type(decision.size_bytes) is int and decision.size_bytes >= 0)
    told = bool(decision.to) or decision.action not in ("relabel", "undo")
    return bool(known and named and given and sized and told)


def now() -> str:
    """Returns the time as a journal holds it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def active_decisions(decisions: Sequence[Decision]) -> list[Decision]:
    """Leaves out what was undone, and the undoing; an undoing can be undone like anything else."""
    undone: set[str] = set()
    living = []
    for decision in reversed(decisions):
        if decision.id in undone:
            continue
        if decision.action == "undo":
            undone.update(decision.to)
        else:
            living.append(decision)
    return living[::-1]


def rule(decisions: Sequence[Decision]) -> dict[str, Resolution]:
    """Works out what holds for each photograph.

    The last word on a label counts, and the last on its secondary labels. "Keep" confirms the label it was said of;
    said of a duplicate or a leak it only takes back that the copy is left out.

    Args:
        decisions: All of them, in their order.

    Returns:
        A ruling for the SHA-256 of each photograph that a living decision is about.
    """
    rulings: dict[str, Resolution] = {}
    for decision in active_decisions(decisions):
        before = rulings.get(decision.sha256, Resolution())
        if decision.action == "tag":
            after = replace(before, also=decision.to)
        else:
            after = replace(before, copies=_rule_on_copies(before.copies, decision))
        if decision.action in ("keep", "relabel"):
            confirmed = decision.given if decision.about == "label" else before.label
            after = replace(after, label=decision.to[0] if decision.action == "relabel" else confirmed)
        rulings[decision.sha256] = after
    return rulings


def find_copy(recorded: str, copies: Sequence[str]) -> int | None:
    """Finds which of several identical files a recorded path means, wherever they were moved.

    Args:
        recorded: The path in the journal.
        copies: Paths of files with that content.

    Returns:
        The place of the one whose path ends most alike; None where there are no copies.
    """
    scores = [common_suffix_length(recorded, copy) for copy in copies]
    return scores.index(max(scores)) if scores else None


def common_suffix_length(one: str, other: str) -> int:
    """Counts the folders and names in which two paths end alike."""
    ours, others = PurePath(one).parts, PurePath(other).parts
    pairs = zip(reversed(ours), reversed(others), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(others)))


def _rule_on_copies(before: tuple[CopyResolution, ...], decision: Decision) -> tuple[CopyResolution, ...]:
    """Adds what a decision says of its copy; which of the files that is, only those that are there can tell."""
    said = CopyResolution(decision.image, decision.part, decision.action == "exclude")
    others = tuple(each for each in before if (each.image, each.part) != (said.image, said.part))
    return (*others, said) if said.excluded or before else ()


def _parse_lines(lines: Iterable[bytes], first: int) -> tuple[list[Decision], list[int]]:
    decisions, damaged = [], []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        if (decision := parse_line(line)) is None:
            damaged.append(number)
        else:
            decisions.append(decision)
    return decisions, damaged


def _read(path: Path, start: int, size_bytes: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size_bytes)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UsageError(f"Can't read the journal {path}: {error.strerror}. Give another.") from error


def _check_kind(path: Path) -> None:
    """Refuse to add to a file of another kind, such as a table of labels; a torn first line is one of ours."""
    if not path.is_file():
        return  # such as a device: writing says so
    head = _read(path, 0, _HEAD_BYTES)
    if head.strip() and not parse_journal(head).decisions and not head.startswith(_FIRST_BYTES):
        raise UsageError(f"{path} is no journal: nothing is added to it. Give another file for the decisions.")


def _end_last_line(path: Path) -> None:
    """Ends a line that was torn, lest the next one is glued to it."""
    if path.exists():
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            last = file.read(1)
        if last not in (b"", b"\n"):
            _append(path, b"\n")


def _append(path: Path, content: bytes) -> None:
    """Adds to a file and waits until the disk has it; where it can't take all, it takes nothing."""
    fresh = not path.exists()
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise
    if fresh and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else the file's name may be lost with the power
        finally:
            os.close(folder)
