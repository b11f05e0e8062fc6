"""Attributes of images, by which slices are formed: of the pixels that the model received, of the file and its EXIF.

The pixels come from the prediction itself, so that no image is decoded a second time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.errors import InvalidImageError
from belvedere.images.decode import RGB, DecodedImage
from belvedere.images.gray import to_gray
from belvedere.images.header import read_facts
from belvedere.images.inputs import Source, read_inputs
from belvedere.inference.postprocess import ModelOutputs
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess

HOURS_A_SLICE = 6


@dataclass(frozen=True, slots=True)
class ImageAttributes:
    """Attributes of one image; those that are unknown are missing."""

    numbers: dict[str, float]  # by the names in `NUMBERS`
    categories: dict[str, str]  # by the names in `CATEGORIES`
    embedding: NDArray[np.float32] | None = None  # (D,)


@dataclass(frozen=True)
class AttributeReader:
    """Reads the attributes of the images that a model predicts; an observer of `predict_sources`."""

    by_path: dict[Source, ImageAttributes] = field(default_factory=dict)

    def __call__(self, sources: Sequence[Source], images: Sequence[DecodedImage], outputs: ModelOutputs) -> None:
        """Read the attributes of a batch; called in threads."""
        for source, image, embedding in zip(sources, images, outputs.embedding, strict=True):
            self.by_path[source] = read_attributes(source, image.pixels, embedding)

    def of_samples(self, samples: Iterable[Sample], preprocess: Preprocess) -> dict[str, ImageAttributes]:
        """Return the attributes of readable images, by name; those that were predicted from embeddings are read."""
        samples = list(samples)
        missing = [sample for sample in samples if sample.path not in self.by_path]
        for sample, image in zip(missing, read_inputs((each.path for each in missing), preprocess), strict=True):
            if isinstance(image, DecodedImage):
                self.by_path[sample.path] = read_attributes(sample.path, image.pixels)
        return {each.name: self.by_path[each.path] for each in samples if each.path in self.by_path}


def read_attributes(source: Source, pixels: RGB, embedding: NDArray[np.float32] | None = None) -> ImageAttributes:
    """Return the attributes of an image.

    Args:
        source: File of the image; other sources have attributes of their pixels only.
        pixels: (H, W, 3), as the model receives them.
        embedding: (D,), if there is one.
    """
    numbers, categories = _pixel_numbers(pixels), {}
    categories["color"] = "grayscale" if numbers["colorfulness"] < 1 else "color"
    if isinstance(source, Path | str):
        found = _file_attributes(Path(source))
        numbers, categories = numbers | found[0], categories | found[1]
    return ImageAttributes(numbers, categories, embedding)


def _pixel_numbers(pixels: RGB) -> dict[str, float]:
    """Return brightness, contrast, sharpness and colorfulness."""
    gray = to_gray(pixels)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]  # numpy is slow along an axis of three
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return {
        "brightness": float(gray.mean()),
        "contrast": float(gray.std()),
        "sharpness": _laplacian_variance(gray),
        "colorfulness": float(spread.mean()),
    }


def _laplacian_variance(gray: NDArray[np.float32]) -> float:
    """Return the variance of the Laplacian relative to that of the luminance, so that dark images can be sharp."""
    if min(gray.shape) < 3:
        return 0.0
    inner = gray[1:-1, 1:-1]
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * inner
    return float(laplacian.var() / (gray.var() + 1.0))


def _file_attributes(path: Path) -> tuple[dict[str, float], dict[str, str]]:
    try:
        facts, num_bytes = read_facts(path), path.stat().st_size
    except (InvalidImageError, OSError):  # moved since it was predicted
        return {}, {}
    numbers: dict[str, float] = {"file_size": num_bytes / 1000}
    if facts is None:
        return numbers, {}
    numbers["shorter_side"] = min(facts.width, facts.height)
    numbers["aspect_ratio"] = facts.width / facts.height
    categories = {"size": f"{facts.width} x {facts.height}", "format": facts.format}
    if facts.jpeg_quality is not None:
        numbers["jpeg_quality"] = facts.jpeg_quality
    if facts.camera:
        categories["camera"] = facts.camera
    if facts.month is not None:
        categories["month"] = f"{facts.month}"
    if facts.hour is not None:
        first = facts.hour // HOURS_A_SLICE * HOURS_A_SLICE
        categories["hour"] = f"{first}:00 to {first + HOURS_A_SLICE - 1}:59"
    return numbers, categories
