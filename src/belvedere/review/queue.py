"""What comes next: each open page gets the next doubt that nobody has decided and nobody else is looking at.

Knows doubts, the journal and who looks at what; does not know pictures or pages. Only the journal is lasting: what is
skipped, and who looks at what, is forgotten when the process ends.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256 as hash_of
from itertools import chain

from belvedere.data.corrections.journal import Journal, active_decisions, find_copy, rule
from belvedere.review.items import ReviewItem
from belvedere.types.data import Decision, Resolution

HELD_SECONDS = 600.0  # for which a page keeps what it shows from others
CLOSING = ("keep", "relabel", "exclude")  # actions after which a doubt is none any more


@dataclass(frozen=True, slots=True)
class Entry:
    """A doubt in the queue."""

    id: str  # the same whenever the same folder is reviewed
    doubt: ReviewItem
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which doubts a page wants; empty: any."""

    kind: str = ""
    given: str = ""
    suggested: str = ""

    def takes(self, doubt: ReviewItem) -> bool:
        """Whether a doubt is among them."""
        return (
            self.kind in ("", doubt.kind)
            and self.given in ("", doubt.given)
            and self.suggested in ("", doubt.suggested or "")
        )


@dataclass
class _Tab:
    """An open page."""

    skipped: set[str] = field(default_factory=set)
    shows: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class Counts:
    """How far it is."""

    all: int
    left: int
    skipped: int  # of those left, by this page


