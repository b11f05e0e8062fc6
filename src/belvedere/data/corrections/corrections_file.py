"""Corrections files: decisions of a review, appended as one line of JSON each, and their results.

Several processes may append at once. A line is on disk before `append` returns. Unreadable lines, such as one truncated
by a power failure, are skipped and reported. Images are identified by the SHA-256 of their file; the path only tells
identical files apart.

    {"id": "...", "timestamp": "...", "annotator": "Ana", "sha256": "...", "size_bytes": 9173,
     "image": "train/sea/1.jpg", "action": "relabel", "old_label": "sea", "to": "glacier", "issue_type": "label_issue",
     "comment": "", "split": "train"}
"""

import errno
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path, PurePath

from filelock import FileLock

from belvedere.errors import UsageError
from belvedere.runtime.operating_system import sync_folder
from belvedere.runtime.terminal import count, describe_error
from belvedere.types.data import CopyResolution, DataWarning, Decision, Resolution

ACTIONS = ("keep", "relabel", "tag", "exclude", "unsure", "undo")
ISSUE_TYPES = (LABEL_ISSUE, DUPLICATE, SPLIT_LEAK, ASSESSED) = "label_issue", "duplicate", "split_leak", "assessment"
LOCK_SUFFIX = ".lock"  # of the lock file beside a corrections file
_FIELDS = {field.name for field in fields(Decision)}
_OPTIONAL_TEXTS = {"old_label", "split"}
_HEAD_BYTES = 1 << 20  # read to recognize a corrections file
_LINE_START = b'{"id": "'
_SHA256, _ID = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9A-Za-z_-]{8,64}")


@dataclass(frozen=True)
class Corrections:
    """Contents of a corrections file."""

    decisions: tuple[Decision, ...]  # in file order, each id once
    damaged: tuple[int, ...]  # numbers of the unreadable lines, from 1


class CorrectionsFile:
    """A corrections file open for appending, by several processes at once."""

    def __init__(self, path: Path) -> None:
        """Open a corrections file; the first decision creates it.

        Raises:
            UsageError: It cannot be read or appended to, or is another kind of file.
        """
        self.path = path
        self.damaged: list[int] = []  # numbers of the unreadable lines
        self._decisions: dict[str, Decision] = {}
        self._bytes = self._lines = 0  # read so far
        if path.exists():
            _check_kind(path)
            with self._locked():
                _end_last_line(path)
        self.read_new()

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions read so far, in file order, including undone ones."""
        return tuple(self._decisions.values())

    def read_new(self) -> bool:
        """Read lines added since the last call; return whether there were any.

        Raises:
            UsageError: The file cannot be read.
        """
        content = _read(self.path, self._bytes)
        complete = content[: content.rfind(b"\n") + 1]  # the last line may still be written
        added = parse_corrections(complete, self._lines + 1)
        for decision in added.decisions:
            self._decisions.setdefault(decision.id, decision)
        self.damaged += added.damaged
        self._bytes += len(complete)
        self._lines += complete.count(b"\n")
        return bool(complete)

    def append(self, decision: Decision) -> bool:
        """Append a decision, which is on disk when this returns; return False if its id is already in the file.

        Raises:
            UsageError: The file cannot be written, or the decision is invalid.
        """
        return self.append_all([decision])

    def append_all(self, decisions: Sequence[Decision]) -> bool:
        """Append decisions, all or none, as `append`; return False if all ids are already in the file.

        Raises:
            UsageError: The file cannot be written, or a decision is invalid.
        """
        lines = {decision.id: to_line(decision) for decision in decisions}
        for decision in decisions:
            if parse_line(line := lines[decision.id]) != decision:
                text = line.decode()
                raise UsageError(f"Invalid decision: {text}. Check its fields, such as `action` and `issue_type`.")
        with self._locked():
            _end_last_line(self.path)
            self.read_new()
            new = [line for key, line in lines.items() if key not in self._decisions]
            if not new:
                return False
            _append(self.path, b"".join(line + b"\n" for line in new))
            self.read_new()
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with FileLock(f"{self.path}{LOCK_SUFFIX}"):
                yield
        except OSError as error:
            raise UsageError(
                f"Cannot write {self.path}: {describe_error(error)}. Nothing was recorded. Free some disk space, or "
                "choose another corrections file."
            ) from error


def read_corrections(path: Path | str) -> Corrections:
    """Read a corrections file without changing it.

    Args:
        path: File that `review` wrote.

    Returns:
        All decisions, undone ones included, and the numbers of damaged lines.

    Raises:
        UsageError: It does not exist, or cannot be read.
    """
    if not Path(path).is_file():
        raise UsageError(f"No such corrections file: {path}. Give the file that a review wrote.")
    return parse_corrections(_read(Path(path), 0))


def parse_corrections(content: bytes, first_number: int = 1) -> Corrections:
    """Parse the lines of a corrections file, numbered from `first_number`."""
    decisions: dict[str, Decision] = {}
    damaged = []
    for number, line in enumerate(content.split(b"\n"), first_number):
        if decision := parse_line(line):
            decisions.setdefault(decision.id, decision)
        elif line.strip():
            damaged.append(number)
    return Corrections(tuple(decisions.values()), tuple(damaged))


def damaged_lines_warning(path: Path | str, damaged: Sequence[int]) -> list[DataWarning]:
    """Report the unreadable lines of a corrections file."""
    lines = tuple(f"line {number}" for number in damaged)
    return [DataWarning(f"{count(len(lines), 'damaged line')} skipped in {path}", lines)] if lines else []


def to_line(decision: Decision) -> bytes:
    """Encode a decision as one line of ASCII, without its end."""
    to = list(decision.to) if decision.action == "tag" else next(iter(decision.to), None)
    return json.dumps(asdict(decision) | {"to": to}).encode()


def parse_line(line: bytes) -> Decision | None:
    """Parse one line, ignoring unknown keys; return None if it is not a valid decision."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    found = {name: values[name] for name in _FIELDS if name in values}
    if not all(isinstance(found.get(name, ""), str) for name in _FIELDS - _OPTIONAL_TEXTS - {"to", "size_bytes"}):
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
    size = decision.size_bytes
    return bool(
        decision.action in ACTIONS
        and decision.issue_type in ISSUE_TYPES
        and _ID.fullmatch(decision.id)
        and _SHA256.fullmatch(decision.sha256)
        and all(isinstance(getattr(decision, name), str | None) for name in _OPTIONAL_TEXTS)
        and (size is None or (type(size) is int and size >= 0))
        and (decision.to or decision.action not in ("relabel", "undo"))
    )


