"""Describes items, classes and decisions for the templates, which escape all names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from belvedere.data.corrections.corrections_file import ASSESSED, DUPLICATE, LABEL_ISSUE, SPLIT_LEAK
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.items import ReviewItem, is_unchanged
from belvedere.reviewing.neighbors import NeighborIndex
from belvedere.reviewing.queue import Entry, Filter, Queue
from belvedere.types.data import NONE_OF_THESE, Decision


def class_keys(command_keys: str) -> str:
    """Return the keys of classes, in order: digits, and letters that are no key of a command."""
    return "123456789" + "".join(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in command_keys)


COMMAND_KEYS = "hknstuwx"  # heatmap, keep, new class, skip, tag, undo, comment, exclude
ACCEPT_KEY = "Enter"  # of the suggested class, beside its own key
CLASS_KEYS = class_keys(COMMAND_KEYS)
MAX_RECENT = 8  # decisions on the page
MAX_COPIES = 12  # copies on the page
_SEPARATOR = "\x1f"  # of the fields of a filter; occurs in no name


@dataclass(frozen=True)
class ReviewContext:
    """State shared by all pages of a review."""

    title: str
    class_names: tuple[str, ...]
    queue: Queue
    gallery: Gallery
    neighbors: NeighborIndex
    heatmap_classes: frozenset[str]  # classes of the model
    no_heatmap: str  # why there are no heatmaps; empty otherwise
    annotator: str
    corrections: str  # full path of the corrections file


def describe_item(context: ReviewContext, entry: Entry, tab: str, selection: Filter) -> dict[str, object]:
    """Return the values of the template of one item."""
    item = entry.item
    tags = context.queue.resolution_of(entry.sha256).extra_labels
    decision = context.queue.decision_on(entry)
    copies = [
        {
            "number": context.gallery.add(copy.path, copy.sha256),
            "image": copy.image,
            "label": copy.label,
            "split": copy.split,
            "has_other_label": copy.label != item.label,
            "is_available": is_unchanged(copy.path, copy.sha256),
        }
        for copy in item.other_copies[:MAX_COPIES]
    ]
    return {
        "entry": entry,
        "is_available": is_unchanged(item.path, entry.sha256),
        "item": item,
        "number": context.gallery.add(item.path, entry.sha256),
        "question": describe_question(entry),
        "reason": describe_reason(entry),
        "classes": _describe_classes(context, entry, item.extra_labels if tags is None else tags),
        "copies": copies,
        "num_unavailable": sum(not copy["is_available"] for copy in copies),
        "num_copies": _count_other_copies(item),
        "counts": context.queue.count(tab, selection),
        "decided": None if decision is None else describe_decision(decision),
        "decided_by": "" if decision is None else decision.annotator,
        "heatmaps": [name for name in (item.suggested_label, item.label) if name in context.heatmap_classes],
        "context": context,
        "recent": describe_recent(context.queue),
    }


def _describe_classes(context: ReviewContext, entry: Entry, tags: Sequence[str]) -> list[dict[str, object]]:
    """Describe the classes to choose from; those beyond the keys of the keyboard have no shortcut."""
    item = entry.item
    found = context.neighbors.find(entry.sha256, context.queue.corrected_labels(), context.class_names)
    return [
        {
            "name": name,
            "shortcuts": (*CLASS_KEYS[index : index + 1], *([ACCEPT_KEY] if name == item.suggested_label else [])),
            "probability": item.probabilities.get(name),
            "is_label": name == item.label,
            "is_suggested": name == item.suggested_label,
            "is_tagged": name in tags,
            "neighbors": [
                (context.gallery.add(each.path, each.sha256), each.path.name) for each in found.get(name, ())
            ],
        }
        for index, name in enumerate(list_classes(context, item, tags))
    ]


def list_classes(context: ReviewContext, item: ReviewItem, tags: Sequence[str]) -> list[str]:
    """Return the classes to choose from: those of the dataset, new ones, and extra labels that are no class."""
    new = context.queue.new_classes(context.class_names)
    return list(dict.fromkeys((*context.class_names, *new, *item.extra_labels, *tags)))


def _count_other_copies(item: ReviewItem) -> int:
    return len(item.group.copies) - 1 if item.group else 0


def describe_recent(queue: Queue) -> list[dict[str, str]]:
    """Describe the latest active decisions."""
    return [
        {
            "id": each.id,
            "text": describe_decision(each),
            "image": Path(each.image).name,
            "annotator": each.annotator,
            "timestamp": each.timestamp,
        }
        for each in queue.last_decisions(MAX_RECENT)
    ]


def list_filters(queue: Queue) -> list[tuple[str, str, int]]:
    """Return value, text and number of undecided items of each filter: issue types, then the most frequent pairs."""
    titles = {SPLIT_LEAK: "Split leaks", DUPLICATE: "Duplicates", LABEL_ISSUE: "Label issues"}
    counts = queue.count_filters()
    types = [(name, title, counts[Filter(name)]) for name, title in titles.items() if counts[Filter(name)]]
    pairs = [
        (write_filter(pair), f"labeled {pair.label}, suggested {pair.suggested_label}", count)
        for pair, count in counts.most_common()
        if pair.label
    ]
    return types + pairs


def write_filter(selection: Filter) -> str:
    """Encode a filter as a string."""
    return _SEPARATOR.join((selection.issue_type, selection.label, selection.suggested_label))


def read_filter(value: str) -> Filter:
    """Decode the string of `write_filter`."""
    return Filter(*[*value.split(_SEPARATOR), "", "", ""][:3])


def describe_question(entry: Entry) -> str:
    """Return the heading of an item."""
    item = entry.item
    if item.issue_type == LABEL_ISSUE:
        return f"{item.label}, or {item.suggested_label}?" if item.suggested_label else f"Is this {item.label}?"
    if item.issue_type == SPLIT_LEAK:
        return "The same image in two splits"
    return "Copies with different labels" if item.has_conflict else "Copies of one image"


def describe_reason(entry: Entry) -> str:
    """Return one or two sentences on why an item needs review."""
    item = entry.item
    if item.issue_type == LABEL_ISSUE:
        probability = item.probabilities.get(item.suggested_label or "")
        percent = "" if probability is None else f" ({probability:.1%})"
        if item.none_of_these:
            return (
                f"Labeled {item.label}; predicted {NONE_OF_THESE}, most likely class {item.suggested_label}{percent}."
            )
        return f"Labeled {item.label}; predicted {item.suggested_label}{percent}."
    count = _count_other_copies(item)
    copies = f"There {'is 1 other copy' if count == 1 else f'are {count:,} other copies'} of this image."
    if item.issue_type == SPLIT_LEAK:
        return f"{copies} Test scores are too high if a model was trained on one of them: exclude one."
    return f"{copies} Choose the right label, or exclude the surplus ones."


def describe_decision(decision: Decision) -> str:
    """Return a few words on a decision."""
    texts = {
        "keep": f"kept as {decision.old_label}" if decision.issue_type in (LABEL_ISSUE, ASSESSED) else "not changed",
        "relabel": f"{decision.old_label} to {next(iter(decision.to), '')}",
        "tag": f"also {', '.join(decision.to)}" if decision.to else "no extra labels",
        "exclude": "excluded",
        "unsure": "unsure",
        "undo": "undone",
    }
    return texts[decision.action]
