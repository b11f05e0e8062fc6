"""What a network sees in photographs, worked out once for each: kept in the cache by content, network and reading rule.

Knows how pictures come to a network in batches and how its answers are kept; does not know what network it is, or what
is learnt from it.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from belvedere.data.array_cache import NewRow, Store
from belvedere.data.hashing import Contents
from belvedere.data.image_cache import Held, open_cached, preprocess_key, read_verified
from belvedere.errors import CacheError
from belvedere.images.decode import DecodedImage
from belvedere.inference.model import Model
from belvedere.runtime.environment import cache_folder
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess

KIND = "embeddings"  # of stores in the cache
TOGETHER = 32  # pictures that go through the network, and then into the cache, at once


class Embedder(Protocol):
    """A network that describes pictures."""

    @property
    def name(self) -> str:
        """Names all that decides an embedding beside picture and reading rule, in characters of a file's name."""

    @property
    def preprocess(self) -> Preprocess:
        """The pictures it takes."""

    @property
    def width(self) -> int:
        """D."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describes pictures, (n, H, W, 3), as (n, D)."""


@dataclass(frozen=True)
class ModelEmbedder:
    """A model file that describes pictures."""

    model: Model
    name: str

    @property
    def preprocess(self) -> Preprocess:
        """The pictures it takes."""
        return self.model.card.preprocess

    @property
    def width(self) -> int:
        """D."""
        return self.model.embedding_dim

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describes pictures, (n, H, W, 3), as (n, D)."""
        return self.model.run(images).embedding


def model_embedder(model: Model) -> ModelEmbedder:
    """Returns what describes pictures by a model's embedding, kept by the content of its file.

    Its card won't do to tell it by: another form of a model, such as int8, has the same.
    """
    return ModelEmbedder(model, f"model-{model.sha256[:16]}")


@dataclass(frozen=True)
class Embeddings(Held):
    """Photographs as a network sees them."""

    values: NDArray[np.float32]  # (N, D)


def read_embeddings(contents: Contents, embedder: Embedder, progress: Progress) -> Embeddings:
    """Describes the photographs that the cache does not hold yet, and returns what it holds for all of them.

    What was described stays when this is cut off; other processes may do the same at the same time.

    Args:
        contents: The photographs with the hashes of their files.
        embedder: Describes them.
        progress: Shows how far it is.

    Returns:
        The embeddings of those that can be read, in the given order, and the others by name.

    Raises:
        CacheError: The cache can't be written, or the disk is full.
    """
    store = Store(KIND, store_name(embedder.name, embedder.preprocess), (embedder.width,), np.float32)
    samples = dict(zip(contents.hashes, contents.samples, strict=True))
    reasons: dict[str, str] = {}
    with progress.task("Describing", len(samples)) as task:
        missing = store.find_missing(samples)
        task.advance(len(samples) - len(missing))
        for batch in _read_batches(missing, samples, embedder.preprocess):
            readable = {key: outcome for key, outcome in batch if isinstance(outcome, DecodedImage)}
            reasons |= {key: outcome for key, outcome in batch if isinstance(outcome, str)}
            if readable:
                values = embedder.embed(np.stack([decoded.pixels for decoded in readable.values()]))
                rows = zip(readable.items(), np.ascontiguousarray(values, np.float32), strict=True)
                store.add([NewRow(key, row, zlib.crc32(row.data), decoded.notes) for (key, decoded), row in rows])
            task.advance(len(batch))
    return _open(contents, store, reasons)


def read_kept(contents: Contents, progress: Progress, *, store: str, width: int) -> Embeddings:
    """Return what the cache holds of what a network saw in photographs, without the network.

    Args:
        contents: The photographs with the hashes of their files.
        progress: Shows how far it is.
        store: Named it, as `store_name` does.
        width: D.

    Returns:
        The embeddings of those that it saw, in the given order, and the others by name.

    Raises:
        CacheError: It is not in the cache.
    """
    if store != Path(store).name or not (cache_folder() / KIND / store).is_dir():
        raise CacheError("What the network saw is not in the cache any more.")
    kept = Store(KIND, store, (width,), np.float32)
    with progress.task("Describing", 0):
        missing = kept.find_missing(dict.fromkeys(contents.hashes))
    return _open(contents, kept, dict.fromkeys(missing, "is not in the cache"))


def _open(contents: Contents, store: Store, reasons: Mapping[str, str]) -> Embeddings:
    held, stored = open_cached(contents, store, reasons)
    return Embeddings(held.samples, held.hashes, held.unreadable, held.remarked, stored[np.arange(len(stored))])


def store_name(embedder: str, preprocess: Preprocess) -> str:
    """Names the store of what an embedder sees in pictures that are read by a rule."""
    return f"{embedder}-{preprocess_key(preprocess)}"


def _read_batches(
    keys: list[str], samples: dict[str, Sample], preprocess: Preprocess
) -> Iterator[list[tuple[str, DecodedImage | str]]]:
    def read(key: str) -> tuple[str, DecodedImage | str]:
        return key, read_verified(key, samples[key].path, preprocess)

    outcomes = parallel_map(read, keys)
    return iter(lambda: list(islice(outcomes, TOGETHER)), [])
