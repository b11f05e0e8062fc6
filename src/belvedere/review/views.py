"""What the page says: a doubt, its classes and what was decided, in words for the templates.

Knows the templates and the keys; does not know how the browser asks. Everything that comes from names of files and
classes is escaped by the templates.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from belvedere.review.images import Gallery
from belvedere.review.items import ReviewItem, is_there
from belvedere.review.neighbours import Neighbours
from belvedere.review.queue import Choice, Entry, Queue
from belvedere.types.data import NONE_OF_THESE, Decision

COMMAND_KEYS = "hknstuwx"  # heat-map, keep, new class, skip, tag, undo, why, exclude
ACCEPT_KEY = "Enter"  # beside its own key: of the class that is suggested
CLASS_KEYS = "123456789" + "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in COMMAND_KEYS)
RECENT = 8  # decisions shown
COMPANIONS = 12  # copies shown
_BETWEEN = "\x1f"  # parts of a choice: a character that is in no name


@dataclass(frozen=True, slots=True)
class NeighbourRow:
    """A neighbour as the page shows it."""

    picture: int
    name: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class that can be chosen."""

    name: str
    keys: tuple[str, ...]  # none where there are more classes than keys
    probability: float | None
    is_given: bool
    is_suggested: bool
    is_tagged: bool
    neighbours: tuple[NeighbourRow, ...]


@dataclass(frozen=True, slots=True)
class CompanionRow:
    """A copy as the page shows it."""

    picture: int
    image: str
    label: str
    part: str
    differs: bool
    is_there: bool


@dataclass(frozen=True)
class ReviewContext:
    """What every page of one review shares."""

    title: str
    class_names: tuple[str, ...]
    queue: Queue
    gallery: Gallery
    neighbours: Neighbours
    heatmap_classes: frozenset[str]  # for which the model says where its evidence is
    no_heatmap: str  # why there is none
    who: str
    journal: str  # its full path


