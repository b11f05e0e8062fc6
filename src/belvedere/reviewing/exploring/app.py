"""HTTP endpoints of the map."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import Annotated

import numpy as np
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from belvedere.errors import InvalidImageError, UsageError
from belvedere.images.decode import read_input
from belvedere.inference.embeddings import Embedder
from belvedere.reviewing.auth import RequestGuard
from belvedere.reviewing.exploring.pairs import PairFinder
from belvedere.reviewing.exploring.selection import label_command, save_selection
from belvedere.reviewing.exploring.sources import ImageMap
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.page_app import NOT_CACHED, Json, add_images, create_page_app, open_renderer

NUM_NEIGHBORS = 24
MAX_SEARCHES = 2  # examples that are decoded at once


class SearchRequest(BaseModel):
    """An example image."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str  # the file, in Base64


class SelectionRequest(BaseModel):
    """Rows of the map."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rows: Annotated[list[int], Field(min_length=1)]


@dataclass(frozen=True)
class ExploreContext:
    """State of the page."""

    images: ImageMap
    pairs: PairFinder
    gallery: Gallery
    embedder: Embedder
    selected: list[int]  # rows that are shown at first
    label_options: str = ""  # of the command `label`, for the same embeddings


def create_app(context: ExploreContext, guard: RequestGuard) -> FastAPI:
    """Create the application."""
    app, images = create_page_app(guard), context.images
    numbers = [context.gallery.add(each.path, key) for each, key in zip(images.samples, images.hashes, strict=True)]
    add_images(app, context.gallery)
    points = _encode_points(images, context.selected)
    render = open_renderer({})

    @app.get("/")
    def start() -> HTMLResponse:
        return render("explore.html", {"images": images, "num_images": len(images.samples)})

    @app.get("/points")
    def get_points() -> Response:
        return Response(points, media_type="application/json", headers=NOT_CACHED)

    @app.get("/names")
    def names() -> Json:
        paths = [sample.name for sample in images.samples]
        return Json({"names": paths, "numbers": numbers}, headers=NOT_CACHED)

    @app.get("/pairs")
    def pairs() -> Json:
        return Json(context.pairs.describe(), headers=NOT_CACHED)

    _add_searches(app, context)
    _add_selections(app, context)
    return app


def _add_searches(app: FastAPI, context: ExploreContext) -> None:
    images, searches = context.images, Semaphore(MAX_SEARCHES)

    @app.get("/neighbors/{row}")
    def neighbors(row: int) -> Json:
        if not 0 <= row < len(images.samples):
            raise UsageError("There is no such image. Reload the page.")
        return Json({"rows": nearest_rows(images.embeddings, images.embeddings[row])}, headers=NOT_CACHED)

    @app.post("/search")
    def search(request: SearchRequest) -> Json:
        try:
            content = base64.b64decode(request.image, validate=True)
        except ValueError as error:
            raise InvalidImageError("the example", "is not Base64") from error
        with searches:
            vector = embed_example(context.embedder, content)
        return Json({"rows": nearest_rows(images.embeddings, vector)}, headers=NOT_CACHED)


def _add_selections(app: FastAPI, context: ExploreContext) -> None:
    images = context.images

    @app.post("/selections")
    def save(request: SelectionRequest) -> Json:
        rows = sorted(set(request.rows))
        if not 0 <= rows[0] <= rows[-1] < len(images.samples):
            raise UsageError("There is no such image. Reload the page.")
        table = save_selection(images, rows)
        return Json(
            {"table": str(table), "command": label_command(images, table, context.label_options)}, headers=NOT_CACHED
        )


def embed_example(embedder: Embedder, source: bytes | Path) -> NDArray[np.float32]:
    """Return the embedding of an image, (D,).

    Raises:
        InvalidImageError: It cannot be read.
    """
    pixels = read_input(source, embedder.preprocess, draft=True).pixels  # several times faster
    vector: NDArray[np.float32] = embedder.embed(pixels[None])[0]
    return vector


def nearest_rows(embeddings: NDArray[np.float32], vector: NDArray[np.float32]) -> list[int]:
    """Return the rows of embeddings, (N, D) of length 1, with the largest cosine to a vector, (D,)."""
    cosines = embeddings @ vector
    number = min(NUM_NEIGHBORS, len(cosines))
    best = np.argpartition(-cosines, number - 1)[:number]
    return [int(row) for row in best[np.argsort(-cosines[best], kind="stable")]]


def _encode_points(images: ImageMap, selected: list[int]) -> bytes:
    """Return positions and columns as JSON, with arrays in Base64, little-endian."""
    columns = []
    for name, values in images.columns.items():
        kinds, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
        columns.append(
            {"name": name, "values": kinds.tolist(), "counts": counts.tolist(), "codes": _encode(codes.astype("<u4"))}
        )
    content = {
        "count": len(images.samples),
        "positions": _encode(images.positions.astype("<f4")),
        "confidence": None if np.isnan(images.confidence).all() else _encode(images.confidence.astype("<f4")),
        "columns": columns,
        "selected": selected,
    }
    return json.dumps(content).encode()


def _encode(array: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