class Queue:
    """The doubts in their order, with what was decided on them."""

    def __init__(self, entries: Sequence[Entry], journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self.journal = journal
        self._clock = clock
        self._lock = threading.RLock()
        self._tabs: defaultdict[str, _Tab] = defaultdict(_Tab)
        self._decided: dict[str, Decision] = {}
        self._rulings: dict[str, Resolution] = {}
        self._by_content: defaultdict[str, list[Entry]] = defaultdict(list)
        self._by_file: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            self._by_content[entry.sha256].append(entry)
            self._by_file[entry.sha256, entry.doubt.image].append(entry)
        self._look_again()

    def next(self, tab: str, choice: Choice) -> Entry | None:
        """Returns what a page shows: what it showed, while undecided, else the next that is free; None at the end.

        What others look at comes only when nothing else is left, so that nobody waits.
        """
        with self._lock:
            self._refresh()
            here = self._tabs[tab]
            left = [entry for entry in self._undecided(choice) if entry.id not in here.skipped]
            held = self._held_by_others(tab)
            own = [entry for entry in left if entry.id == here.shows]
            free = (entry for entry in left if entry.id not in held)
            entry = next(chain(own, free, left), None)
            self._hold(tab, entry.id if entry else "")
            return entry

    def show(self, tab: str, entry_id: str) -> Entry | None:
        """Returns a certain doubt, decided or not, for a page to show."""
        with self._lock:
            self._refresh()
            if entry_id in self.entries:
                self._hold(tab, entry_id)
                self._tabs[tab].skipped.discard(entry_id)
            return self.entries.get(entry_id)

    def skip(self, tab: str, entry_id: str) -> None:
        """Leaves a doubt for later, for this page."""
        with self._lock:
            self._tabs[tab].skipped.add(entry_id)
            self._hold(tab, "")

    def unskip(self, tab: str) -> None:
        """Brings back what this page skipped."""
        with self._lock:
            self._tabs[tab].skipped.clear()

    def record(self, tab: str, decision: Decision) -> bool:
        """Writes a decision down; it is on disk when this returns. Says whether it is new.

        Raises:
            UsageError: It can't be written.
        """
        with self._lock:
            fresh = self.journal.append(decision)
            self._look_again()
            if decision.action in CLOSING:
                self._hold(tab, "")
            return fresh

    def find_decided(self, entry: Entry) -> Decision | None:
        """Returns the decision that holds for a doubt."""
        with self._lock:
            return self._decided.get(entry.id)

    def find_ruling(self, sha256: str) -> Resolution:
        """Returns what holds for a photograph."""
        with self._lock:
            return self._rulings.get(sha256, Resolution())

    def corrected_labels(self) -> dict[str, str]:
        """Returns the labels that people gave or confirmed, by the hash of the photograph."""
        with self._lock:
            return {key: ruling.label for key, ruling in self._rulings.items() if ruling.label is not None}

    def list_added(self, class_names: Sequence[str]) -> list[str]:
        """Returns the classes that people gave and the data set does not have, in the order they came up."""
        with self._lock:
            given = (name for each in active_decisions(self.journal.decisions) for name in each.to)
            return [name for name in dict.fromkeys(given) if name not in class_names]

    def find_decision(self, decision_id: str) -> Decision | None:
        """Returns a decision by its id."""
        with self._lock:
            return next((each for each in self.journal.decisions if each.id == decision_id), None)

    def find_entry_of(self, decision: Decision) -> Entry | None:
        """Returns the doubt that a decision was made on."""
        same = self._by_content.get(decision.sha256, [])
        fitting = [entry for entry in same if entry.doubt.kind == decision.about] or same
        place = find_copy(decision.image, [entry.doubt.image for entry in fitting])
        return None if place is None else fitting[place]

    def last_decisions(self, count: int) -> list[Decision]:
        """Returns the last decisions that hold, the newest first."""
        with self._lock:
            return active_decisions(self.journal.decisions)[::-1][:count]

    def count(self, tab: str, choice: Choice) -> Counts:
        """Says how far a page's choice is."""
        with self._lock:
            chosen = [entry for entry in self.entries.values() if choice.takes(entry.doubt)]
            left = [entry for entry in chosen if entry.id not in self._decided]
            skipped = sum(entry.id in self._tabs[tab].skipped for entry in left)
            return Counts(len(chosen), len(left), skipped)

    def count_pairs(self) -> Counter[Choice]:
        """Counts what is left of each kind, and of each pair of classes."""
        with self._lock:
            counts: Counter[Choice] = Counter()
            for entry in self._undecided(Choice()):
                doubt = entry.doubt
                counts[Choice(doubt.kind)] += 1
                if doubt.kind == "label":
                    counts[Choice(doubt.kind, doubt.given, doubt.suggested or "")] += 1
            return counts

    def _undecided(self, choice: Choice) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.id not in self._decided and choice.takes(entry.doubt)]

    def _hold(self, tab: str, entry_id: str) -> None:
        self._tabs[tab].shows, self._tabs[tab].since = entry_id, self._clock()

    def _held_by_others(self, tab: str) -> set[str]:
        oldest = self._clock() - HELD_SECONDS
        return {each.shows for name, each in self._tabs.items() if name != tab and each.since >= oldest}

    def _refresh(self) -> None:
        """Takes what another process may have written."""
        if self.journal.read_new():
            self._look_again()

    def _look_again(self) -> None:
        """Works out anew what is decided."""
        living = active_decisions(self.journal.decisions)
        self._rulings = rule(self.journal.decisions)
        self._decided = {}
        for decision in living:
            if decision.action in CLOSING:
                for entry in self._closed_by(decision):
                    self._decided[entry.id] = decision

    def _closed_by(self, decision: Decision) -> list[Entry]:
        """The doubts that a decision settles: of a copy that is left out all, else those it was made about."""
        same = self._by_content.get(decision.sha256, [])
        if decision.action == "exclude" and (file := self._by_file.get((decision.sha256, decision.image))):
            return file
        if decision.action == "exclude":  # under another spelling
            images = sorted({entry.doubt.image for entry in same})
            place = find_copy(decision.image, images)
            return [entry for entry in same if place is not None and entry.doubt.image == images[place]]
        about = {decision.about}
        if decision.action == "relabel":
            about = (about | {"label"}) - {"leak"}  # another label does not mend a leak
        return [entry for entry in same if entry.doubt.kind in about]


def make_id(doubt: ReviewItem, sha256: str) -> str:
    """Names a doubt by what it is about, so that a page finds it again after a restart."""
    return hash_of(f"{doubt.kind} {sha256} {doubt.image}".encode(errors="backslashreplace")).hexdigest()[:16]
