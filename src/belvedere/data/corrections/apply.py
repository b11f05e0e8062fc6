"""Applies the decisions of a corrections file to the samples of a dataset. No file changes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from belvedere.data.corrections.corrections_file import (
    active_decisions,
    common_suffix_length,
    damaged_lines_warning,
    read_corrections,
    resolve,
)
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.labels import compose
from belvedere.errors import DatasetError
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import count
from belvedere.types.data import CopyResolution, DataWarning, Decision, Resolution, Sample

EVALUATION_SPLITS = ("test", "val")  # whose images stay if a decision could concern several identical files


def apply_corrections(
    samples: Sequence[Sample], corrections: Path | str, progress: Progress | bool | None = None
) -> tuple[list[Sample], list[DataWarning]]:
    """Apply a corrections file.

    Images are found by the hash of their file, so they may have been moved or renamed. Only files of a size that the
    corrections name are hashed.

    Args:
        samples: Samples of a dataset, as found.
        corrections: File that `review` wrote.
        progress: Reports the number of files hashed.

    Returns:
        The samples in their order, corrected and without the excluded ones, and a warning for each kind of change.

    Raises:
        UsageError: The corrections file does not exist.
        DatasetError: Every image is excluded.
    """
    recorded = read_corrections(corrections)
    resolutions = resolve(recorded.decisions)
    hashed = hash_samples(_find_candidates(samples, active_decisions(recorded.decisions)), choose_progress(progress))
    corrected, warnings = _apply(samples, hashed, resolutions, str(corrections))
    if samples and not corrected:
        raise DatasetError(f"Every image is excluded by {corrections}. Undo some exclusions in a review.")
    return corrected, warnings + damaged_lines_warning(corrections, recorded.damaged)


def _find_candidates(samples: Sequence[Sample], decisions: Sequence[Decision]) -> list[Sample]:
    """Return the samples whose file size occurs in a decision."""
    sizes = {decision.size_bytes for decision in decisions}
    return [sample for sample in samples if None in sizes or _size_of(sample.path) in sizes]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1  # reported when the images are read


def _apply(
    samples: Sequence[Sample], hashed: HashedSamples, resolutions: Mapping[str, Resolution], corrections: str
) -> tuple[list[Sample], list[DataWarning]]:
    hashes = {id(sample): key for key, sample in zip(hashed.hashes, hashed.samples, strict=True)}
    excluded = _find_excluded(hashed, resolutions)
    changed: dict[str, list[str]] = {"relabeled": [], "given other extra labels": [], "excluded": []}
    pairs = []
    for sample in samples:
        if id(sample) in excluded:
            changed["excluded"].append(sample.name)
            continue
        resolution = resolutions.get(hashes.get(id(sample), ""))
        after = sample if resolution is None else _correct(sample, resolution)
        if after.label != sample.label:
            changed["relabeled"].append(f"{sample.name}: {sample.label} to {after.label}")
        if set(after.extra_labels) != set(sample.extra_labels):
            labels = ", ".join(after.extra_labels) or "none"
            changed["given other extra labels"].append(f"{sample.name}: {labels}")
        pairs.append((sample, after))
    corrected, untrainable = _drop_untrainable(pairs)
    warnings = [
        DataWarning(f"{len(names)} {what} by {corrections}", tuple(names)) for what, names in changed.items() if names
    ]
    if untrainable:
        left_out = f"{count(len(untrainable), 'image')} left out"
        reason = f"no training images of the corrected class ({corrections})"
        warnings.append(DataWarning(f"{left_out}: {reason}", untrainable))
    if not_found := len(resolutions.keys() - set(hashed.hashes)):
        matches = count(not_found, "correction matches", "corrections match")
        warnings.append(DataWarning(f"{matches} no image (missing or changed): {corrections}"))
    return corrected, warnings


def _drop_untrainable(pairs: Sequence[tuple[Sample, Sample]]) -> tuple[list[Sample], tuple[str, ...]]:
    """Drop evaluation images whose class occurs only in corrections, without any training image.

    Return the other corrected samples and the dropped names, for pairs of each sample as found and as corrected.
    """
    trained = {after.label for _, after in pairs if after.split not in EVALUATION_SPLITS}
    remaining, dropped = [], []
    for before, after in pairs:
        if not trained or after.label in trained or after.label == before.label:
            remaining.append(after)
        else:
            dropped.append(f"{after.name}: {after.label}")
    return remaining, tuple(dropped)


def _correct(sample: Sample, resolution: Resolution) -> Sample:
    label = compose(resolution.label or sample.label)
    extra_labels = sample.extra_labels if resolution.extra_labels is None else map(compose, resolution.extra_labels)
    labels = tuple(dict.fromkeys((label, *extra_labels)))
    known = dict(zip((sample.label, *sample.extra_labels), sample.area_fractions, strict=False))
    fractions = tuple(known[name] for name in labels if name in known)
    fractions = fractions if len(fractions) == len(labels) else ()
    return replace(sample, label=label, extra_labels=labels[1:], area_fractions=fractions)


def _find_excluded(hashed: HashedSamples, resolutions: Mapping[str, Resolution]) -> set[int]:
    """Return the `id` of each excluded sample."""
    copies: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample, key in zip(hashed.samples, hashed.hashes, strict=True):
        copies[key].append(sample)
    return {
        id(sample)
        for key, identical in copies.items()
        if key in resolutions
        for sample in _excluded_copies(identical, resolutions[key].copies)
    }


def _excluded_copies(identical: Sequence[Sample], resolutions: Sequence[CopyResolution]) -> list[Sample]:
    """Return the excluded ones of identical files; the last decision on each counts, however its path was written."""
    latest: dict[int, CopyResolution] = {}  # by index of the file
    for resolution in resolutions:
        latest[_match_copy(resolution, identical, latest)] = resolution
    return [identical[index] for index, resolution in latest.items() if resolution.excluded]


def _match_copy(resolution: CopyResolution, identical: Sequence[Sample], latest: Mapping[int, CopyResolution]) -> int:
    """Return the index of the file with the same path, or the longest common end, in the same split."""

    def similarity(index: int) -> tuple[bool, int, bool, bool, bool]:
        name, split = identical[index].name, identical[index].split
        in_split = (split or "train") == (resolution.split or "train")  # an audit names a missing split "train"
        is_repeated = index in latest and _same_path_suffix(resolution, latest[index])
        common = common_suffix_length(resolution.image, name)
        return name == resolution.image, common, in_split, is_repeated, index not in latest

    return max(range(len(identical)), key=similarity)


def _same_path_suffix(one: CopyResolution, other: CopyResolution) -> bool:
    """Return whether one path ends with the other."""
    return common_suffix_length(one.image, other.image) == min(len(Path(each.image).parts) for each in (one, other))
