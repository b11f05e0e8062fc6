"""HTTP endpoints of the label page. A label is on disk before the response."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import Field

from belvedere.data.corrections.class_names import check_new_class
from belvedere.data.corrections.corrections_file import utc_now
from belvedere.errors import UsageError
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.labeling.labels import STEP_SEPARATOR, Step
from belvedere.reviewing.labeling.output import plan_trainings, write_table
from belvedere.reviewing.labeling.views import (
    MAX_LABELED,
    LabelContext,
    describe_labeled,
    describe_panel,
    describe_question,
    describe_step,
)
from belvedere.reviewing.page_app import (
    NOT_CACHED,
    Json,
    Name,
    PageRequest,
    Render,
    Tab,
    UndoRequest,
    add_images,
    create_page_app,
    open_renderer,
)
from belvedere.types.data import NONE_OF_THESE, Decision

Row = Annotated[int, Field(ge=0)]


class LabelRequest(PageRequest):
    """A class for images, or none of the classes."""

    rows: list[Row] = Field(min_length=1, max_length=MAX_LABELED)
    label: Name | None  # None: none of these
    is_new: bool = False  # whether the class is new


class TagRequest(PageRequest):
    """Further classes in images."""

    rows: list[Row] = Field(min_length=1, max_length=MAX_LABELED)
    tags: list[Name] = Field(max_length=50)


class SkipRequest(PageRequest):
    """Images to skip; none returns all skipped ones."""

    rows: list[Row] = Field(default_factory=list, max_length=MAX_LABELED)


def create_app(context: LabelContext, guard: RequestGuard) -> FastAPI:
    """Create the application, whose requests a guard checks."""
    app = create_page_app(guard)
    add_images(app, context.gallery)
    _add_questions(app, context)
    _add_views(app, context)
    _add_labels(app, context)
    _add_tab_state(app, context)
    if context.trains:
        _add_end(app)
    return app


def _add_questions(app: FastAPI, context: LabelContext) -> None:
    session, render = context.session, _renderer()

    @app.get("/")
    def start() -> HTMLResponse:
        return render("label.html", {"context": context})

    @app.get("/questions/next")
    def next_question(tab: Tab, grid: bool = False) -> HTMLResponse:
        with session.lock:  # classes and labels of the same time
            found = session.next(tab, grid=grid)
            if found is None:
                return _show_end(context, render, tab, "No image is left.")
            return render("question.html", describe_question(context, *found, tab))

    @app.get("/questions/{row}")
    def question(row: int, tab: Tab, similar: bool = False) -> HTMLResponse:
        _check_rows(context, [row])
        with session.lock:
            found = session.show(tab, row, similar=similar)
            return render("question.html", describe_question(context, *found, tab))


def _add_views(app: FastAPI, context: LabelContext) -> None:
    session, store, render = context.session, context.session.store, _renderer()

    @app.get("/labeled")
    def labeled(tab: Tab, class_name: Annotated[str, Query(max_length=200)]) -> HTMLResponse:
        with session.lock:
            if class_name not in (*store.class_names, NONE_OF_THESE):
                raise UsageError(f"There is no class {class_name}. Reload the page.")
            return render("question.html", describe_labeled(context, class_name, tab))

    @app.get("/panel")
    def panel() -> HTMLResponse:
        with session.lock:
            return render("label_panel.html", describe_panel(context))

    @app.get("/classes/new")
    def check_class(name: str) -> Json:
        return Json({"name": check_new_class(name, store.class_names)}, headers=NOT_CACHED)

    @app.get("/end")
    def end(tab: Tab) -> HTMLResponse:
        heading = "The labels are written." if store.num_labeled() else "There are no labels yet."
        return _show_end(context, render, tab, heading)


def _add_labels(app: FastAPI, context: LabelContext) -> None:
    store = context.session.store

    @app.post("/labels")
    def label(request: LabelRequest) -> dict[str, object]:
        name = request.label
        if name is None:
            return _record(context, request, request.rows, "exclude", ())
        if request.is_new and name not in store.class_names:
            name = check_new_class(name, store.class_names)
        elif name not in store.class_names:
            raise UsageError(f"There is no class {name}. Reload the page.")
        return _record(context, request, request.rows, "relabel", (name,))

    @app.post("/tags")
    def tag(request: TagRequest) -> dict[str, object]:
        if unknown := set(request.tags) - set(store.class_names):
            raise UsageError(f"There is no class {min(unknown)}. Reload the page.")
        return _record(context, request, request.rows, "tag", tuple(request.tags))

    @app.post("/undo")
    def undo(request: UndoRequest) -> dict[str, object]:
        step = context.session.undo(request.step, request.id, request.annotator.strip() or context.annotator)
        row = context.session.pool.row_of(step.decisions[0].sha256)
        message = f"Undone: {describe_step(step)}."
        return {"message": message, "row": row if len(step.decisions) == 1 else None}


def _add_tab_state(app: FastAPI, context: LabelContext) -> None:
    @app.post("/skip")
    def skip(request: SkipRequest) -> dict[str, object]:
        if not request.rows:
            context.session.unskip(request.tab)
            return {"message": "Showing skipped images."}
        _check_rows(context, request.rows)
        context.session.skip(request.tab, request.rows)
        return {"message": "Skipped."}


def _add_end(app: FastAPI) -> None:
    """Let a page end the server, whose caller sets `app.state.end`."""

    @app.post("/end")
    def end(_: PageRequest) -> dict[str, object]:
        app.state.end()
        return {"message": "The training has started: the terminal shows its progress."}


def _renderer() -> Render:
    return open_renderer({"clock": lambda when: when[11:16] or when})


def _show_end(context: LabelContext, render: Render, tab: str, heading: str) -> HTMLResponse:
    """Write the table of labels, and show the commands that train on it."""
    session = context.session
    with session.lock:
        table = write_table(session.store)
        trainings = plan_trainings(session.store, table, context.network_options, context.out)
        values = {
            "heading": heading,
            "table": table,
            "commands": [each.command for each in trainings],
            "num_skipped": session.num_skipped(tab),
            "counts": [(*each, session.recalls.get(each[0])) for each in session.store.counts().items()],
        }
        return render("label_end.html", values | describe_panel(context))


def _check_rows(context: LabelContext, rows: Sequence[int]) -> None:
    if not all(0 <= row < len(context.session.pool.samples) for row in rows):
        raise UsageError("There is no such image. Reload the page.")


def _record(
    context: LabelContext, request: PageRequest, rows: Sequence[int], action: str, to: tuple[str, ...]
) -> dict[str, object]:
    """Record one decision for each of some images, in one step."""
    _check_rows(context, rows)
    pool, now = context.session.pool, utc_now()
    annotator = request.annotator.strip() or context.annotator
    decisions = tuple(
        Decision(
            id=f"{request.id}{STEP_SEPARATOR}{number}",
            timestamp=now,
            annotator=annotator,
            sha256=pool.hashes[row],
            image=pool.samples[row].name,
            action=action,
            to=to,
        )
        for number, row in enumerate(dict.fromkeys(rows))
    )
    context.session.record(decisions)
    return {"message": f"{describe_step(Step(request.id, decisions))}.", "step": request.id}
