"""The routes: what can be asked, and how an answer looks.

Knows addresses and shapes; does not know how pictures are batched, what a request may cost, or how the process ends.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import Receive

import belvedere
from belvedere.errors import InferenceError
from belvedere.inference.writers.text import to_json
from belvedere.runtime.http.errors import Busy, Gone, Refused, code_of, problem
from belvedere.runtime.strict_json import dump_json
from belvedere.runtime.telemetry import FASTAPI_OFF
from belvedere.serving import schema
from belvedere.serving.api_docs import render_manual
from belvedere.serving.batcher import Answered, Batcher
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import CONTENT_TYPE, Metrics
from belvedere.serving.middleware import Gate
from belvedere.serving.model_watch import LoadedModel, ModelWatch
from belvedere.serving.origins import Origins
from belvedere.serving.uploads import read_pictures

STATIC = Path(__file__).with_name("static")
SHARE_DECIMALS = 4
_bearer = HTTPBearer(auto_error=False, description="Needed where the server was started with a token.")


class Service:
    """One model, its batches and figures, and the routes that ask them."""

    def __init__(
        self,
        watch: ModelWatch,
        limits: Limits,
        metrics: Metrics,
        token: str | None = None,
        *,
        only_local: str | None = None,
        origins: Origins | None = None,
    ) -> None:
        """Puts it together; with `only_local`, requests must name this machine, or that name."""
        self.watch = watch
        self.limits = limits
        self.metrics = metrics
        self.batcher = Batcher(limits, metrics)
        self._token = token.encode() if token else None
        self._manual = b""
        self.app = self._build()
        self.gate = Gate(self.app, limits, metrics, only_local=only_local, origins=origins or Origins())

    def _build(self) -> FastAPI:
        app = FastAPI(
            title="Belvedere",
            version=belvedere.__version__,
            description=schema.DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            lifespan=self._live,
            telemetry=FASTAPI_OFF,
        )
        app.add_exception_handler(Refused, _tell_refusal)
        app.add_exception_handler(InferenceError, _tell_inference)
        app.add_exception_handler(Exception, _tell_failure)
        app.add_exception_handler(HTTPException, _tell_http)
        app.add_exception_handler(RequestValidationError, _tell_invalid)
        asked = [Depends(self._check_token)] if self._token else []
        ok, card = schema.answers("Yes.", schema.STATUS, 500), schema.answers("The model.", schema.CARD, 401)
        app.add_api_route(
            "/predict",
            self.predict,
            methods=["POST"],
            summary="Answer for photographs",
            responses=schema.answers("The answers.", schema.ANSWER, 400, 401, 403, 408, 413, 415, 422, 503),
            openapi_extra={"requestBody": schema.BODY},
            dependencies=asked,
        )
        app.add_api_route(
            "/model", self.show_model, summary="What the model says of itself", responses=card, dependencies=asked
        )
        app.add_api_route("/healthz", self.tell_health, summary="Whether the process works", responses=ok)
        ready = schema.answers("Yes.", schema.STATUS, 503)
        app.add_api_route("/readyz", self.tell_ready, summary="Whether to send requests here", responses=ready)
        figures = schema.answers("Figures.", {}, 401)
        figures[200]["content"] = {"text/plain": {"schema": {"type": "string"}}}
        app.add_api_route(
            "/metrics", self.show_metrics, summary="Figures for Prometheus", responses=figures, dependencies=asked
        )
        app.add_api_route("/docs", self.show_manual, include_in_schema=False)
        for address in ("/", "/index.html"):
            app.add_api_route(address, _show_page, include_in_schema=False)
        app.mount("/static", StaticFiles(directory=STATIC))
        return app

    @asynccontextmanager
    async def _live(self, _app: FastAPI) -> AsyncIterator[None]:
        self.batcher.start()
        self.watch.start()
        watching = asyncio.create_task(self.batcher.watch())
        yield
        await asyncio.to_thread(self.watch.stop)
        await asyncio.to_thread(self.batcher.close)
        watching.cancel()

    async def _check_token(
        self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
    ) -> None:
        if given is not None and hmac.compare_digest(given.credentials.encode(), self._token or b""):
            return
        what = "The token is wrong." if given else "This server needs a token."
        raise Refused(
            401, f"{what} Send the header Authorization: Bearer TOKEN.", headers={"WWW-Authenticate": "Bearer"}
        )

    async def predict(
        self,
        request: Request,
        heatmaps: Annotated[bool, Query(description="Whether to say where in a picture each class is.")] = False,
    ) -> Response:
        """Answers for one or many photographs.

        Send a form with one or more files in the field `files` (`file`, `image`, `images` and `files[]` are taken too),
        or one picture's bytes as the body. A file of a form
        that can't be read has its reason in `error`, and the others are answered; a body that is no picture is
        refused with 422.
        """
        if self.batcher.pending >= self.limits.queue:
            raise Busy(f"The queue is full: {self.limits.queue} pictures wait. Try again in a moment.", "queue_full")
        sent = await read_pictures(request, self.limits.files)
        served = self.watch.current
        waiting = self.batcher.submit(served, sent.pictures, heatmaps)
        answers = await self._await_all(waiting, request.receive)
        self.metrics.count_answers(answered.prediction for answered in answers)
        request.scope["exchange"]["pictures"] = len(answers)
        first = answers[0].prediction
        if not sent.is_form and first.error is not None:
            raise Refused(422, f"The picture can't be read: {first.error}.", "unreadable_picture")
        return _json(_describe(served, answers))

    async def _await_all(self, waiting: "Sequence[asyncio.Future[Answered]]", receive: Receive) -> list[Answered]:
        """Returns all answers, if they come in time and their asker waits for them; spares the work otherwise."""
        seconds = self.limits.answer_seconds
        answered, gone = asyncio.ensure_future(asyncio.wait(waiting)), asyncio.ensure_future(_await_end(receive))
        try:
            await asyncio.wait((answered, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answered.cancel()
            gone.cancel()
            for each in waiting:
                each.cancel()
        errors = [each.exception() for each in waiting if not each.cancelled()]  # all taken, so that none is unheard
        for error in filter(None, errors):
            raise error
        if len(errors) == len(waiting):
            return [each.result() for each in waiting]
        if gone.done():
            raise Gone
        raise Busy(f"There was no answer within {seconds:g} s. Try again later.", "too_late")

    async def show_model(self) -> Response:
        """Classes, input, layers and provenance of the model that answers now."""
        served, limits = self.watch.current, self.limits
        return _json(
            {
                "name": served.name,
                "sha256": served.sha256,
                "loaded": served.loaded,
                "reload_error": self.watch.error,
                "heatmaps": served.model.has_activation_maps,
                "limits": {"body_bytes": limits.body_bytes, "files": limits.files, "pixels": limits.pixels},
                "card": asdict(served.model.card),
            }
        )

    async def tell_health(self) -> Response:
        """For a supervisor: whether the process should go on."""
        if not (self.batcher.is_alive and self.watch.is_alive):
            raise Refused(500, "A thread of the server has ended. Start it anew.")
        if stuck := self.batcher.list_stuck():
            raise Refused(500, f"Threads of the server do not come back: {', '.join(stuck)}. Start it anew.", "stuck")
        return _json({"status": "ok"})

    async def tell_ready(self) -> Response:
        """For a load balancer: not while the server ends."""
        if self.gate.is_closing:
            raise Busy("The server is ending.", "ending")
        return _json({"status": "ready"})

    async def show_metrics(self) -> Response:
        """Requests, time, batches, queue, answers by class."""
        return Response(self.metrics.render(), media_type=CONTENT_TYPE)

    async def show_manual(self) -> Response:
        """This API for people to read."""
        self._manual = self._manual or render_manual(self.app.openapi()).encode()
        return Response(self._manual, media_type="text/html")


async def _await_end(receive: Receive) -> None:
    """Waits until the asker hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _show_page() -> Response:
    return Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers={"Cache-Control": "no-cache"})


