"""Describes questions, classes, estimates and steps for the templates, which escape all names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from belvedere.reviewing.images import Gallery
from belvedere.reviewing.labeling.estimate import MIN_SAMPLE
from belvedere.reviewing.labeling.labels import Step
from belvedere.reviewing.labeling.order import (
    NO_CLASS,
    RANDOM,
    RARE,
    TYPICAL,
    UNCERTAIN,
    Question,
    find_rare_classes,
)
from belvedere.reviewing.labeling.session import CurvePoint, LabelingSession
from belvedere.reviewing.views import ACCEPT_KEY, class_keys
from belvedere.types.data import NONE_OF_THESE

CLASS_KEYS = class_keys("aglmnstu")  # all, grid, label table, more like this, new class, skip, tag, undo
MAX_RECENT = 8  # steps on the page
MAX_LABELED = 240  # images of a class that are shown, latest first
LOW_RECALL = 0.1  # below the mean, from which a class needs more labels
MIN_PROBABILITY = 0.7  # from which images of a grid are selected at first,
MIN_LABELS, MIN_LABELS_OF_SOME = 24, 96  # with as many labels: of all classes, or if some have less than two
CURVE_WIDTH, CURVE_HEIGHT = 300, 120


@dataclass(frozen=True)
class LabelContext:
    """State shared by all pages of a labeling."""

    session: LabelingSession
    gallery: Gallery
    annotator: str
    network_options: Mapping[str, str] = field(default_factory=dict)  # of `train`, for the network of the embeddings
    out: Path | str | None = None  # folder of the training; None: beside the labels
    trains: bool = False  # whether the labels are trained on at the end

    @property
    def title(self) -> str:
        """The folder."""
        return str(self.session.pool.source)

    @property
    def corrections(self) -> str:
        """Full path of the labels file."""
        return str(self.session.store.corrections_file.path.absolute())


def describe_question(context: LabelContext, question: Question, rows: Sequence[int], tab: str) -> dict[str, object]:
    """Return the values of the template of a question."""
    session = context.session
    suggestion = session.suggest(rows[0])
    suggested = suggestion[0] if suggestion else None
    is_grid = len(rows) > 1
    return {
        "kind": "grid" if is_grid else "single",
        "question": question.row,
        "heading": _heading(question, suggested, is_grid=is_grid),
        "reason": _describe_reason(session, question),
        "tiles": [
            _describe_tile(context, row, is_selected=not is_grid or _is_likely(session, row, question)) for row in rows
        ],
        "classes": _describe_classes(session, rows, None if question.reason == RANDOM and is_grid else suggested),
        "num_skipped": session.num_skipped(tab),
        **describe_panel(context),
    }


def describe_labeled(context: LabelContext, class_name: str, tab: str) -> dict[str, object]:
    """Return the values of the template of the labeled images of a class, or of none."""
    session = context.session
    store = session.store
    wanted = NO_CLASS if class_name == NONE_OF_THESE else store.class_names.index(class_name)
    rows = [row for row, label in enumerate(store.labels.tolist()) if label == wanted]
    return {
        "kind": "labeled",
        "question": None,
        "heading": f"Labeled {class_name}",
        "reason": "Select images to give them another label." if rows else "No image has this label.",
        "tiles": [_describe_tile(context, row, is_selected=False) for row in rows[:MAX_LABELED]],
        "classes": _describe_classes(session, (), None),
        "num_skipped": session.num_skipped(tab),
        **describe_panel(context),
    }


def describe_panel(context: LabelContext) -> dict[str, object]:
    """Return the values of the template of the estimates and steps."""
    session = context.session
    store = session.store
    num_total = len(store.labels)
    num_left = store.num_left()
    return {
        "context": context,
        "num_total": num_total,
        "num_left": num_left,
        "num_labeled": store.num_labeled(),
        "accuracy": session.curve[-1].accuracy if session.curve else None,
        "min_sample": MIN_SAMPLE,
        "curve": draw_curve(session.curve),
        "forecast": session.forecast,
        "wanted": ", ".join(describe_wanted(session)),
        "recent": [_list_step(each) for each in store.steps(MAX_RECENT)],
    }


def describe_wanted(session: LabelingSession) -> list[str]:
    """Return the classes that need more labels, with the reason."""
    store = session.store
    counts, recalls = store.counts(), session.recalls
    rare = [store.class_names[each] for each in find_rare_classes(store.labels, len(store.class_names))]
    few = [name for name in store.class_names if name in rare or not counts[name]]
    found = [f"{name} ({counts[name]} labeled)" for name in few]
    if recalls:
        mean = sum(recalls.values()) / len(recalls)
        low = sorted((recall, name) for name, recall in recalls.items() if recall < mean - LOW_RECALL)
        low = [(recall, name) for recall, name in low if name in counts and name not in few]
        found += [f"{name} ({recall:.0%} of its images recognized)" for recall, name in low]
    return found


def draw_curve(curve: Sequence[CurvePoint]) -> dict[str, str] | None:
    """Return the points of the curve and its interval in an SVG of the size above; None for fewer than two."""
    if len(curve) < 2:
        return None
    low = min(each.accuracy.low for each in curve)
    low = int(low * 10) / 10
    most = curve[-1].num_labels

    def place(num_labels: int, value: float) -> str:
        x = CURVE_WIDTH * num_labels / most
        return f"{x:.1f},{CURVE_HEIGHT * (1 - (value - low) / (1 - low)):.1f}"

    upper = [place(each.num_labels, each.accuracy.high) for each in curve]
    lower = [place(each.num_labels, each.accuracy.low) for each in reversed(curve)]
    line = [place(each.num_labels, each.accuracy.value) for each in curve]
    return {"band": " ".join(upper + lower), "line": " ".join(line), "low": f"{low:.0%}", "most": f"{most:,}"}


def describe_step(step: Step) -> str:
    """Return what a step did, in a few words."""
    first = step.decisions[0]
    what = {"relabel": ", ".join(first.to), "tag": f"also {', '.join(first.to) or 'nothing'}"}.get(
        first.action, NONE_OF_THESE
    )
    number = len(step.decisions)
    return f"{Path(first.image).name}: {what}" if number == 1 else f"{number} images: {what}"


def _is_likely(session: LabelingSession, row: int, question: Question) -> bool:
    """Return whether an image of a grid is selected at first: one key should not label images that only may fit."""
    counts = session.store.counts().values()
    # Images of a class without labels seem to be of another one.
    if question.reason == RANDOM or sum(counts) < (MIN_LABELS if min(counts, default=0) > 1 else MIN_LABELS_OF_SOME):
        return False
    suggestion = session.suggest(row)
    return suggestion is not None and suggestion[1] >= MIN_PROBABILITY


def _heading(question: Question, suggested: str | None, *, is_grid: bool) -> str:
    if is_grid and question.reason == RANDOM:
        return "What are these? Select the images of one class."
    if suggested is None:
        return "What are these?" if is_grid else "What is this?"
    return f"Are these of the class {suggested}?" if is_grid else f"Is this {suggested}?"


def _describe_reason(session: LabelingSession, question: Question) -> str:
    if question.reason == RARE and question.class_name in session.store.class_names:
        return f"Perhaps {question.class_name}, which has few labels."
    return {
        TYPICAL: "Typical of many images.",
        UNCERTAIN: "The present labels leave open what this is.",
        RANDOM: "Chosen at random: these tell how accurate the predictions are.",
    }.get(question.reason, "")


def _describe_tile(context: LabelContext, row: int, *, is_selected: bool) -> dict[str, object]:
    session = context.session
    pool, store = session.pool, session.store
    suggestion = session.suggest(row)
    return {
        "row": row,
        "number": context.gallery.add(pool.samples[row].path, pool.hashes[row]),
        "name": pool.samples[row].name,
        "suggested": None if suggestion is None else suggestion[0],
        "probability": None if suggestion is None else suggestion[1],
        "tags": store.tags.get(row, ()),
        "is_selected": is_selected,
    }


def _describe_classes(session: LabelingSession, rows: Sequence[int], suggested: str | None) -> list[dict[str, object]]:
    counts = session.store.counts()
    probabilities = session.class_probabilities(rows[0]) if len(rows) == 1 else {}
    tags = session.store.tags.get(rows[0], ()) if len(rows) == 1 else ()
    return [
        {
            "name": name,
            "shortcuts": (*CLASS_KEYS[index : index + 1], *([ACCEPT_KEY] if name == suggested else [])),
            "probability": probabilities.get(name),
            "is_suggested": name == suggested,
            "is_tagged": name in tags,
            "num_labeled": counts[name],
        }
        for index, name in enumerate(session.store.class_names)
    ]


def _list_step(step: Step) -> dict[str, str]:
    first = step.decisions[0]
    return {
        "id": step.id,
        "text": describe_step(step),
        "annotator": first.annotator,
        "timestamp": first.timestamp,
    }
