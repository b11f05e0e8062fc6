"""The routes of the protocol."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.params import Depends

from belvedere.runtime.http.errors import HTTPError
from belvedere.runtime.serialization import dump_json
from belvedere.runtime.version import VERSION
from belvedere.serving.direct_route import DirectRoute
from belvedere.serving.kserve.inputs import INPUTS, InferInput, invalid, read_length
from belvedere.serving.kserve.outputs import choose_outputs, outputs_of, write_tensors
from belvedere.serving.kserve.protocol import HEADER_LENGTH, PREFIX
from belvedere.serving.kserve.reader import RequestReader
from belvedere.serving.kserve.schema import ErrorMessage, InferRequest, InferResponse, ModelMetadata, ServerMetadata
from belvedere.serving.limits import Limits
from belvedere.serving.predictor import Predictor
from belvedere.serving.schema import error_responses
from belvedere.serving.served_models import ModelName, ServedModels
from belvedere.serving.uploads import RAW, check_encoding

MODEL_VERSION = "1"  # of every model: a new file replaces the old one
PLATFORM = "onnxruntime_onnx"
# References inside the schema of the request are relative to the OpenAPI document.
_PLACE = "#/paths/~1v2~1models~1%7Bname%7D~1infer/post/requestBody/content/application~1json/schema/$defs/{model}"
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": InferRequest.model_json_schema(ref_template=_PLACE)},
            RAW: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class KServe:
    """The routes below /v2."""

    def __init__(
        self,
        models: ServedModels,
        predictor: Predictor,
        limits: Limits,
        check_live: Callable[[], None],
        check_ready: Callable[[], None],
    ) -> None:
        """Take over what the routes use.

        Args:
            models: Served models.
            predictor: Predicts the images.
            limits: Limits of requests.
            check_live: Raises HTTPError if the process is not healthy.
            check_ready: Raises HTTPError if the server accepts no requests.
        """
        self._models, self._predictor = models, predictor
        self._check_live, self._check_ready = check_live, check_ready
        self._reader = RequestReader(predictor, limits)

    def add_routes(self, app: FastAPI, protected: list[Depends]) -> None:
        """Add the routes; all but the health of the server depend on `protected`."""

        def add(path: str, endpoint: Callable[..., Any], *errors: int, needs: list[Depends], **options: Any) -> None:
            options |= {"responses": _error_responses(*errors)}
            app.router.add_api_route(PREFIX + path, endpoint, dependencies=needs, **options)
            if "{name}" in path:
                versioned = PREFIX + path.replace("{name}", "{name}/versions/{version}")
                needs = [*needs, Depends(_check_version)]
                app.router.add_api_route(versioned, endpoint, dependencies=needs, include_in_schema=False, **options)

        health: dict[str, Any] = {"response_class": Response}
        add("", self.server, 401, needs=protected, response_model=ServerMetadata)
        add("/health/live", self.live, 400, needs=[], **health)
        add("/health/ready", self.ready, 400, needs=[], **health)
        add("/models/{name}", self.model, 401, 404, needs=protected, response_model=ModelMetadata)
        add("/models/{name}/ready", self.model_ready, 400, 401, 404, needs=protected, **health)
        add(
            "/models/{name}/infer",
            self.infer,
            *(400, 401, 403, 404, 408, 413, 415, 503),
            needs=protected,
            route_class_override=DirectRoute,
            methods=["POST"],
            response_model=InferResponse,
            openapi_extra=REQUEST_BODY,
        )

    async def server(self) -> Response:
        """Describe the server, as the Open Inference Protocol (KServe V2) has it, like all paths below /v2."""
        return _json({"name": "belvedere", "version": VERSION, "extensions": ["binary_tensor_data"]})

    async def live(self) -> Response:
        """Return whether the process is healthy: status 200 with an empty body, or 400."""
        return _health(self._check_live)

    async def ready(self) -> Response:
        """Return whether the server accepts requests: status 200 with an empty body, or 400."""
        return _health(self._check_ready)

    async def model_ready(self, name: ModelName) -> Response:
        """Return whether a model accepts requests: status 200 with an empty body, or 400."""
        self._models.find(name)
        return _health(self._check_ready)

    async def model(self, name: ModelName) -> Response:
        """Describe the tensors of a model. A request holds one of the inputs."""
        outputs = outputs_of(self._models.find(name).current).values()
        return _json(
            {
                "name": name,
                "versions": [MODEL_VERSION],
                "platform": PLATFORM,
                "inputs": [each.model_dump() for each in INPUTS],
                "outputs": [each.metadata.model_dump() for each in outputs],
            }
        )

    async def infer(self, name: ModelName, request: Request) -> Response:
        """Predict images.

        Send the bytes of files in the input `encoded_images` (BYTES), or RGB pixels of images of one size in `images`
        (UINT8): in the JSON, files as Base64, or as binary data behind it. If an image cannot be read, the request is
        rejected.
        """
        loaded = self._models.find(name).current
        self._predictor.check_queue()
        check_encoding(request)
        infer_input = await self._read(request)
        known = outputs_of(loaded)
        chosen = choose_outputs(infer_input.request, known)
        named = [(f"image {index}", content) for index, content in enumerate(infer_input.images)]
        results = await self._predictor.predict(loaded, named, request)
        predictions = [result.prediction for result in results]
        for each in predictions:
            if each.error is not None:
                raise invalid(f"{each.image.capitalize()} cannot be read: {each.error}.", "invalid_image")
        tensors, binary = write_tensors(chosen, predictions)
        document: dict[str, Any] = {"model_name": name, "model_version": MODEL_VERSION, "outputs": tensors}
        if infer_input.request.id is not None:
            document["id"] = infer_input.request.id
        return _json(document, binary)

    async def _read(self, request: Request) -> InferInput:
        body = b"".join([chunk async for chunk in request.stream()])
        return await self._reader.read(body, read_length(request.headers.get(HEADER_LENGTH), len(body)))


async def _check_version(name: ModelName, version: str) -> None:
    if version != MODEL_VERSION:
        raise HTTPError(
            404, f"Model {name[:100]!r} has no version {version[:100]!r}. Use {MODEL_VERSION}.", "unknown_model"
        )


def _health(check: Callable[[], None]) -> Response:
    try:
        check()
    except HTTPError as error:  # the protocol has statuses from 400 to 499 for it
        raise HTTPError(400, error.message, error.code) from None
    return Response()


def _json(document: dict[str, Any], binary: bytes = b"") -> Response:
    content = dump_json(document).encode()
    headers = {"Cache-Control": "no-store"}
    if not binary:
        return Response(content, media_type="application/json", headers=headers)
    headers[HEADER_LENGTH] = str(len(content))
    return Response(content + binary, media_type=RAW, headers=headers)


def _error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: each | {"model": ErrorMessage} for status, each in error_responses(*statuses).items()}
