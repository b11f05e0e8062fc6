"""Embeddings to two dimensions, by t-SNE; the positions of a set of images are computed once and cached."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.data.array_cache import ArrayCache, NewRow
from belvedere.data.principal_components import principal_components
from belvedere.inference.embeddings import KIND
from belvedere.runtime.cpus import num_usable_cpus
from belvedere.runtime.dependencies import require
from belvedere.runtime.progress import Progress

PURPOSE = "A map"
NUM_COMPONENTS = 50  # principal components that t-SNE receives
MIN_IMAGES = 20  # with fewer, the first two principal components are the map
PERPLEXITY = 30.0
MIN_PARALLEL = 10_000  # images, from which several threads are used
VERSION = 1  # increased when the positions change

Floats = NDArray[np.float32]


def project(embeddings: Floats, hashes: Sequence[str], progress: Progress) -> Floats:
    """Return positions, (N, 2) from -1 to 1, of N embeddings, (N, D) of length 1.

    Identical files share a position.

    Args:
        embeddings: The embeddings.
        hashes: N hashes of the files.
        progress: Progress display.

    Raises:
        MissingDependencyError: The packages of the extra `explore` are not installed.
        CacheError: The cache cannot be written.
    """
    require("explore", PURPOSE)
    unique = {key: row for row, key in reversed(list(enumerate(hashes)))}
    keys = sorted(unique)
    values = embeddings[[unique[key] for key in keys]]
    digest = hashlib.sha256("\n".join(keys).encode() + np.ascontiguousarray(values).tobytes()).hexdigest()
    cache = ArrayCache(KIND, f"map-{VERSION}-{digest[:16]}", (2,), np.float32)
    with progress.task("Placing", len(keys)) as task:
        if cache.find_missing(dict.fromkeys(keys)):
            positions = _positions(values)
            cache.add([NewRow(key, row) for key, row in zip(keys, positions, strict=True)])
        task.advance(len(keys))
    rows = cache.rows(hashes)
    return np.asarray(rows[np.arange(len(rows))], np.float32)


def _positions(values: Floats) -> Floats:
    components = principal_components(values, NUM_COMPONENTS)
    components = np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))
    positions = components[:, :2] if len(values) < MIN_IMAGES else _t_sne(components)
    positions = positions - (positions.max(0) + positions.min(0)) / 2
    return np.ascontiguousarray(positions / max(float(np.abs(positions).max()), 1e-9), np.float32)


def _t_sne(components: NDArray[np.float64]) -> NDArray[np.float64]:
    from openTSNE import TSNE

    threads = 1 if len(components) < MIN_PARALLEL else num_usable_cpus()  # threads wait for each other in every step
    perplexity = min(PERPLEXITY, (len(components) - 1) / 3)
    found = TSNE(perplexity=perplexity, initialization="pca", random_state=0, n_jobs=threads).fit(components)
    return np.asarray(found, np.float64)
