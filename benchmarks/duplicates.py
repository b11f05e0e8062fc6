"""Recall, precision and time of duplicate detection on planted duplicates.

python benchmarks/duplicates.py DATA [--planted 500] [--among 15000] [--seed 0] [--peer]

Makes duplicates of five kinds (resized 0.4 to 2 times, JPEG quality 15 to 60, cropped to 90% of both sides, mirrored,
brightness 0.5 to 1.6 times), a fifth each, and audits everything without labels. A planted duplicate is found if it
is grouped with its original, or with a natural duplicate of the original. A pair of a planted duplicate and another
image is wrong, unless the same method also groups that image with the original when nothing is planted. Each method,
and each distance of the peer, is judged by its own natural pairs.

`--peer` also measures imagehash's perceptual hash at several distances, all pairs compared. Identical files of DATA
are counted first: groups, conflicting labels, leaks and seconds.
"""

import argparse
import csv
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

import belvedere
from belvedere.data.dataset import load_dataset
from belvedere.runtime.progress import LineProgress
from belvedere.types.audit import Audit
from belvedere.types.data import Sample

KINDS = ("resized", "compressed", "cut", "mirrored", "brightened")
CROPPED_TO = 0.9  # of both sides of a cut copy
Pairs = set[tuple[str, str]]


def make_copy(image: Image.Image, kind: str, random: np.random.Generator, file: Path) -> None:
    """Write a duplicate of one kind."""
    width, height = image.size
    quality = 90
    if kind == "resized":
        factor = random.uniform(0.4, 2.0)
        image = image.resize((round(width * factor), round(height * factor)), Image.Resampling.BICUBIC)
    elif kind == "compressed":
        quality = int(random.integers(15, 60))
    elif kind == "cut":
        wide, high = round(width * CROPPED_TO), round(height * CROPPED_TO)
        left, top = int(random.integers(width - wide + 1)), int(random.integers(height - high + 1))
        image = image.crop((left, top, left + wide, top + high))
        if random.random() < 0.5:
            image = image.resize((width, height), Image.Resampling.BICUBIC)
    elif kind == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    else:
        factor = random.uniform(1.2, 1.6) if random.random() < 0.7 else random.uniform(0.5, 0.8)
        image = ImageEnhance.Brightness(image).enhance(factor)
    image.save(file, quality=quality)


def plant(
    samples: list[Sample], count: int, seed: int, folder: Path
) -> tuple[list[Sample], dict[str, tuple[str, str]]]:
    """Write duplicates; return their samples, and kind and original of each."""
    random = np.random.default_rng(seed)
    copies: list[Sample] = []
    truth: dict[str, tuple[str, str]] = {}
    for number, index in enumerate(random.permutation(len(samples))[:count]):
        source, kind = samples[index], KINDS[number % len(KINDS)]
        file = folder / f"{kind}{number:04d}.jpg"
        make_copy(Image.open(source.path).convert("RGB"), kind, random, file)
        copies.append(Sample(file, str(file), source.label, source.split))
        truth[str(file)] = (kind, source.name)
    return copies, truth


def write_table(file: Path, samples: Iterable[Sample]) -> Path:
    """Write samples as a table without splits."""
    with file.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["image", "label"])
        table.writerows([sample.path.resolve(), sample.label] for sample in samples)
    return file


def audit(data: Path, near: bool = True) -> tuple[Audit, str]:
    """Audit without labels; return the result, wall-clock seconds and CPU seconds."""
    start, busy = time.perf_counter(), time.process_time()
    found = belvedere.audit(data, label_issues=False, near_duplicates=near, progress=LineProgress())
    return found, f"{time.perf_counter() - start:.0f} s ({time.process_time() - busy:.0f} s of processor)"


def pairs_of(groups: Iterable[Iterable[str]]) -> Pairs:
    """Return all pairs within groups, each sorted."""
    pairs: Pairs = set()
    for group in groups:
        members = sorted(group)
        pairs |= {(first, second) for index, first in enumerate(members) for second in members[index + 1 :]}
    return pairs


