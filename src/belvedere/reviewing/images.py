"""Serves the images of the page by number, re-encoded.

Requests cannot name a path. A file that changed since it was listed is not served, so that every decision concerns the
image on the page.
"""

import hashlib
import secrets
import threading
from functools import partial
from pathlib import Path

from belvedere.errors import InferenceError, InvalidImageError
from belvedere.evaluation.report.heatmap_figures import compute_cam
from belvedere.images.content import read_content
from belvedere.images.decode import RGB, read_image
from belvedere.images.encode import to_jpeg
from belvedere.images.heatmap import overlay
from belvedere.images.resize import shrink
from belvedere.inference.model import Model
from belvedere.inference.session import Cancellation
from belvedere.runtime.parallel import call_with_timeout

LARGE_PIXELS, SMALL_PIXELS = 1400, 200  # longer side of an image on the page
HEATMAP_SECONDS = 60.0  # timeout of one heatmap


class Gallery:
    """Images by number."""

    def __init__(self) -> None:
        self._first = secrets.randbelow(2**48)  # a number is never reused, since browsers cache images
        self._files: list[tuple[Path, str]] = []
        self._numbers: dict[tuple[Path, str], int] = {}
        self._lock = threading.Lock()

    def add(self, path: Path, sha256: str = "") -> int:
        """Add a file and, optionally, the hash it must have; return its number."""
        with self._lock:
            if (path, sha256) not in self._numbers:
                self._numbers[path, sha256] = self._first + len(self._files)
                self._files.append((path, sha256))
            return self._numbers[path, sha256]

    def read(self, number: int) -> RGB:
        """Decode an image, (H, W, 3).

        Raises:
            InvalidImageError: No image has this number, it cannot be read, or its file changed.
        """
        if not self._first <= number < self._first + len(self._files):
            raise InvalidImageError(f"image {number}", "is not in the list")
        path, sha256 = self._files[number - self._first]
        content = read_content(path)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise InvalidImageError(path.name, "changed since this page was started")
        return read_image(content)


def draw(pixels: RGB, max_size: int) -> bytes:
    """Encode an image as a JPEG with sides up to `max_size` pixels."""
    return to_jpeg(shrink(pixels, max_size))


def draw_heatmap(model: Model, pixels: RGB, class_name: str) -> bytes:
    """Encode an image with the heatmap of a class as a JPEG, cropped to the region that the model receives.

    Raises:
        InferenceError: The model fails, or exceeds the timeout.
    """
    cancellation = Cancellation()
    compute = partial(compute_cam, model, pixels, LARGE_PIXELS, cancellation)
    try:
        region, activations = call_with_timeout(compute, HEATMAP_SECONDS, "heatmap")
    except TimeoutError as error:
        cancellation.cancel()
        raise InferenceError(model.name, f"no result within {HEATMAP_SECONDS:.0f} s") from error
    return to_jpeg(overlay(region, activations[model.class_names.index(class_name)]))