def open_templates() -> Environment:
    """Opens the templates."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, clock=_clock, quoted=shlex.quote)
    return environment


def describe_doubt(scene: ReviewContext, entry: Entry, tab: str, choice: Choice) -> dict[str, object]:
    """Everything that the template of one doubt shows."""
    doubt = entry.doubt
    ruling = scene.queue.find_ruling(entry.sha256)
    decided = scene.queue.find_decided(entry)
    companions = _companions(scene, doubt)
    return {
        "entry": entry,
        "is_there": is_there(doubt.path, entry.sha256),
        "doubt": doubt,
        "picture": scene.gallery.add(doubt.path, entry.sha256),
        "question": ask(entry),
        "reason": reason_for(entry),
        "rows": _class_rows(scene, entry, doubt.also if ruling.also is None else ruling.also),
        "companions": companions,
        "gone": sum(not other.is_there for other in companions),
        "others": _count_others(doubt),
        "counts": scene.queue.count(tab, choice),
        "decided": None if decided is None else tell(decided),
        "decided_by": "" if decided is None else decided.who,
        "heat": [name for name in (doubt.suggested, doubt.given) if name in scene.heatmap_classes],
        "scene": scene,
        "recent": describe_recent(scene.queue),
    }


def _class_rows(scene: ReviewContext, entry: Entry, tagged: Sequence[str]) -> list[ClassRow]:
    doubt = entry.doubt
    found = scene.neighbours.find(entry.sha256, scene.queue.corrected_labels(), scene.class_names)
    names = list_classes(scene, doubt, tagged)
    return [
        ClassRow(
            name=name,
            keys=(*CLASS_KEYS[place : place + 1], *([ACCEPT_KEY] if name == doubt.suggested else [])),
            probability=doubt.probabilities.get(name),
            is_given=name == doubt.given,
            is_suggested=name == doubt.suggested,
            is_tagged=name in tagged,
            neighbours=tuple(
                NeighbourRow(scene.gallery.add(each.path, each.sha256), each.path.name) for each in found.get(name, ())
            ),
        )
        for place, name in enumerate(names)
    ]


def list_classes(scene: ReviewContext, doubt: ReviewItem, tagged: Sequence[str]) -> list[str]:
    """The classes that can be chosen for a photograph: also those that people added, and tags that are no class."""
    return list(dict.fromkeys((*scene.class_names, *scene.queue.list_added(scene.class_names), *doubt.also, *tagged)))


def _companions(scene: ReviewContext, doubt: ReviewItem) -> list[CompanionRow]:
    return [
        CompanionRow(
            picture=scene.gallery.add(other.path, other.sha256),
            image=other.image,
            label=other.label,
            part=other.part,
            differs=other.label != doubt.given,
            is_there=is_there(other.path, other.sha256),
        )
        for other in doubt.companions[:COMPANIONS]
    ]


def _count_others(doubt: ReviewItem) -> int:
    return len(doubt.group.copies) - 1 if doubt.group else 0


def describe_recent(queue: Queue) -> list[dict[str, str]]:
    """The last decisions that hold, each with what undoing it needs."""
    return [
        {"id": each.id, "text": tell(each), "image": Path(each.image).name, "who": each.who, "when": each.when}
        for each in queue.last_decisions(RECENT)
    ]


def list_choices(queue: Queue) -> list[tuple[str, str, int]]:
    """What a page can be narrowed to: value, words and how many are left, most first."""
    names = {"leak": "Leaks", "duplicate": "Duplicates", "label": "Labels"}
    counts = queue.count_pairs()
    kinds = [(choice.kind, names[choice.kind], counts[choice]) for choice in counts if not choice.given]
    pairs = [
        (write_choice(choice), f"{choice.given}, perhaps {choice.suggested}", count)
        for choice, count in counts.most_common()
        if choice.given
    ]
    return sorted(kinds, key=lambda each: list(names.values()).index(each[1])) + pairs


def write_choice(choice: Choice) -> str:
    """Writes a choice as the value of an option."""
    return _BETWEEN.join((choice.kind, choice.given, choice.suggested))


def read_choice(value: str) -> Choice:
    """Reads what `write_choice` wrote."""
    kind, given, suggested = [*value.split(_BETWEEN), "", "", ""][:3]
    return Choice(kind, given, suggested)


def ask(entry: Entry) -> str:
    """The question that a doubt puts."""
    doubt = entry.doubt
    if doubt.kind == "label":
        return f"{doubt.given}, or {doubt.suggested}?" if doubt.suggested else f"Is this {doubt.given}?"
    if doubt.kind == "leak":
        return "The same picture in two parts"
    return "Copies with different labels" if doubt.contradicts else "Copies of one picture"


def reason_for(entry: Entry) -> str:
    """Why a photograph is in doubt, in a sentence."""
    doubt = entry.doubt
    if doubt.kind == "label":
        probability = doubt.probabilities.get(doubt.suggested or "")
        sure = "" if probability is None else f", {probability:.1%} sure"
        said = (
            f"{NONE_OF_THESE}, and that {doubt.suggested} is the likeliest class"
            if doubt.none_of_these
            else doubt.suggested
        )
        return f"Its label says {doubt.given}; the model says {said}{sure}."
    copies = _count_others(doubt)
    also = f"There {'is another' if copies == 1 else f'are {copies:,} others'} like it."
    if doubt.kind == "leak":
        return f"{also} A model that has learnt from one is flattered by the other: exclude one."
    return f"{also} Choose the label that is right, or exclude what is too much."


def tell(decision: Decision) -> str:
    """A decision in a few words."""
    words = {
        "keep": f"kept as {decision.given}" if decision.about == "label" else "left as it is",
        "relabel": f"{decision.given} to {next(iter(decision.to), '')}",
        "tag": f"also {', '.join(decision.to)}" if decision.to else "no secondary labels",
        "exclude": "excluded",
        "undo": "undone",
    }
    return words[decision.action]


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _clock(when: str) -> str:
    return when[11:16] or when
