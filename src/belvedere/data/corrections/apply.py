"""The decisions of a journal applied to the samples of a data set.

Knows how a photograph is found again by its content; does not know layouts, pages or models. Nothing on disk changes:
the samples come out with other labels, and some not at all, and every change is counted in a note.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from belvedere.data.corrections.journal import (
    active_decisions,
    common_suffix_length,
    damaged_note,
    read_corrections,
    rule,
)
from belvedere.data.hashing import Contents, read_contents
from belvedere.errors import DatasetError
from belvedere.runtime.progress import Progress
from belvedere.types.data import CopyResolution, Decision, Note, Resolution, Sample

EVALUATION_SPLITS = ("test", "val")  # parts whose photographs stay where nothing says which of two copies is meant


def apply_journal(
    samples: Sequence[Sample], journal: Path | str, progress: Progress | None = None
) -> tuple[list[Sample], list[Note]]:
    """Applies a person's decisions.

    A photograph is found by the hash of its file, so folders may have moved and files been renamed. Only files of a
    size that the journal names are hashed.

    Args:
        samples: Of a data set, as it was found.
        journal: What `belvedere review` wrote.
        progress: Shows how far it is.

    Returns:
        The samples in their order, with the labels that hold, those left out missing; and what was changed.

    Raises:
        UsageError: There is no such journal.
        DatasetError: Every photograph is left out.
    """
    text = read_corrections(journal)
    rulings = rule(text.decisions)
    contents = read_contents(_find_candidates(samples, active_decisions(text.decisions)), progress or Progress())
    corrected, notes = _apply(samples, contents, rulings, f"the journal {journal}")
    if samples and not corrected:
        raise DatasetError(f"The journal {journal} leaves out every photograph. Undo some of it with belvedere review.")
    return corrected, notes + damaged_note(journal, text.damaged)


def _find_candidates(samples: Sequence[Sample], decisions: Sequence[Decision]) -> list[Sample]:
    """The samples whose files may be ones that were decided on, by their size."""
    sizes = {decision.size_bytes for decision in decisions}
    return [sample for sample in samples if None in sizes or _size_of(sample.path) in sizes]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1  # can't be read: whoever reads the pictures says so


def _apply(
    samples: Sequence[Sample], contents: Contents, rulings: Mapping[str, Resolution], journal: str
) -> tuple[list[Sample], list[Note]]:
    hashes = {id(sample): key for key, sample in zip(contents.hashes, contents.samples, strict=True)}
    left_out = _find_excluded(contents, rulings)
    changed: dict[str, list[str]] = {"relabelled": [], "given other secondary labels": [], "left out": []}
    pairs = []
    for sample in samples:
        ruling = rulings.get(hashes.get(id(sample), ""))
        if id(sample) in left_out:
            changed["left out"].append(sample.image)
            continue
        after = sample if ruling is None else _correct(sample, ruling)
        if after.label != sample.label:
            changed["relabelled"].append(f"{sample.image}: {sample.label} to {after.label}")
        if set(after.also) != set(sample.also):
            changed["given other secondary labels"].append(f"{sample.image}: {', '.join(after.also) or 'none'}")
        pairs.append((sample, after))
    corrected, unlearnable = _leave_unlearnable(pairs)
    notes = [Note(f"{len(names)} {what} by {journal}", tuple(names)) for what, names in changed.items() if names]
    if unlearnable:
        words = f"{len(unlearnable)} left out: their class, which {journal} gives, has no photograph to train on"
        notes.append(Note(words, unlearnable))
    strangers = len(rulings.keys() - set(contents.hashes))
    if strangers:
        notes.append(Note(f"{strangers} decided on in {journal} not here, or changed since"))
    return corrected, notes


def _leave_unlearnable(pairs: Sequence[tuple[Sample, Sample]]) -> tuple[list[Sample], tuple[str, ...]]:
    """Leaves out what is held back of classes that only corrections name, and nobody could learn.

    Args:
        pairs: Samples as they were found, and corrected.

    Returns:
        The corrected that stay, and the others by name.
    """
    learnt = {after.label for _, after in pairs if after.part not in EVALUATION_SPLITS}

    def stays(before: Sample, after: Sample) -> bool:
        return not learnt or after.label in learnt or after.label == before.label

    kept = [after for before, after in pairs if stays(before, after)]
    left = tuple(f"{after.image}: {after.label}" for before, after in pairs if not stays(before, after))
    return kept, left


def _correct(sample: Sample, ruling: Resolution) -> Sample:
    label = ruling.label or sample.label
    also = sample.also if ruling.also is None else ruling.also
    names = tuple(dict.fromkeys((label, *also)))
    known = dict(zip((sample.label, *sample.also), sample.areas, strict=False))
    areas = tuple(known[name] for name in names if name in known)
    return replace(sample, label=label, also=names[1:], areas=areas if len(areas) == len(names) else ())


def _find_excluded(contents: Contents, rulings: Mapping[str, Resolution]) -> set[int]:
    """The copies that are left out, by identity."""
    copies: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample, key in zip(contents.samples, contents.hashes, strict=True):
        copies[key].append(sample)
    return {
        id(sample)
        for key, there in copies.items()
        if key in rulings
        for sample in _left_out(there, rulings[key].copies)
    }


def _left_out(there: Sequence[Sample], said: Sequence[CopyResolution]) -> list[Sample]:
    """Those of identical files that are left out: of each the last word counts, however its path was spelt."""
    words: dict[int, CopyResolution] = {}  # place of a file -> the last word on it
    for word in said:
        words[_find_place(word, there, words)] = word
    return [there[place] for place, word in words.items() if word.excluded]


def _find_place(word: CopyResolution, there: Sequence[Sample], words: Mapping[int, CopyResolution]) -> int:
    """Finds which file is meant: the one whose path is that, or ends most alike, in the same part."""

    def likeness(place: int) -> tuple[bool, int, bool, bool, bool]:
        image, part = there[place].image, there[place].part
        in_part = part == word.part if word.part else part not in EVALUATION_SPLITS
        spoken_of = place in words and _same_path_suffix(word, words[place])
        return image == word.image, common_suffix_length(word.image, image), in_part, spoken_of, place not in words

    return max(range(len(there)), key=likeness)


def _same_path_suffix(one: CopyResolution, other: CopyResolution) -> bool:
    """Whether two paths may be one, with more or fewer of the folders above it."""
    return common_suffix_length(one.image, other.image) == min(len(Path(each.image).parts) for each in (one, other))