def utc_now() -> str:
    """Return the time as a timestamp for a decision."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def active_decisions(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the decisions that were not undone, without the undo lines; an undo can be undone as well."""
    undone: set[str] = set()
    active = []
    for decision in reversed(decisions):
        if decision.id in undone:
            continue
        if decision.action == "undo":
            undone.update(decision.to)
        else:
            active.append(decision)
    return active[::-1]


def resolve(decisions: Sequence[Decision]) -> dict[str, Resolution]:
    """Resolve decisions, in file order, into one result for each SHA-256 with an active decision.

    The last decision on a label counts, and the last on its extra labels. "Keep" confirms the label if the issue is the
    label; for a duplicate or a leak it only includes the copy again.
    """
    resolutions: dict[str, Resolution] = {}
    for decision in active_decisions(decisions):
        if decision.action == "unsure":
            continue
        before = resolutions.get(decision.sha256, Resolution())
        if decision.action == "tag":
            after = replace(before, extra_labels=decision.to)
        else:
            after = replace(before, copies=_resolve_copies(before.copies, decision))
        if decision.action in ("keep", "relabel"):
            confirmed = decision.old_label if decision.issue_type in (LABEL_ISSUE, ASSESSED) else before.label
            after = replace(after, label=decision.to[0] if decision.action == "relabel" else confirmed)
        resolutions[decision.sha256] = after
    return resolutions


def find_copy(recorded: str, copies: Sequence[str]) -> int | None:
    """Return the index of the copy whose path has the longest common end with a recorded one; None without copies."""
    scores = [common_suffix_length(recorded, copy) for copy in copies]
    return scores.index(max(scores)) if scores else None


def common_suffix_length(one: str, other: str) -> int:
    """Count the path components at the end that two paths share."""
    pairs = zip(reversed(PurePath(one).parts), reversed(PurePath(other).parts), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _resolve_copies(before: tuple[CopyResolution, ...], decision: Decision) -> tuple[CopyResolution, ...]:
    """Record the latest decision on one copy. The file is identified when the corrections are applied."""
    latest = CopyResolution(decision.image, decision.split, decision.action == "exclude")
    others = tuple(each for each in before if (each.image, each.split) != (latest.image, latest.split))
    return (*others, latest) if latest.excluded or before else ()


def _read(path: Path, start: int, size_bytes: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size_bytes)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UsageError(
            f"Cannot read the corrections file {path}: {describe_error(error)}. Choose another file."
        ) from error


def _check_kind(path: Path) -> None:
    """Refuse to append to another kind of file, such as a table; a truncated first line of ours is accepted."""
    if not path.is_file():
        return  # such as a device, which fails on writing
    head = _read(path, 0, _HEAD_BYTES)
    if head.strip() and not parse_corrections(head).decisions and not head.startswith(_LINE_START):
        raise UsageError(f"Not a corrections file: {path}. Choose another file for the decisions.")


def _end_last_line(path: Path) -> None:
    """End a truncated line, so that the next one stays separate."""
    if path.exists():
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            last = file.read(1)
        if last not in (b"", b"\n"):
            _append(path, b"\n")


def _append(path: Path, content: bytes) -> None:
    """Append all of the content or nothing, and wait until it is on disk."""
    is_new = not path.exists()
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
    if is_new:
        sync_folder(path.parent)  # a power failure could otherwise lose the file name
