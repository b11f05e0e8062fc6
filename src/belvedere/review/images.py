"""The photographs that the page shows: by number only, decoded and encoded anew.

Knows files and their hashes; does not know the browser. No path comes from outside: what is not in the list has no
number, and a file that was changed since it was listed is not shown, so that a decision is always about what was seen.
"""

import hashlib
import secrets
import threading
from functools import partial
from pathlib import Path

from belvedere.errors import InferenceError, InvalidImageError
from belvedere.images.decode import RGB, read_content, read_image
from belvedere.images.encode import to_jpeg
from belvedere.images.heatmap import overlay
from belvedere.images.resize import resize_image, within
from belvedere.inference.model import Model
from belvedere.inference.session import Cancellation
from belvedere.runtime.timeouts import call_with_timeout

LARGE_PIXELS, SMALL_PIXELS = 1400, 200  # longer side of a picture on the page
HEATMAP_SECONDS = 60.0  # for one image to go through a model


class Gallery:
    """Photographs by number."""

    def __init__(self) -> None:
        self._first = secrets.randbelow(2**48)  # browsers keep pictures: no number of an earlier process comes again
        self._files: list[tuple[Path, str]] = []
        self._numbers: dict[tuple[Path, str], int] = {}
        self._lock = threading.Lock()

    def add(self, path: Path, sha256: str = "") -> int:
        """Lists a photograph by its file and the hash of its content, if that matters; returns its number."""
        with self._lock:
            if (path, sha256) not in self._numbers:
                self._numbers[path, sha256] = self._first + len(self._files)
                self._files.append((path, sha256))
            return self._numbers[path, sha256]

    def read(self, number: int) -> RGB:
        """Reads a photograph, (H, W, 3).

        Raises:
            InvalidImageError: No photograph has this number, or it can't be read, or was changed.
        """
        if not self._first <= number < self._first + len(self._files):
            raise InvalidImageError(f"picture {number}", "is not in the list")
        path, sha256 = self._files[number - self._first]
        content = read_content(path)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise InvalidImageError(path.name, "was changed since this page was started")
        return read_image(content)


def draw(pixels: RGB, side: int) -> bytes:
    """Returns a picture as a JPEG of at most `side` pixels."""
    return to_jpeg(resize_image(pixels, within(pixels.shape[0], pixels.shape[1], side)))


def draw_heatmap(model: Model, pixels: RGB, class_name: str) -> bytes:
    """Returns a picture as a JPEG with the evidence for a class laid over it.

    Where the model sees the middle of a picture only, the middle is shown.

    Raises:
        InferenceError: The model fails, or does not answer in time.
    """
    from belvedere.evaluation.report.heatmap_figures import (
        look_at,  # brings matplotlib, which the page does not wait for
    )

    cancellation = Cancellation()
    look = partial(look_at, model, pixels, LARGE_PIXELS, cancellation)
    try:
        shown, shares = call_with_timeout(look, HEATMAP_SECONDS, "heat-map")
    except TimeoutError as error:
        cancellation.cancel()
        raise InferenceError(model.name, f"it has not answered within {HEATMAP_SECONDS:.0f} s") from error
    return to_jpeg(overlay(shown, shares[model.class_names.index(class_name)]))
