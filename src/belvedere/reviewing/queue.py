"""Assigns items to pages: each page gets the next item that is undecided and not open on another page.

Decisions are in the corrections file. Skipped and open items are only in memory.
"""

import hashlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from belvedere.data.corrections.corrections_file import (
    LABEL_ISSUE,
    SPLIT_LEAK,
    CorrectionsFile,
    active_decisions,
    find_copy,
    resolve,
)
from belvedere.reviewing.items import ReviewItem
from belvedere.types.data import Decision, Resolution

LOCK_SECONDS = 600.0  # during which an item open on one page is not given to another
CLOSING = ("keep", "relabel", "exclude")  # actions that decide an item


@dataclass(frozen=True, slots=True)
class Entry:
    """An item in the queue."""

    id: str  # stable across restarts
    item: ReviewItem
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Selection of items; empty fields select all."""

    issue_type: str = ""
    label: str = ""
    suggested_label: str = ""

    def matches(self, item: ReviewItem) -> bool:
        """Return whether an item is selected."""
        return (
            self.issue_type in ("", item.issue_type)
            and self.label in ("", item.label)
            and self.suggested_label in ("", item.suggested_label or "")
        )


@dataclass
class _Tab:
    """State of an open page."""

    skipped: set[str] = field(default_factory=set)
    entry_id: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class Counts:
    """Number of items."""

    total: int
    left: int
    skipped: int  # of those left, by one page


class Queue:
    """Items in order, with the decisions on them."""

    def __init__(
        self, entries: Sequence[Entry], corrections_file: CorrectionsFile, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self.corrections_file = corrections_file
        self._clock = clock
        self._lock = threading.RLock()
        self._tabs: defaultdict[str, _Tab] = defaultdict(_Tab)
        self._decided: dict[str, Decision] = {}
        self._resolutions: dict[str, Resolution] = {}
        self._by_content: defaultdict[str, list[Entry]] = defaultdict(list)
        self._by_file: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            self._by_content[entry.sha256].append(entry)
            self._by_file[entry.sha256, entry.item.image].append(entry)
        self._rebuild()

    def next(self, tab: str, selection: Filter) -> Entry | None:
        """Return the item of a page: its current one while undecided, else the next free one; None at the end.

        Items open on other pages come last, so that nobody waits.
        """
        with self._lock:
            self._refresh()
            here = self._tabs[tab]
            left = [entry for entry in self._undecided(selection) if entry.id not in here.skipped]
            locked = self._locked_by_others(tab)
            own = [entry for entry in left if entry.id == here.entry_id]
            free = (entry for entry in left if entry.id not in locked)
            entry = next(chain(own, free, left), None)
            self._open(tab, entry.id if entry else "")
            return entry

    def show(self, tab: str, entry_id: str) -> Entry | None:
        """Open a certain item on a page, decided or not."""
        with self._lock:
            self._refresh()
            if entry_id in self.entries:
                self._open(tab, entry_id)
                self._tabs[tab].skipped.discard(entry_id)
            return self.entries.get(entry_id)

    def skip(self, tab: str, entry_id: str) -> None:
        """Skip an item on a page."""
        with self._lock:
            self._tabs[tab].skipped.add(entry_id)
            self._open(tab, "")

    def unskip(self, tab: str) -> None:
        """Return all skipped items to a page."""
        with self._lock:
            self._tabs[tab].skipped.clear()

    def record(self, tab: str, decision: Decision) -> bool:
        """Append a decision, which is on disk when this returns; return whether it is new.

        Raises:
            UsageError: It cannot be written.
        """
        with self._lock:
            is_new = self.corrections_file.append(decision)
            self._rebuild()
            if decision.action in CLOSING:
                self._open(tab, "")
            return is_new

    def decision_on(self, entry: Entry) -> Decision | None:
        """Return the active decision on an item."""
        with self._lock:
            return self._decided.get(entry.id)

    def resolution_of(self, sha256: str) -> Resolution:
        """Return the result of all decisions on an image."""
        with self._lock:
            return self._resolutions.get(sha256, Resolution())

    def corrected_labels(self) -> dict[str, str]:
        """Return the corrected or confirmed labels by hash."""
        with self._lock:
            return {key: each.label for key, each in self._resolutions.items() if each.label is not None}

    def new_classes(self, class_names: Sequence[str]) -> list[str]:
        """Return the classes that decisions added to those of the dataset, in the order of the decisions."""
        with self._lock:
            names = (name for each in active_decisions(self.corrections_file.decisions) for name in each.to)
            return [name for name in dict.fromkeys(names) if name not in class_names]

    def find_decision(self, decision_id: str) -> Decision | None:
        """Return a decision by its id."""
        with self._lock:
            return next((each for each in self.corrections_file.decisions if each.id == decision_id), None)

    def find_entry_of(self, decision: Decision) -> Entry | None:
        """Return the item of a decision."""
        same = sorted(
            self._by_content.get(decision.sha256, []), key=lambda entry: entry.item.split != decision.split
        )  # a file may be in several splits
        matching = [entry for entry in same if entry.item.issue_type == decision.issue_type] or same
        index = find_copy(decision.image, [entry.item.image for entry in matching])
        return None if index is None else matching[index]

    def last_decisions(self, count: int) -> list[Decision]:
        """Return the latest active decisions, newest first."""
        with self._lock:
            return active_decisions(self.corrections_file.decisions)[::-1][:count]

    def count(self, tab: str, selection: Filter) -> Counts:
        """Count the selected items of a page."""
        with self._lock:
            chosen = [entry for entry in self.entries.values() if selection.matches(entry.item)]
            left = [entry for entry in chosen if entry.id not in self._decided]
            skipped = sum(entry.id in self._tabs[tab].skipped for entry in left)
            return Counts(len(chosen), len(left), skipped)

    def count_filters(self) -> Counter[Filter]:
        """Count the undecided items of each issue type, and of each pair of labels."""
        with self._lock:
            counts: Counter[Filter] = Counter()
            for entry in self._undecided(Filter()):
                item = entry.item
                counts[Filter(item.issue_type)] += 1
                if item.issue_type == LABEL_ISSUE:
                    counts[Filter(item.issue_type, item.label, item.suggested_label or "")] += 1
            return counts

    def _undecided(self, selection: Filter) -> list[Entry]:
        entries = self.entries.values()
        return [entry for entry in entries if entry.id not in self._decided and selection.matches(entry.item)]

    def _open(self, tab: str, entry_id: str) -> None:
        self._tabs[tab].entry_id, self._tabs[tab].since = entry_id, self._clock()

    def _locked_by_others(self, tab: str) -> set[str]:
        oldest = self._clock() - LOCK_SECONDS
        return {each.entry_id for name, each in self._tabs.items() if name != tab and each.since >= oldest}

    def _refresh(self) -> None:
        """Read decisions of other processes."""
        if self.corrections_file.read_new():
            self._rebuild()

    def _rebuild(self) -> None:
        self._resolutions = resolve(self.corrections_file.decisions)
        self._decided = {}
        for decision in active_decisions(self.corrections_file.decisions):
            if decision.action in CLOSING:
                self._decided |= {entry.id: decision for entry in self._closed_by(decision)}

    def _closed_by(self, decision: Decision) -> list[Entry]:
        """Return the items that a decision closes: all of an excluded copy, else those of its issue type."""
        same = self._by_content.get(decision.sha256, [])
        if decision.action == "exclude":
            return self._items_of_copy(decision, same)
        closed = {decision.issue_type}
        if decision.action == "relabel":
            closed = (closed | {LABEL_ISSUE}) - {SPLIT_LEAK}  # another label does not resolve a leak
        return [entry for entry in same if entry.item.issue_type in closed]

    def _items_of_copy(self, decision: Decision, same: Sequence[Entry]) -> list[Entry]:
        """Return the items of the copy that a decision excludes: of one file in one split."""
        of_file = self._by_file.get((decision.sha256, decision.image), [])
        if not of_file:  # its path was written otherwise
            images = sorted({entry.item.image for entry in same})
            index = find_copy(decision.image, images)
            of_file = [entry for entry in same if index is not None and entry.item.image == images[index]]
        in_split = [entry for entry in of_file if entry.item.split in (None, decision.split or "train")]
        return in_split if in_split or decision.split else of_file  # the split of either may be unknown


def make_id(item: ReviewItem, sha256: str) -> str:
    """Return an id of an item that stays the same after a restart."""
    content = f"{item.issue_type} {item.split} {sha256} {item.image}".encode(errors="backslashreplace")
    return hashlib.sha256(content).hexdigest()[:16]
