"""Decoded pictures kept in the cache, each once, so that training does not decode them again.

Knows that pixels are keyed by the SHA-256 of a picture's file and the reading rule; does not know labels or what is
learnt.
"""

import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from belvedere.data.array_cache import CachedArray, NewRow, Store
from belvedere.data.hashing import Contents
from belvedere.errors import InvalidImageError
from belvedere.images.decode import READING_VERSION, DecodedImage, read_content, read_input
from belvedere.runtime.parallel import chunks_of, parallel_map
from belvedere.runtime.progress import Progress, Task
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess

TOGETHER = 64  # pictures that a thread decodes and then adds under one lock, at most


@dataclass(frozen=True)
class Held:
    """Which photographs a store holds."""

    samples: tuple[Sample, ...]  # N, one a row
    hashes: tuple[str, ...]  # N, of their files
    unreadable: tuple[tuple[Sample, str], ...]  # not among them, with the reason
    remarked: tuple[tuple[Sample, str], ...]  # among them, with what was decided in reading


@dataclass(frozen=True)
class Pixels(Held):
    """Photographs ready to learn from."""

    images: CachedArray  # (N, H, W, 3) uint8


def read_pixels(contents: Contents, preprocess: Preprocess, progress: Progress) -> Pixels:
    """Decodes the photographs that the cache does not hold yet, and opens it for all of them.

    What was decoded stays when this is cut off; other processes may do the same at the same time.

    Args:
        contents: The photographs with the hashes of their files.
        preprocess: The size and rule they are kept by.
        progress: Shows how far it is.

    Returns:
        The pixels of those that can be read, in the given order, and the others by name.

    Raises:
        CacheError: The cache can't be written, or the disk is full.
    """
    store = open_store(preprocess)
    paths = {key: sample.path for key, sample in zip(contents.hashes, contents.samples, strict=True)}
    with progress.task("Reading", len(paths)) as task:
        missing = store.find_missing(paths)
        task.advance(len(paths) - len(missing))
        reasons = _fill(store, [(key, paths[key]) for key in missing], preprocess, task)
    held, rows = open_cached(contents, store, reasons)
    return Pixels(held.samples, held.hashes, held.unreadable, held.remarked, rows)


def open_cached(contents: Contents, store: Store, reasons: Mapping[str, str]) -> tuple[Held, CachedArray]:
    """Opens a store for the photographs that can be read.

    Args:
        contents: All of them.
        store: Holds a row for each but those with a reason.
        reasons: Why the others can't be read, by their hash.

    Raises:
        CacheError: It was cleared meanwhile.
    """
    pairs = list(zip(contents.hashes, contents.samples, strict=True))
    kept = [(key, sample) for key, sample in pairs if key not in reasons]
    rows = store.rows(key for key, _ in kept)
    store.ensure_not_cleared()
    held = Held(
        samples=tuple(sample for _, sample in kept),
        hashes=tuple(key for key, _ in kept),
        unreadable=tuple((sample, reasons[key]) for key, sample in pairs if key in reasons),
        remarked=tuple((sample, note) for key, sample in kept for note in store.entries[key].notes),
    )
    return held, rows


def preprocess_key(preprocess: Preprocess) -> str:
    """Returns a name of all that decides what pixels a file becomes."""
    size, scaling = f"{preprocess.height}x{preprocess.width}", preprocess.interpolation
    fitting = preprocess.resize if scaling == "bilinear" else f"{preprocess.resize}-{scaling}"
    return f"{size}-{fitting}-{READING_VERSION}"


def open_store(preprocess: Preprocess) -> Store:
    """Opens the store of pictures read by a rule."""
    return Store("pixels", preprocess_key(preprocess), (preprocess.height, preprocess.width, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class _Lost:
    """A picture that can't be read."""

    key: str
    reason: str


def _fill(store: Store, wanted: Sequence[tuple[str, Path]], preprocess: Preprocess, task: Task) -> dict[str, str]:
    """Decodes pictures and adds them, in threads; returns the reasons of those that can't be read, by key."""
    reasons: dict[str, str] = {}
    threads = os.cpu_count() or 1
    chunks = chunks_of(wanted, min(TOGETHER, -(-len(wanted) // (2 * threads))))  # something for every thread

    def decode_and_add(chunk: list[tuple[str, Path]]) -> tuple[int, list[_Lost]]:
        outcomes = [_decode(key, path, preprocess) for key, path in chunk]
        store.add([outcome for outcome in outcomes if isinstance(outcome, NewRow)])
        return len(chunk), [outcome for outcome in outcomes if isinstance(outcome, _Lost)]

    for count, lost in parallel_map(decode_and_add, chunks, 2 * threads):
        reasons |= {outcome.key: outcome.reason for outcome in lost}
        task.advance(count)
    return reasons


def read_verified(key: str, path: Path, preprocess: Preprocess) -> DecodedImage | str:
    """Reads a picture as `read_input`, if its file still has the SHA-256 `key`; else returns the reason."""
    try:
        content = read_content(path)
        if hashlib.sha256(content).hexdigest() != key:
            return "was changed while it was read"
        return read_input(content, preprocess)
    except InvalidImageError as error:
        return error.reason


def _decode(key: str, path: Path, preprocess: Preprocess) -> NewRow | _Lost:
    decoded = read_verified(key, path, preprocess)
    if isinstance(decoded, str):
        return _Lost(key, decoded)
    pixels = np.ascontiguousarray(decoded.pixels)
    return NewRow(key, pixels, zlib.crc32(pixels.data), decoded.notes)
