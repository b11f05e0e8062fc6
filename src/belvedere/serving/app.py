"""The routes of the service."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from belvedere.errors import UsageError
from belvedere.inference.page import STATIC
from belvedere.runtime.environment import FASTAPI_TELEMETRY_OFF
from belvedere.runtime.http.background import NOTEBOOK_ANCESTORS
from belvedere.runtime.http.errors import HTTPError, ServiceUnavailableError
from belvedere.runtime.serialization import dump_json
from belvedere.runtime.version import VERSION
from belvedere.serving import schema
from belvedere.serving.api_docs import render_api_docs
from belvedere.serving.batcher import Batcher, PredictionResult
from belvedere.serving.direct_route import Application, DirectRoute
from belvedere.serving.kserve.routes import KServe
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import CONTENT_TYPE, Metrics
from belvedere.serving.middleware import ServiceMiddleware
from belvedere.serving.model_watch import LoadedModel, ModelWatch
from belvedere.serving.origins import Origins
from belvedere.serving.peers import Peers
from belvedere.serving.predictor import Predictor
from belvedere.serving.recorder import Recorder
from belvedere.serving.served_models import ModelName, ServedModels
from belvedere.serving.uploads import read_upload

HEATMAP_DECIMALS = 4
DESCRIPTION = (
    "Class probabilities, tags, prediction sets and out-of-distribution detection for images. Images are not stored "
    "and not sent to other machines."
)
Heatmaps = Annotated[bool, Query(description="Whether to add heatmaps.")]
_bearer = HTTPBearer(auto_error=False, description="Needed if the server was started with a token.")


class Service:
    """One model, its batcher and metrics, and the application with the routes."""

    def __init__(
        self,
        models: ServedModels,
        limits: Limits,
        metrics: Metrics,
        token: str | None = None,
        threads: int | None = None,
        local_name: str | None = None,
        origins: Origins | None = None,
        root_path: str = "",
        monitor: Path | str | None = None,
        *,
        is_framed: bool = False,
        peers: Peers | None = None,
    ) -> None:
        """Build the application.

        Args:
            models: Served models.
            limits: Limits of requests.
            metrics: Counts requests and predictions.
            token: Bearer token that requests must send; None for an open server.
            threads: See `Batcher`.
            local_name: Name of this server, if requests without a token must address this machine. None accepts every
                host.
            origins: Origins whose pages may send requests, besides the server's own.
            root_path: Path of this server on the proxy before it, such as "/belvedere".
            monitor: Folder for records of the predictions; None: they are not recorded.
            is_framed: Whether notebooks may show the server's page in a frame.
            peers: The processes of this server, if there are several.
        """
        self.models = models
        self._peers = peers
        self.limits = limits
        self.metrics = metrics
        self.batcher = Batcher(limits, metrics, threads)
        self.recorder = None if monitor is None else Recorder(Path(monitor), metrics, limits.max_monitor_bytes)
        self.predictor = Predictor(self.batcher, limits, metrics, self.recorder)
        self._token = token.encode() if token else None
        self._docs = b""
        origins = origins or Origins()
        self.app = self._build()
        self._check_root_path(root_path)
        self.middleware = ServiceMiddleware(
            self.app,
            limits,
            metrics,
            local_name=None if token else local_name,
            origins=origins,
            frame_ancestors=NOTEBOOK_ANCESTORS if is_framed else "'none'",
            root_path=root_path,
        )
        self.asgi = origins.add_cors(self.middleware)

    def _check_root_path(self, path: str) -> None:
        """Check that requests with the root path differ from those without, since a proxy may remove it."""
        routes = [route.path for route in self.app.routes if isinstance(route, Route | Mount)]
        if path and path.split("/")[1] in {route.split("/")[1] for route in routes}:
            raise UsageError(f"`root_path` starts as a route of the server: {path}. Give another one.")

    def _build(self) -> FastAPI:
        app = Application(
            title="Belvedere",
            version=VERSION,
            description=DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            lifespan=self._lifespan,
            telemetry=FASTAPI_TELEMETRY_OFF,
        )
        protected = [Depends(self._check_token)] if self._token else []
        for path, predict, not_found in (
            ("/predict", self.predict, ()),
            ("/models/{name}/predict", self.predict_named, (404,)),
        ):
            app.router.add_api_route(
                path,
                predict,
                route_class_override=DirectRoute,
                methods=["POST"],
                response_model=schema.PredictResponse,
                responses=schema.error_responses(400, 401, 403, *not_found, 408, 413, 415, 422, 503),
                openapi_extra={"requestBody": schema.REQUEST_BODY},
                dependencies=protected,
            )
        for path, route, model, errors, dependencies in (
            ("/model", self.model, schema.ModelResponse, (401,), protected),
            ("/models", self.list_models, schema.ModelsResponse, (401,), protected),
            ("/models/{name}", self.model_named, schema.ModelResponse, (401, 404), protected),
            ("/healthz", self.healthz, schema.StatusResponse, (500,), []),
            ("/readyz", self.readyz, schema.StatusResponse, (503,), []),
            ("/metrics", self.prometheus_metrics, None, (401,), protected),
        ):
            responses = schema.error_responses(*errors)
            if model is None:
                responses[200] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
            app.add_api_route(path, route, response_model=model, responses=responses, dependencies=dependencies)
        KServe(self.models, self.predictor, self.limits, self.check_live, self.check_ready).add_routes(app, protected)
        app.add_api_route("/docs", self.docs, include_in_schema=False)
        for path in ("/", "/index.html"):
            app.add_api_route(path, _index, include_in_schema=False)
        app.mount("/static", StaticFiles(directory=STATIC))
        return app

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        self.batcher.start()
        self.models.start()
        if self.recorder is not None:
            self.recorder.start()
        if self._peers is not None:
            await self._peers.start(self.metrics.render)
        watching = asyncio.create_task(self.batcher.watch())
        yield
        if self._peers is not None:
            self._peers.stop()
        # All requests are finished, so the event loop may wait; at the end of a process no more threads start.
        self.models.stop()
        self.batcher.close()
        if self.recorder is not None:
            self.recorder.stop()
        watching.cancel()

    async def _check_token(
        self, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None
    ) -> None:
        if credentials and hmac.compare_digest(credentials.credentials.encode(), self._token or b""):
            return
        message = "The token is wrong." if credentials else "This server needs a token."
        headers = {"WWW-Authenticate": "Bearer"}
        raise HTTPError(401, f"{message} Send the header Authorization: Bearer TOKEN.", headers=headers)

    async def predict(self, request: Request, heatmaps: Heatmaps = False) -> Response:
        """Predict images with the default model.

        Send a form with one or more files in the field `files` (`file`, `image`, `images` and `files[]` also work),
        or the bytes of one image as the body. An unreadable file of a form gets an `error`, and the other files are
        predicted; an unreadable body is rejected with 422.
        """
        return await self._predict(self.models.default.current, request, heatmaps)

    async def predict_named(self, name: ModelName, request: Request, heatmaps: Heatmaps = False) -> Response:
        """Predict images with one of the models, as `/predict`."""
        return await self._predict(self.models.find(name).current, request, heatmaps)

    async def _predict(self, loaded: LoadedModel, request: Request, heatmaps: bool) -> Response:
        self.predictor.check_queue()
        upload = await read_upload(request, self.limits.max_files)
        results = await self.predictor.predict(loaded, upload.images, request, heatmaps)
        error = results[0].prediction.error
        if not upload.is_form and error is not None:
            raise HTTPError(422, f"The image cannot be read: {error}.", "invalid_image")
        return _json(_predict_response(loaded, results))

    async def model(self) -> Response:
        """Describe the default model."""
        return _json(self._describe(self.models.default))

    async def model_named(self, name: ModelName) -> Response:
        """Describe one of the models."""
        return _json(self._describe(self.models.find(name)))

    async def list_models(self) -> Response:
        """List the models, the default first."""
        watches = ((watch.served_name, watch.current, watch.error) for watch in self.models)
        return _json(
            {
                "models": [
                    {"served_name": name, "name": loaded.name, "sha256": loaded.sha256, "reload_error": error}
                    for name, loaded, error in watches
                ]
            }
        )

    def _describe(self, watch: ModelWatch) -> dict[str, Any]:
        loaded, limits = watch.current, self.limits
        return {
            "served_name": watch.served_name,
            "name": loaded.name,
            "sha256": loaded.sha256,
            "loaded": loaded.loaded,
            "reload_error": watch.error,
            "heatmaps": loaded.model.has_activation_maps,
            "limits": {name: getattr(limits, name) for name in ("max_body_bytes", "max_files", "max_pixels")},
            "card": asdict(loaded.model.card),
        }

    def check_live(self) -> None:
        """Check that the process is healthy.

        Raises:
            HTTPError: It is not.
        """
        if not (self.batcher.is_alive and self.models.is_alive):
            raise HTTPError(500, "A thread of the server has ended. Restart the server.")
        if stuck := self.batcher.describe_stuck():
            raise HTTPError(500, f"Threads of the server are stuck: {', '.join(stuck)}. Restart the server.", "stuck")

    def check_ready(self) -> None:
        """Check that the server accepts requests; all its models were loaded when it started.

        Raises:
            ServiceUnavailableError: It does not.
        """
        if self.middleware.is_closing:
            raise ServiceUnavailableError("The server is shutting down.", "shutting_down")

    async def healthz(self) -> Response:
        """Return whether the process is healthy, for a supervisor."""
        self.check_live()
        return _json({"status": "ok"})

    async def readyz(self) -> Response:
        """Return whether the server accepts requests, for a load balancer."""
        self.check_ready()
        return _json({"status": "ready"})

    async def prometheus_metrics(self) -> Response:
        """Return metrics for Prometheus."""
        content = self.metrics.render() if self._peers is None else await self._peers.collect()
        return Response(content, media_type=CONTENT_TYPE)

    async def docs(self) -> Response:
        """Return the page that describes this API."""
        self._docs = self._docs or render_api_docs(self.app.openapi()).encode()
        return Response(self._docs, media_type="text/html")


async def _index() -> Response:
    return Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers={"Cache-Control": "no-cache"})


def _predict_response(loaded: LoadedModel, results: Sequence[PredictionResult]) -> dict[str, Any]:
    preprocess, names = loaded.model.card.preprocess, loaded.model.class_names
    return {
        "model": {"name": loaded.name, "sha256": loaded.sha256},
        "preprocess": {"height": preprocess.height, "width": preprocess.width, "resize": preprocess.resize},
        "class_names": names,
        "predictions": [
            {
                **each.prediction.to_dict(),
                "heatmap": None if each.heatmap is None else each.heatmap.round(HEATMAP_DECIMALS).tolist(),
            }
            for each in results
        ],
    }


def _json(content: dict[str, Any]) -> Response:
    # ASCII, since a file name may hold characters that UTF-8 cannot encode.
    return Response(dump_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})