def judge(name: str, pairs: Pairs, truth: Mapping[str, tuple[str, str]], natural: Pairs) -> None:
    """Print recall by kind, and precision over all pairs with a planted duplicate."""
    partners: defaultdict[str, set[str]] = defaultdict(set)
    for first, second in pairs:
        partners[first].add(second)
        partners[second].add(first)
    known: defaultdict[str, set[str]] = defaultdict(set)
    for first, second in natural:
        known[first].add(second)
        known[second].add(first)
    found, planted, right, wrong = Counter[str](), Counter[str](), 0, 0
    for copy, (kind, source) in truth.items():
        planted[kind] += 1
        own = {source} | known[source]
        found[kind] += bool(partners[copy] & own)
        for other in partners[copy]:
            origin = truth[other][1] if other in truth else other
            right, wrong = right + (origin in own), wrong + (origin not in own)
    listed = ", ".join(f"{kind} {found[kind] / planted[kind]:.3f}" for kind in KINDS)
    total = sum(found.values()) / max(sum(planted.values()), 1)
    print(f"{name}: recall {total:.4f} ({listed}), precision {right / max(right + wrong, 1):.4f} ({wrong} wrong pairs)")


def print_identical(data: Path) -> None:
    """Print the identical files of a dataset."""
    found, seconds = audit(data, near=False)
    groups = [group for group in found.groups if group.kind in ("duplicate_file", "duplicate_pixels")]
    print(
        f"{found.num_images} images, duplicates: {len(groups)} groups of {sum(len(group.images) for group in groups)}, "
        f"{sum(group.has_conflicting_labels for group in groups)} with conflicting labels, "
        f"{sum(group.is_split_leak for group in groups)} split leaks; {seconds}"
    )


def print_peer(samples: list[Sample], truth: Mapping[str, tuple[str, str]]) -> None:
    """Measure imagehash's 64-bit perceptual hash on all pairs, with its own natural pairs."""
    import imagehash

    start = time.perf_counter()
    names = [str(sample.path.resolve()) for sample in samples]
    hashes = np.array([int(str(imagehash.phash(Image.open(sample.path))), 16) for sample in samples], np.uint64)
    by_distance: dict[int, Pairs] = {2: set(), 4: set(), 8: set(), 10: set()}
    for row, value in enumerate(hashes):
        distances = np.bitwise_count(hashes[row + 1 :] ^ value)
        for most, pairs in by_distance.items():
            near = np.flatnonzero(distances <= most) + row + 1
            pairs.update(tuple(sorted((names[row], names[index]))) for index in near)  # type: ignore[misc]
    print(f"imagehash: {time.perf_counter() - start:.0f} s for hashes and all pairs")
    for most, pairs in by_distance.items():
        # A pair's distance does not depend on other files: these are the pairs of a run without the planted ones.
        natural = {pair for pair in pairs if truth.keys().isdisjoint(pair)}
        judge(f"imagehash, distance {most} or less", pairs, truth, natural)


def main() -> None:
    """Print all metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--planted", type=int, default=500)
    parser.add_argument("--among", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    print_identical(options.data)
    dataset = load_dataset(options.data)
    samples = [Sample(s.path.resolve(), str(s.path.resolve()), s.label, None) for s in dataset.samples[: options.among]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        before, seconds = audit(write_table(folder / "before.csv", samples))
        natural = pairs_of(group.images for group in before.groups)
        near = [group for group in before.groups if group.kind == "near_duplicate"]
        print(f"{len(samples)} as they are: {len(near)} groups of near duplicates, {seconds}")
        copies, truth = plant(samples, options.planted, options.seed, folder)
        after, seconds = audit(write_table(folder / "after.csv", [*samples, *copies]))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"{len(samples)} and {len(copies)} planted: {seconds}, {memory:,.0f} MB at most")
        judge("belvedere", pairs_of(group.images for group in after.groups), truth, natural)
        if options.peer:
            print_peer([*samples, *copies], truth)


if __name__ == "__main__":
    main()
