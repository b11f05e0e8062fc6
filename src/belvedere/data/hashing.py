"""Hashes image files, to find identical ones and to compare datasets."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.split_names import fill_splits
from belvedere.errors import InvalidImageError
from belvedere.images.content import read_content
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning, Sample

CHUNK_SIZE = 16  # files per thread and turn
MINHASH_SIZE, MINHASH_DIGITS = 256, 16  # hashes kept, and hexadecimal digits of each


@dataclass(frozen=True)
class HashedSamples:
    """Samples with the hashes of their files."""

    samples: tuple[Sample, ...]  # N, all readable
    hashes: tuple[str, ...]  # N, SHA-256 in hexadecimal
    unreadable: tuple[tuple[Sample, str], ...] = ()  # the other samples, each with the reason

    def select(self, indices: Iterable[int]) -> "HashedSamples":
        """Return the samples at some indices."""
        indices = list(indices)
        return HashedSamples(tuple(self.samples[i] for i in indices), tuple(self.hashes[i] for i in indices))

    def in_splits(self, *splits: str | None) -> "HashedSamples":
        """Return the samples of some splits; None stands for samples without one."""
        return self.select(i for i, sample in enumerate(self.samples) if sample.split in splits)


def hash_file(path: Path | str) -> str:
    """Return the SHA-256 of an image file, in hexadecimal.

    Raises:
        InvalidImageError: The file cannot be read, is empty, or is over the size limit of an image.
    """
    return hashlib.sha256(read_content(path)).hexdigest()


def hash_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """Return a BLAKE2b hash, 16 bytes, of decoded pixels and their shape."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def hash_samples(samples: Sequence[Sample], progress: Progress) -> HashedSamples:
    """Hash the files of samples, in parallel; samples keep their order, and unreadable ones are separate."""

    def read(sample: Sample) -> str | InvalidImageError:
        try:
            return hash_file(sample.path)
        except InvalidImageError as error:
            return error

    hashed: list[tuple[Sample, str]] = []
    unreadable: list[tuple[Sample, str]] = []
    with progress.task("Comparing files", len(samples)) as task:
        for sample, result in zip(samples, parallel_map(read, samples, chunk_size=CHUNK_SIZE), strict=True):
            if isinstance(result, InvalidImageError):
                unreadable.append((sample, result.reason))
            else:
                hashed.append((sample, result))
            task.advance(1)
    return HashedSamples(
        tuple(sample for sample, _ in hashed), tuple(content_hash for _, content_hash in hashed), tuple(unreadable)
    )


def duplicate_warnings(hashed: HashedSamples) -> list[DataWarning]:
    """Report groups of identical files: across splits, with conflicting labels, and the others.

    Each of up to three warnings names its groups; a group across splits with conflicting labels is in two.
    """
    by_hash: defaultdict[str, list[tuple[Sample, str | None]]] = defaultdict(list)
    splits = fill_splits([sample.split for sample in hashed.samples])
    for sample, split, content_hash in zip(hashed.samples, splits, hashed.hashes, strict=True):
        by_hash[content_hash].append((sample, split))
    groups = [group for group in by_hash.values() if len(group) > 1]
    kinds = {
        "across splits: test scores are optimistic": [
            group for group in groups if len({split for _, split in group}) > 1
        ],
        "with conflicting labels": [group for group in groups if len({sample.label for sample, _ in group}) > 1],
        "within one split and class": [
            group for group in groups if len({(split, sample.label) for sample, split in group}) == 1
        ],
    }
    return [
        DataWarning(
            f"{count(len(chosen), 'group')} of identical images {kind}",
            tuple(" = ".join(sample.name for sample, _ in group) for group in chosen),
        )
        for kind, chosen in kinds.items()
        if chosen
    ]


def fingerprint(hashed: HashedSamples) -> str:
    """Return a SHA-256 of the contents and labels of samples, independent of file names and order."""
    lines = sorted(
        f"{content_hash} {'|'.join((sample.label, *sample.extra_labels))}"
        for content_hash, sample in zip(hashed.hashes, hashed.samples, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def minhash(hashes: Iterable[str]) -> tuple[str, ...]:
    """Keep the smallest hashes of a set, by which sets can be compared (bottom-k sketch, Broder 1997)."""
    return tuple(sorted({each[:MINHASH_DIGITS] for each in hashes})[:MINHASH_SIZE])


def estimate_overlap(hashes: Iterable[str], reference: Sequence[str]) -> float:
    """Estimate the fraction of files, by their SHA-256, that is in a reference set, by its `minhash`.

    The fraction is exact for reference sets up to `MINHASH_SIZE` files, else it has an error of about 0.03.
    """
    known, own = set(reference), {each[:MINHASH_DIGITS] for each in hashes}
    if len(known) >= MINHASH_SIZE:  # the sketch holds no larger hashes
        own = {each for each in own if each <= max(known)}
    return len(own & known) / max(len(own), 1)
