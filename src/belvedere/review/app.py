"""What the browser can ask for, and what it is answered.

Knows requests and their bounds; does not know how a decision is kept or a page is worded. A decision is answered when
it is on disk, and not before. The same request sent twice counts once: the browser makes its id.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Semaphore
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from belvedere.data.corrections.class_names import check_new_class
from belvedere.data.corrections.journal import now
from belvedere.errors import InferenceError, InvalidImageError, UsageError
from belvedere.inference.model import Model
from belvedere.review.auth import LOGIN_PATH, Guard, GuardedGate
from belvedere.review.images import LARGE_PIXELS, SMALL_PIXELS, draw, draw_heatmap
from belvedere.review.items import is_there
from belvedere.review.queue import Choice, Entry
from belvedere.review.views import (
    ReviewContext,
    describe_doubt,
    describe_recent,
    list_choices,
    list_classes,
    open_templates,
    read_choice,
    tell,
)
from belvedere.runtime.http.errors import code_of, problem
from belvedere.runtime.strict_json import dump_json
from belvedere.runtime.telemetry import FASTAPI_OFF
from belvedere.types.data import Decision

STATIC = {
    "belvedere.svg": "image/svg+xml",
    "review.css": "text/css; charset=utf-8",
    "review.js": "text/javascript; charset=utf-8",
}
KEPT = {"Cache-Control": "private, max-age=3600"}  # a number means one content, in other processes too
HEATMAPS_AT_ONCE = 2
GONE = "This photograph is gone, or was changed since it was listed. Nothing was recorded: skip it, or put it back."
FRESH = {"Cache-Control": "no-store"}

Tab = Annotated[str, Query(pattern=r"^[0-9a-f]{8,64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class _Json(JSONResponse):
    """JSON of ASCII: in it even the name of a file that is no UTF-8 can be written."""

    def render(self, content: object) -> bytes:
        return dump_json(content).encode()


class _Message(BaseModel):
    """What a page sends with every change."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Id
    tab: Id
    who: Annotated[str, Field(max_length=60)] = ""


class Said(_Message):
    """A decision."""

    doubt: Id
    action: Literal["keep", "relabel", "tag", "exclude"]
    to: Annotated[list[Name], Field(max_length=50)] = []
    new: Annotated[list[Name], Field(max_length=50)] = []  # those of them that are no classes yet
    why: Annotated[str, Field(max_length=500)] = ""


class Undone(_Message):
    """An undoing."""

    undoes: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{8,64}$")]


class Skipped(_Message):
    """A doubt that is left for later; without one, all that were left come back."""

    doubt: Id | None = None


