"""Responses of the API as pydantic models: FastAPI makes the OpenAPI document from them.

The routes return JSON without going through these models, which would cost time; a test compares both.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from belvedere.serving.uploads import FIELD, FORM, RAW
from belvedere.types.model import ModelCard
from belvedere.types.prediction import Tag

Fraction = Annotated[float, Field(ge=0, le=1)]


def described(text: str) -> Any:
    """Return a required field with a description."""
    return Field(description=text)


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PredictionResponse(_Response):
    """Prediction of one image."""

    image: str = described("File name as sent.")
    answer: str | None = described("Predicted class, or `none of these`.")
    predicted_label: str | None = described("Most probable class, whatever the answer is.")
    confidence: Fraction | None = described("Probability of the predicted label.")
    probabilities: dict[str, Fraction] | None = described("Probability of each class.")
    tags: list[Tag] = described("Classes in the image; empty for `none of these` and models without tags.")
    tag_probabilities: dict[str, Fraction] | None = described(
        "Probability of each class to be in the image; null for models without tags."
    )
    prediction_set: list[str] = described("Prediction set, most probable class first.")
    none_of_these: bool | None = described("Whether the image is none of the classes (out of distribution).")
    none_of_these_score: Fraction | None = described("Fraction of in-distribution images with a lower OOD score.")
    warnings: list[str] = described("Warnings about the file, such as `first of 12 frames`.")
    error: str | None = described("Why the file could not be read; the other fields are empty then.")
    heatmap: list[list[list[Fraction]]] | None = described(
        "(K, h, w): fraction of each class at each position, in the order of `class_names`; null unless requested, "
        "and for models without heatmaps."
    )


class ModelReference(_Response):
    """Model that made the predictions."""

    name: str = described("File name.")
    sha256: str = described("Hash of the file.")


class PreprocessResponse(_Response):
    """Preprocessing from an image to the input of the model."""

    height: int = described("Pixels.")
    width: int = described("Pixels.")
    resize: Literal["stretch", "crop", "letterbox"] = described(
        "`stretch`, `crop` (center crop) or `letterbox` (padded; heatmaps include the padding)."
    )


class PredictResponse(_Response):
    """Predictions of one request."""

    model: ModelReference
    preprocess: PreprocessResponse
    class_names: list[str] = described("Classes in the order of the model.")
    predictions: list[PredictionResponse] = described("One per image, in the order sent.")


class ModelSummary(ModelReference):
    """A model of the server."""

    served_name: str = described("Name in the paths of the routes and in metrics.")
    reload_error: str | None = described("Why the present model file is not in use; the loaded model stays in use.")


class ModelsResponse(_Response):
    """The models of the server."""

    models: list[ModelSummary] = described("The default model first.")


class ModelResponse(ModelSummary):
    """A model in use."""

    loaded: str = described("Time of loading, UTC.")
    heatmaps: bool = described("Whether the model has heatmaps.")
    limits: dict[str, int] = described("Limits of one request: max_body_bytes, max_files and max_pixels.")
    card: ModelCard = described("Model card: classes, preprocessing, layers, provenance and uncertainty.")


class StatusResponse(_Response):
    """State of the server."""

    status: Literal["ok", "ready"]


class ErrorDetail(_Response):
    """Code and message of an error."""

    code: str = described("For programs, such as `too_many_files`.")
    message: str = described("For people.")


class ErrorResponse(_Response):
    """Every error response."""

    error: ErrorDetail


_FILE = {"type": "string", "format": "binary"}
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "properties": {FIELD: {"type": "array", "items": _FILE, "minItems": 1}},
                "required": [FIELD],
            }
        },
        "image/*": {"schema": _FILE},
        RAW: {"schema": _FILE},
    },
}
ERRORS = {
    400: "The form or a tensor is malformed, or the request has several Host headers.",
    401: "The token is missing or wrong.",
    403: "A page of another origin sent the request.",
    404: "There is no such model.",
    408: "The request was sent too slowly.",
    413: "Too many bytes or files.",
    415: "The content type is not supported.",
    421: "The Host is not a name of this machine, and the server has no token.",
    422: "The image cannot be read, or the form or the query is invalid.",
    500: "A thread of the server ended or is stuck: restart the server.",
    503: "The server is at capacity or shutting down: try again in a moment.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route for FastAPI; every route may respond with 421."""
    return {status: {"model": ErrorResponse, "description": ERRORS[status]} for status in sorted({*statuses, 421})}