def _describe(served: LoadedModel, answers: Sequence[Answered]) -> dict[str, Any]:
    size = served.model.card.preprocess
    names = served.model.class_names
    return {
        "model": {"name": served.name, "sha256": served.sha256},
        "input": {"height": size.height, "width": size.width, "resize": size.resize},
        "classes": names,
        "predictions": [
            {
                **to_json(each.prediction, names),
                "heatmap": None if each.shares is None else each.shares.round(SHARE_DECIMALS).tolist(),
            }
            for each in answers
        ],
    }


def _json(content: dict[str, Any]) -> Response:
    # ASCII: a file's name may hold what UTF-8 can't.
    return Response(dump_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})


def _refuse(request: Request, refused: Refused) -> Response:
    request.scope["exchange"]["code"] = refused.code
    content = problem(refused.code, refused.message)
    return Response(content, refused.status, refused.headers, "application/json")


Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _tell_refusal(request: Request, error: Exception) -> Response:
    return _refuse(request, error) if isinstance(error, Refused) else await _tell_failure(request, error)


async def _tell_inference(request: Request, error: Exception) -> Response:
    """The model failed on these images; the path to its file is not exposed."""
    reason = error.reason if isinstance(error, InferenceError) else str(error)
    return _refuse(request, Refused(500, f"The model failed: {reason}.", "model_failed"))


async def _tell_failure(request: Request, _: Exception) -> Response:
    """What went wrong is in the log: the gate writes it there."""
    name = request.scope["exchange"]["id"]
    return _refuse(request, Refused(500, f"Something went wrong here. The log names it under {name}."))


async def _tell_http(request: Request, error: Exception) -> Response:
    """Refusals of the framework's: no such route, no such method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    messages = {
        404: f"There is nothing at {request.url.path[:200]}. See /docs for what there is.",
        405: f"{request.url.path[:200]} does not take {request.method}. See /docs.",
    }
    message = messages.get(status) or str(getattr(error, "detail", "")) or "The request can't be answered."
    headers = dict(getattr(error, "headers", None) or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # which the gate sees to
    return _refuse(request, Refused(status, message, code_of(status), headers))


async def _tell_invalid(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    reasons = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
    return _refuse(request, Refused(422, f"The request is not as expected: {reasons}.", "invalid_request"))