def create_app(scene: ReviewContext, guard: Guard, model: Model | None) -> FastAPI:
    """Builds the application.

    Args:
        scene: What is reviewed.
        guard: Stands before every answer.
        model: For heat-maps.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, default_response_class=_Json, telemetry=FASTAPI_OFF)
    app.add_middleware(GuardedGate, guard=guard)
    app.get(LOGIN_PATH)(lambda token="": guard.let_in(token))
    _add_errors(app)
    _add_pages(app, scene)
    _add_pictures(app, scene, model)
    _add_changes(app, scene)
    return app


def _add_errors(app: FastAPI) -> None:
    def refuse(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: _tell(status, str(error))

    def refuse_body(_: Request, error: Exception) -> Response:
        where = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        place = ".".join(str(each) for each in where.get("loc", ()))
        return _tell(422, f"{place}: {where.get('msg', 'not understood')}")

    def refuse_http(_: Request, error: Exception) -> Response:
        return _tell(getattr(error, "status_code", 500), str(getattr(error, "detail", error)))

    app.exception_handler(UsageError)(refuse(409))
    app.exception_handler(InvalidImageError)(refuse(404))
    app.exception_handler(InferenceError)(refuse(500))
    app.exception_handler(RequestValidationError)(refuse_body)
    app.exception_handler(HTTPException)(refuse_http)


def _tell(status: int, message: str) -> Response:
    return Response(problem(code_of(status), message), status, FRESH, "application/json")


def _add_pages(app: FastAPI, scene: ReviewContext) -> None:
    templates = open_templates()
    files = {name: (Path(__file__).parent / "static" / name).read_bytes() for name in STATIC}

    @app.get("/")
    def start() -> HTMLResponse:
        return _page(templates.get_template("review.html").render(scene=scene))

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise InvalidImageError(name, "is no part of this page")
        return Response(files[name], media_type=STATIC[name], headers={"Cache-Control": "no-cache"})

    def show(entry: Entry | None, tab: str, choice: Choice) -> HTMLResponse:
        if entry is None:
            counts = scene.queue.count(tab, choice)
            recent = describe_recent(scene.queue)
            text = templates.get_template("end.html").render(scene=scene, counts=counts, recent=recent)
        else:
            text = templates.get_template("doubt.html").render(describe_doubt(scene, entry, tab, choice))
        return _page(text)

    @app.get("/doubts/next")
    def next_doubt(tab: Tab, choice: str = "") -> HTMLResponse:
        wanted = read_choice(choice)
        return show(scene.queue.next(tab, wanted), tab, wanted)

    @app.get("/doubts/{doubt_id}")
    def doubt(doubt_id: str, tab: Tab, choice: str = "") -> HTMLResponse:
        return show(_known(scene, scene.queue.show(tab, doubt_id)), tab, read_choice(choice))

    @app.get("/choices")
    def choices() -> JSONResponse:
        return _Json([{"value": v, "text": t, "left": n} for v, t, n in list_choices(scene.queue)], headers=FRESH)


def _add_pictures(app: FastAPI, scene: ReviewContext, model: Model | None) -> None:
    running = Semaphore(HEATMAPS_AT_ONCE)

    @app.get("/pictures/{number}/{size}")
    def picture(number: int, size: Literal["large", "small"]) -> Response:
        side = LARGE_PIXELS if size == "large" else SMALL_PIXELS
        return Response(draw(scene.gallery.read(number), side), media_type="image/jpeg", headers=KEPT)

    @app.get("/heatmaps/{number}")
    def heatmap(number: int, of: str) -> Response:
        if model is None or of not in scene.heatmap_classes:
            raise InvalidImageError(f"heat-map of picture {number}", scene.no_heatmap or f"{of!r} is no class")
        with running:
            drawn = draw_heatmap(model, scene.gallery.read(number), of)
        return Response(drawn, media_type="image/jpeg", headers=KEPT)


def _add_changes(app: FastAPI, scene: ReviewContext) -> None:
    queue = scene.queue

    @app.post("/decisions")
    def decide(said: Said) -> dict[str, object]:
        entry = _known(scene, queue.entries.get(said.doubt))
        if queue.find_decision(said.id) is None and not is_there(entry.doubt.path, entry.sha256):
            raise UsageError(GONE)
        before = queue.find_decided(entry)
        decision = _to_decision(scene, entry, said)
        queue.record(said.tab, decision)
        return {
            "recorded": True,
            "said": f"{Path(entry.doubt.image).name}: {tell(decision)}.",
            "before": None if before is None or before.id == said.id else f"{before.who} had said: {tell(before)}.",
        }

    @app.get("/classes/new")
    def name_class(name: str) -> JSONResponse:
        known = (*scene.class_names, *queue.list_added(scene.class_names))
        return _Json({"name": check_new_class(name, known)}, headers=FRESH)

    @app.post("/undo")
    def undo(undone: Undone) -> dict[str, object]:
        target = queue.find_decision(undone.undoes)
        if target is None:
            raise UsageError("There is no such decision to undo.")
        decision = Decision(
            *(undone.id, now(), undone.who or scene.who, target.sha256, target.image, "undo"),
            *(target.given, (target.id,)),
            about=target.about,
            size_bytes=target.size_bytes,
            part=target.part,
        )
        queue.record(undone.tab, decision)
        entry = queue.find_entry_of(target)
        said = f"Undone: {Path(target.image).name}, {tell(target)}."
        return {"recorded": True, "said": said, "doubt": entry.id if entry else None}

    @app.post("/skip")
    def skip(skipped: Skipped) -> dict[str, object]:
        if skipped.doubt is None:
            queue.unskip(skipped.tab)
        else:
            queue.skip(skipped.tab, skipped.doubt)
        return {"recorded": False, "said": "Left for later." if skipped.doubt else "Here is what you skipped."}


def _page(text: str) -> HTMLResponse:
    """What is no UTF-8 in the name of a file is shown escaped."""
    return HTMLResponse(text.encode(errors="backslashreplace"), headers=FRESH)


def _known(scene: ReviewContext, entry: Entry | None) -> Entry:
    if entry is None:
        raise UsageError(f"This doubt is not of {scene.title}. Reload the page.")
    return entry


def _to_decision(scene: ReviewContext, entry: Entry, said: Said) -> Decision:
    """The line for the journal; where the label is in doubt, to give a photograph the one it has is to keep it."""
    doubt = entry.doubt
    known = list_classes(scene, doubt, scene.queue.find_ruling(entry.sha256).also or ())
    for name in set(said.to) - set(known):
        if name not in said.new or check_new_class(name, known) != name:
            raise UsageError(f"There is no class {name}.")
    if said.action == "relabel" and len(said.to) != 1:
        raise UsageError("A photograph gets one label; secondary ones are tags.")
    keeps = said.action == "relabel" and said.to == [doubt.given] and doubt.kind == "label"
    return Decision(
        id=said.id,
        when=now(),
        who=said.who.strip() or scene.who,
        sha256=entry.sha256,
        image=doubt.image,
        action="keep" if keeps else said.action,
        given=doubt.given,
        to=tuple(said.to) if said.action in ("relabel", "tag") and not keeps else (),
        why=said.why.strip(),
        about=doubt.kind,
        size_bytes=entry.size_bytes,
        part=doubt.part,
    )
