"""HTTP endpoints of the review page.

A decision is on disk before the response. The browser makes the id of a request, so that a repeated one counts once.
"""

import shlex
from pathlib import Path
from threading import Semaphore
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from belvedere.data.corrections.class_names import check_new_class
from belvedere.data.corrections.corrections_file import LABEL_ISSUE, utc_now
from belvedere.errors import InvalidImageError, UsageError
from belvedere.inference.model import Model
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.images import draw_heatmap
from belvedere.reviewing.items import is_unchanged
from belvedere.reviewing.page_app import (
    CACHED,
    NOT_CACHED,
    Id,
    Json,
    Name,
    PageRequest,
    Tab,
    UndoRequest,
    add_images,
    create_page_app,
    open_renderer,
)
from belvedere.reviewing.queue import Entry, Filter
from belvedere.reviewing.views import (
    ReviewContext,
    describe_decision,
    describe_item,
    describe_recent,
    list_classes,
    list_filters,
    read_filter,
)
from belvedere.types.data import Decision

MAX_HEATMAPS = 2  # at the same time
CHANGED = "The image is missing, or changed since it was listed. Nothing was recorded. Skip it, or restore the file."

Selection = Annotated[str, Query(alias="filter")]


class DecisionRequest(PageRequest):
    """A decision on an item."""

    item: Id
    action: Literal["keep", "relabel", "tag", "exclude"]
    to: list[Name] = Field(default_factory=list, max_length=50)
    new: list[Name] = Field(default_factory=list, max_length=50)  # names in `to` that are new classes
    comment: Annotated[str, Field(max_length=500)] = ""


class SkipRequest(PageRequest):
    """An item to skip; None returns all skipped items."""

    item: Id | None = None


def create_app(context: ReviewContext, guard: RequestGuard, model: Model | None) -> FastAPI:
    """Create the application.

    Args:
        context: State of the review.
        guard: Checks every request.
        model: Model for heatmaps.
    """
    app = create_page_app(guard)
    add_images(app, context.gallery)
    _add_pages(app, context)
    _add_heatmaps(app, context, model)
    _add_changes(app, context)
    return app


def _add_pages(app: FastAPI, context: ReviewContext) -> None:
    render = open_renderer({"clock": lambda when: when[11:16] or when, "quoted": shlex.quote})

    def show(entry: Entry | None, tab: str, selection: Filter) -> HTMLResponse:
        if entry is not None:
            return render("item.html", describe_item(context, entry, tab, selection))
        counts, recent = context.queue.count(tab, selection), describe_recent(context.queue)
        return render("end.html", {"context": context, "counts": counts, "recent": recent})

    @app.get("/")
    def start() -> HTMLResponse:
        return render("review.html", {"context": context})

    @app.get("/items/next")
    def next_item(tab: Tab, selection: Selection = "") -> HTMLResponse:
        chosen = read_filter(selection)
        return show(context.queue.next(tab, chosen), tab, chosen)

    @app.get("/items/{item_id}")
    def item(item_id: str, tab: Tab, selection: Selection = "") -> HTMLResponse:
        return show(_known(context, context.queue.show(tab, item_id)), tab, read_filter(selection))

    @app.get("/filters")
    def filters() -> Json:
        return Json([{"value": v, "text": t, "left": n} for v, t, n in list_filters(context.queue)], headers=NOT_CACHED)


def _add_heatmaps(app: FastAPI, context: ReviewContext, model: Model | None) -> None:
    running = Semaphore(MAX_HEATMAPS)

    @app.get("/heatmaps/{number}")
    def heatmap(number: int, class_name: str) -> Response:
        if model is None or class_name not in context.heatmap_classes:
            raise InvalidImageError(f"heatmap of image {number}", context.no_heatmap or f"unknown class {class_name!r}")
        with running:
            content = draw_heatmap(model, context.gallery.read(number), class_name)
        return Response(content, media_type="image/jpeg", headers=CACHED)


def _add_changes(app: FastAPI, context: ReviewContext) -> None:
    queue = context.queue

    @app.post("/decisions")
    def decide(request: DecisionRequest) -> dict[str, object]:
        entry = _known(context, queue.entries.get(request.item))
        if queue.find_decision(request.id) is None and not is_unchanged(entry.item.path, entry.sha256):
            raise UsageError(CHANGED)
        before = queue.decision_on(entry)
        decision = _to_decision(context, entry, request)
        queue.record(request.tab, decision)
        message, previous = f"{Path(entry.item.image).name}: {describe_decision(decision)}.", None
        if before is not None and before.id != request.id:
            previous = f"This replaces a decision of {before.annotator}: {describe_decision(before)}."
        return {"recorded": True, "message": message, "previous": previous}

    @app.get("/classes/new")
    def check_class(name: str) -> Json:
        known = (*context.class_names, *queue.new_classes(context.class_names))
        return Json({"name": check_new_class(name, known)}, headers=NOT_CACHED)

    @app.post("/undo")
    def undo(request: UndoRequest) -> dict[str, object]:
        target = queue.find_decision(request.step)
        if target is None:
            raise UsageError("There is no such decision to undo. Reload the page.")
        decision = Decision(
            *(request.id, utc_now(), request.annotator or context.annotator, target.sha256, target.image, "undo"),
            *(target.old_label, (target.id,)),
            issue_type=target.issue_type,
            size_bytes=target.size_bytes,
            split=target.split,
        )
        queue.record(request.tab, decision)
        entry = queue.find_entry_of(target)
        message = f"Undone: {Path(target.image).name}, {describe_decision(target)}."
        return {"recorded": True, "message": message, "item": entry.id if entry else None}

    @app.post("/skip")
    def skip(request: SkipRequest) -> dict[str, object]:
        if request.item is None:
            queue.unskip(request.tab)
        else:
            queue.skip(request.tab, request.item)
        return {"recorded": False, "message": "Skipped." if request.item else "Showing skipped items."}


def _known(context: ReviewContext, entry: Entry | None) -> Entry:
    if entry is None:
        raise UsageError(f"No such item in {context.title}. Reload the page.")
    return entry


def _to_decision(context: ReviewContext, entry: Entry, request: DecisionRequest) -> Decision:
    """Convert a request; for a label issue, choosing the present label means to keep it."""
    item = entry.item
    known = list_classes(context, item, context.queue.resolution_of(entry.sha256).extra_labels or ())
    for name in set(request.to) - set(known):
        if name not in request.new or check_new_class(name, known) != name:
            raise UsageError(f"There is no class {name}. Reload the page.")
    if request.action == "relabel" and len(request.to) != 1:
        raise UsageError("An image has one label. Add further ones as tags.")
    keeps = request.action == "relabel" and request.to == [item.label] and item.issue_type == LABEL_ISSUE
    return Decision(
        id=request.id,
        timestamp=utc_now(),
        annotator=request.annotator.strip() or context.annotator,
        sha256=entry.sha256,
        image=item.image,
        action="keep" if keeps else request.action,
        old_label=item.label,
        to=tuple(request.to) if request.action in ("relabel", "tag") and not keeps else (),
        comment=request.comment.strip(),
        issue_type=item.issue_type,
        size_bytes=entry.size_bytes,
        split=item.split,
    )
