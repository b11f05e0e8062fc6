"""The pool: the images of a folder, without repetitions, and their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from belvedere.data.hashing import hash_samples
from belvedere.data.table_samples import read_table
from belvedere.errors import DatasetError, UsageError
from belvedere.images.listing import SkippedFiles, list_images
from belvedere.inference.embeddings import Embedder, read_embeddings
from belvedere.reviewing.labeling.probe import Features, Rows, make_features
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count, describe_error
from belvedere.types.data import DataWarning, Sample


@dataclass(frozen=True)
class Pool:
    """Images to label; of identical files, the first."""

    source: Path  # folder or table
    samples: tuple[Sample, ...]  # N
    hashes: tuple[str, ...]  # N, SHA-256 of the files
    features: Features  # (N, D)
    copies: dict[str, tuple[Path, ...]]  # other files with the same content, by hash
    warnings: tuple[DataWarning, ...] = ()
    _rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rows", {key: row for row, key in enumerate(self.hashes)})

    def row_of(self, sha256: str) -> int | None:
        """Return the row of a file; None if it is not in the pool."""
        return self._rows.get(sha256)

    @property
    def random_order(self) -> Rows:
        """The images by their hashes, which is random, and the same after a restart."""
        return np.argsort(np.array(self.hashes), kind="stable")


def read_pool(folder: Path, embedder: Embedder, progress: Progress, root: Path | str | None = None) -> Pool:
    """Read the images below a folder, or those of a table, whose labels are not used.

    Args:
        folder: The folder or table.
        embedder: Computes the embeddings.
        progress: Progress display.
        root: Folder that the paths in a table are relative to; default: that of the table.

    Raises:
        DatasetError: It does not exist or cannot be read, or no image in it can be.
        UsageError: `root` is given for a folder.
        CacheError: The embeddings cannot be cached.
    """
    paths, listed = _list(folder, None if root is None else Path(root))
    samples = [Sample(path, str(path.relative_to(folder) if folder.is_dir() else path), "", None) for path in paths]
    hashed = hash_samples(samples, progress)
    first: dict[str, int] = {}
    copies: dict[str, tuple[Path, ...]] = {}
    for index, key in enumerate(hashed.hashes):
        if key in first:
            copies[key] = (*copies.get(key, ()), hashed.samples[index].path)
        else:
            first[key] = index
    found = read_embeddings(hashed.select(first.values()), embedder, progress)
    unreadable = (*hashed.unreadable, *found.unreadable)
    warnings = (*_warnings(unreadable, copies), *listed)
    if not found.samples:
        raise DatasetError(f"No image in {folder} can be read. Give a folder of images.")
    return Pool(folder, found.samples, found.hashes, make_features(found.values)[0], copies, warnings)


def _list(folder: Path, root: Path | None) -> tuple[list[Path], list[DataWarning]]:
    if folder.is_file():
        samples, warnings = read_table(folder, root)
        return [sample.path for sample in samples], warnings
    if root is not None and folder.is_dir():
        raise UsageError(f"`root` is for tables, and {folder} is a folder. Leave it out.")
    skipped = SkippedFiles()
    try:
        paths = list(list_images(folder, skipped))
    except OSError as error:
        raise DatasetError(f"Cannot read {folder}: {describe_error(error)}. Give a folder of images.") from error
    if not paths:
        found = f", only {skipped}" if skipped else ""
        raise DatasetError(f"No images in {folder}{found}. Give a folder of images.")
    return paths, [DataWarning(f"{skipped} ignored")] if skipped else []


def _warnings(unreadable: Sequence[tuple[Sample, str]], copies: dict[str, tuple[Path, ...]]) -> list[DataWarning]:
    warnings = []
    if unreadable:
        names = tuple(f"{sample.name}: {reason}" for sample, reason in unreadable)
        warnings.append(DataWarning(f"{count(len(names), 'image')} left out: cannot be read", names))
    if copies:
        number = sum(map(len, copies.values()))
        warnings.append(DataWarning(f"{count(number, 'identical copy', 'identical copies')} shown once"))
    return warnings
