"""What the local pages share: requests, errors, static files, templates and images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from belvedere.errors import InferenceError, InvalidImageError, UsageError
from belvedere.evaluation.report.pages import open_templates
from belvedere.reviewing.auth import LOGIN_PATH, AuthMiddleware, RequestGuard
from belvedere.reviewing.images import LARGE_PIXELS, SMALL_PIXELS, Gallery, draw
from belvedere.runtime.environment import FASTAPI_TELEMETRY_OFF
from belvedere.runtime.http.errors import code_of, error_body
from belvedere.runtime.serialization import dump_json
from belvedere.runtime.terminal import escape_surrogates

FOLDER = Path(__file__).parent  # of static files and templates
MEDIA_TYPES = {".svg": "image/svg+xml", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
CACHED = {"Cache-Control": "private, max-age=3600"}  # the number of an image is never reused
NOT_CACHED = {"Cache-Control": "no-store"}

Tab = Annotated[str, Query(pattern=r"^[0-9a-f]{8,64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
Render = Callable[[str, Mapping[str, object]], HTMLResponse]


class Json(JSONResponse):
    """ASCII JSON, which can represent file names that are not UTF-8."""

    def render(self, content: object) -> bytes:
        """Encode the content."""
        return dump_json(content).encode()


class PageRequest(BaseModel):
    """Fields of every change. The browser makes the id, so that a repeated request counts once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Id
    tab: Id
    annotator: Annotated[str, Field(max_length=60)] = ""


class UndoRequest(PageRequest):
    """Request to undo a step: the decisions of one request."""

    step: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{8,64}$")]  # id of the request


def create_page_app(guard: RequestGuard) -> FastAPI:
    """Create an application whose requests a guard checks, with error responses and static files."""
    app = FastAPI(
        docs_url=None, redoc_url=None, openapi_url=None, default_response_class=Json, telemetry=FASTAPI_TELEMETRY_OFF
    )
    app.add_middleware(AuthMiddleware, guard=guard)
    _add_errors(app)
    _add_static(app)

    @app.get(LOGIN_PATH)
    def log_in(request: Request, token: str = "") -> Response:
        return guard.log_in(token, request.headers.get("host", ""))

    return app


def open_renderer(filters: Mapping[str, Callable[..., object]]) -> Render:
    """Return a function that renders a template, with more filters, to a response."""
    templates = open_templates(FOLDER / "templates")
    templates.filters.update(filters)

    def render(template: str, values: Mapping[str, object]) -> HTMLResponse:
        html = templates.get_template(template).render(values)
        return HTMLResponse(escape_surrogates(html), headers=NOT_CACHED)

    return render


def add_images(app: FastAPI, gallery: Gallery) -> None:
    """Serve the images of a gallery."""

    @app.get("/images/{number}/{size}")
    def image(number: int, size: Literal["large", "small"]) -> Response:
        content = draw(gallery.read(number), LARGE_PIXELS if size == "large" else SMALL_PIXELS)
        return Response(content, media_type="image/jpeg", headers=CACHED)


def _add_static(app: FastAPI) -> None:
    files = {path.name: path.read_bytes() for path in (FOLDER / "static").iterdir() if path.suffix in MEDIA_TYPES}

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in files:
            raise InvalidImageError(name, "does not exist")
        media_type = MEDIA_TYPES[Path(name).suffix]
        return Response(files[name], media_type=media_type, headers={"Cache-Control": "no-cache"})


def _add_errors(app: FastAPI) -> None:
    def to_response(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: _error(status, str(error))

    def invalid_body(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        field = ".".join(str(each) for each in first.get("loc", ()))
        return _error(422, f"{field}: {first.get('msg', 'not understood')}")

    def http_error(_: Request, error: Exception) -> Response:
        return _error(getattr(error, "status_code", 500), str(getattr(error, "detail", error)))

    app.exception_handler(UsageError)(to_response(409))
    app.exception_handler(InvalidImageError)(to_response(404))
    app.exception_handler(InferenceError)(to_response(500))
    app.exception_handler(RequestValidationError)(invalid_body)
    app.exception_handler(HTTPException)(http_error)


def _error(status: int, message: str) -> Response:
    return Response(error_body(code_of(status), message), status, NOT_CACHED, "application/json")
