"""Caches decoded images by file hash and preprocessing, so that training decodes each file once."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from belvedere.data.array_cache import ArrayCache, CachedArray, NewRow
from belvedere.data.hashing import HashedSamples
from belvedere.errors import InvalidImageError
from belvedere.images.content import read_content
from belvedere.images.decode import DECODER_VERSION, DecodedImage, read_resized
from belvedere.images.limits import MAX_PIXELS, default_max_pixels
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.parallel import batched, parallel_map
from belvedere.runtime.progress import Progress, Task
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess

CHUNK_SIZE = 64  # images that a thread decodes before it adds them, at most


@dataclass(frozen=True)
class CachedImages:
    """The samples whose rows a cache holds."""

    samples: tuple[Sample, ...]  # N, one per row
    hashes: tuple[str, ...]  # N, of the files
    unreadable: tuple[tuple[Sample, str], ...]  # the other samples, each with the reason
    with_warnings: tuple[tuple[Sample, str], ...]  # those of the N with a decoder warning, and the warning


@dataclass(frozen=True)
class ImageArray(CachedImages):
    """Decoded images."""

    images: CachedArray  # (N, H, W, 3) uint8


def read_image_array(
    hashed: HashedSamples,
    preprocess: Preprocess,
    progress: Progress,
    *,
    draft: bool = False,
    other_sizes: Sequence[tuple[HashedSamples, Preprocess]] = (),
) -> ImageArray:
    """Decode the images that the cache lacks, and open it for all readable ones, in the given order.

    An interrupted call keeps what was decoded. Several processes may fill the cache at once.

    Args:
        hashed: The images.
        preprocess: Their size.
        progress: Progress display.
        draft: Whether to decode large JPEGs at a reduced scale, for thumbnails; not with `other_sizes`.
        other_sizes: Further images and sizes. Those images of `hashed` that are decoded are cached at these sizes, too.

    Raises:
        CacheError: The cache cannot be written, or the disk is full.
    """
    draft = draft and not other_sizes
    cache = open_image_cache(preprocess, draft=draft)
    paths = {key: sample.path for key, sample in zip(hashed.hashes, hashed.samples, strict=True)}
    with progress.task("Reading", len(paths)) as task:
        incomplete = [_IncompleteCache(cache, preprocess, frozenset(cache.find_missing(paths)))]
        missing = incomplete[0].missing
        task.advance(len(paths) - len(missing))
        for images, size in other_sizes:
            other = open_image_cache(size)
            incomplete.append(_IncompleteCache(other, size, frozenset(other.find_missing(missing & {*images.hashes}))))
        errors = _fill(incomplete, [(key, path) for key, path in paths.items() if key in missing], task, draft)
    cached, rows = open_cached(hashed, cache, errors)
    return ImageArray(cached.samples, cached.hashes, cached.unreadable, cached.with_warnings, rows)


def open_cached(
    hashed: HashedSamples, cache: ArrayCache, errors: Mapping[str, str]
) -> tuple[CachedImages, CachedArray]:
    """Open the rows of samples, of which `errors` holds the reason for each hash without a row.

    Raises:
        CacheError: The cache was cleared meanwhile.
    """
    pairs = list(zip(hashed.hashes, hashed.samples, strict=True))
    readable = [(key, sample) for key, sample in pairs if key not in errors]
    rows = cache.rows(key for key, _ in readable)
    cache.ensure_not_cleared()
    cached = CachedImages(
        samples=tuple(sample for _, sample in readable),
        hashes=tuple(key for key, _ in readable),
        unreadable=tuple((sample, errors[key]) for key, sample in pairs if key in errors),
        with_warnings=tuple((sample, text) for key, sample in readable for text in cache.index[key].warnings),
    )
    return cached, rows


def preprocess_key(preprocess: Preprocess) -> str:
    """Return the name of a preprocessing, with everything that determines the pixels of a file."""
    size, interpolation = f"{preprocess.height}x{preprocess.width}", preprocess.interpolation
    resize = preprocess.resize if interpolation == "bilinear" else f"{preprocess.resize}-{interpolation}"
    limit = default_max_pixels()  # larger JPEGs are decoded at a reduced scale
    return f"{size}-{resize}-{DECODER_VERSION}" + ("" if limit == MAX_PIXELS else f"-{limit}")


def open_image_cache(preprocess: Preprocess, *, draft: bool = False) -> ArrayCache:
    """Open the cache of images decoded with a preprocessing."""
    key = preprocess_key(preprocess) + ("-draft" if draft else "")
    return ArrayCache("images", key, (preprocess.height, preprocess.width, 3), np.uint8)


@dataclass(frozen=True)
class _IncompleteCache:
    """A cache to fill."""

    cache: ArrayCache
    preprocess: Preprocess
    missing: frozenset[str]  # hashes of the files to add


def _fill(
    caches: Sequence[_IncompleteCache], files: Sequence[tuple[str, Path]], task: Task, draft: bool
) -> dict[str, str]:
    """Decode images and add them, in threads; return the reasons of the unreadable ones by hash."""
    errors: dict[str, str] = {}
    threads = num_usable_cpus()
    chunks = batched(files, min(CHUNK_SIZE, -(-len(files) // (2 * threads))))  # work for every thread

    def decode_and_add(chunk: list[tuple[str, Path]]) -> tuple[int, dict[str, str]]:
        new: list[list[NewRow]] = [[] for _ in caches]
        unreadable: dict[str, str] = {}
        for key, path in chunk:
            wanted = [number for number, each in enumerate(caches) if key in each.missing]
            images = read_verified(key, path, [caches[number].preprocess for number in wanted], draft=draft)
            if isinstance(images, str):
                unreadable[key] = images
                continue
            for number, image in zip(wanted, images, strict=True):
                new[number].append(NewRow(key, np.ascontiguousarray(image.pixels), image.warnings))
        for each, rows in zip(caches, new, strict=True):
            if rows:
                each.cache.add(rows)
        return len(chunk), unreadable

    for count, unreadable in parallel_map(decode_and_add, chunks, 2 * threads):
        errors |= unreadable
        task.advance(count)
    return errors


def read_verified(
    key: str, path: Path, preprocesses: Sequence[Preprocess], *, draft: bool = False
) -> list[DecodedImage] | str:
    """Read an image as `read_resized` if the SHA-256 of its file is still `key`; else return the reason."""
    try:
        content = read_content(path)
        if hashlib.sha256(content).hexdigest() != key:
            return "changed while it was read"
        return read_resized(content, preprocesses, draft=draft)
    except InvalidImageError as error:
        return error.reason
