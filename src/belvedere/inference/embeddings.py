"""Embeddings of images, computed once and cached by content, network and preprocessing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from belvedere.data.array_cache import ArrayCache, NewRow
from belvedere.data.hashing import HashedSamples
from belvedere.data.image_cache import CachedImages, open_cached, preprocess_key, read_verified
from belvedere.errors import CacheError
from belvedere.images.decode import DecodedImage
from belvedere.inference.model import Model
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.environment import cache_folder
from belvedere.runtime.parallel import batched, parallel_map
from belvedere.runtime.progress import Progress
from belvedere.types.model import Preprocess

KIND = "embeddings"  # in the cache
BATCH_SIZE = 32  # images a computation
MAX_THREADS = 16  # whose batches of a model are in memory together


class Embedder(Protocol):
    """A network that embeds images."""

    @property
    def name(self) -> str:
        """Identifies the network; of characters that a file name may have."""

    @property
    def preprocess(self) -> Preprocess:
        """The input."""

    @property
    def embedding_dim(self) -> int:
        """D."""

    @property
    def batch_size(self) -> int:
        """Number of images that are embedded, and then cached, together."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, (n, H, W, 3), as (n, D)."""


@dataclass(frozen=True)
class ModelEmbedder:
    """A model file as an embedder."""

    model: Model
    name: str

    @property
    def preprocess(self) -> Preprocess:
        """The input."""
        return self.model.card.preprocess

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.model.embedding_dim

    @property
    def batch_size(self) -> int:
        """A batch for each thread: a session computes in one."""
        return BATCH_SIZE * min(num_usable_cpus(), MAX_THREADS)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed images, (n, H, W, 3), as (n, D)."""
        return self.model.forward(images).embedding


def model_embedder(model: Model) -> ModelEmbedder:
    """Return an embedder named after the file's hash: other formats of a model, such as int8, have the same card."""
    return ModelEmbedder(model, f"model-{model.sha256[:16]}")


@dataclass(frozen=True)
class Embeddings(CachedImages):
    """Embeddings of a dataset."""

    values: NDArray[np.float32]  # (N, D)


def read_embeddings(hashed: HashedSamples, embedder: Embedder, progress: Progress) -> Embeddings:
    """Embed the images that are not cached yet, and return the embeddings of all readable images, in order.

    Embeddings are cached batch by batch, also if interrupted; other processes may do the same concurrently.

    Raises:
        CacheError: The cache cannot be written, or the disk is full.
    """
    cache_name = embedding_cache_name(embedder.name, embedder.preprocess)
    cache = ArrayCache(KIND, cache_name, (embedder.embedding_dim,), np.float32)
    samples = dict(zip(hashed.hashes, hashed.samples, strict=True))

    def read(key: str) -> tuple[str, DecodedImage | str]:
        found = read_verified(key, samples[key].path, [embedder.preprocess])
        return key, found if isinstance(found, str) else found[0]

    reasons: dict[str, str] = {}
    with progress.task("Embedding", len(samples)) as task:
        missing = cache.find_missing(samples)
        task.advance(len(samples) - len(missing))
        for batch in batched(parallel_map(read, missing), embedder.batch_size):
            decoded = {key: outcome for key, outcome in batch if isinstance(outcome, DecodedImage)}
            reasons |= {key: outcome for key, outcome in batch if isinstance(outcome, str)}
            if decoded:
                values = embedder.embed(np.stack([image.pixels for image in decoded.values()]))
                rows = zip(decoded.items(), np.ascontiguousarray(values, np.float32), strict=True)
                cache.add([NewRow(key, row, image.warnings) for (key, image), row in rows])
            task.advance(len(batch))
    return _open(hashed, cache, reasons)


def read_cached_embeddings(
    hashed: HashedSamples, progress: Progress, *, cache_name: str, embedding_dim: int
) -> Embeddings:
    """Return cached embeddings, in order, without the network; `cache_name` is from `embedding_cache_name`.

    Raises:
        CacheError: The cache has no such embeddings.
    """
    if cache_name != Path(cache_name).name or not (cache_folder() / KIND / cache_name).is_dir():
        raise CacheError(f"Embeddings not in the cache: {cache_name}. Compute them again.")
    cache = ArrayCache(KIND, cache_name, (embedding_dim,), np.float32)
    with progress.task("Embedding", 0):
        missing = cache.find_missing(dict.fromkeys(hashed.hashes))
    return _open(hashed, cache, dict.fromkeys(missing, "is not in the cache"))


def embedding_cache_name(embedder: str, preprocess: Preprocess) -> str:
    """Return the name of an embedder's cache."""
    return f"{embedder}-{preprocess_key(preprocess)}"


def _open(hashed: HashedSamples, cache: ArrayCache, reasons: Mapping[str, str]) -> Embeddings:
    images, rows = open_cached(hashed, cache, reasons)
    return Embeddings(
        images.samples, images.hashes, images.unreadable, images.with_warnings, rows[np.arange(len(rows))]
    )
