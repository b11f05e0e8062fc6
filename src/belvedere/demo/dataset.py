"""A practice data set on disk: class folders for training and test, with planted faults that are all written down.

Knows which file holds which scene and what is wrong with it; does not know how a scene is drawn, and never decodes.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from belvedere.demo.scenes.drawing import CLASS_NAMES
from belvedere.demo.scenes.scenes import Scene, draw_fjord, draw_scene
from belvedere.errors import UsageError
from belvedere.runtime.files import write_json
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress

LEAST_TRAIN_PER_CLASS = 4  # leaves every planted fault a file of its own
WRONG_LABEL_SHARE = 0.02  # of the train pictures
LEAST_WRONG_LABELS = 3
JPEG_QUALITY = 90
TRUTH = "truth.json"
FJORD = "fjord.jpg"
SILENT = Progress()


@dataclass(frozen=True, slots=True)
class WrongLabel:
    """A picture that lies in the folder of a class it does not show."""

    image: str
    given: str  # the folder's class
    true: str  # the class with the largest area in the picture


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """All there is to know about a practice set; paths are relative to its folder, with forward slashes."""

    areas: Mapping[str, Mapping[str, float]]  # image -> class -> share of the picture; without the unreadable
    wrong_labels: tuple[WrongLabel, ...]
    duplicates: tuple[tuple[str, ...], ...]  # groups of files with equal bytes
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the set: what is drawn in it and where it lies."""

    image: str
    given: str
    shown: str
    seed: int
    truncated: bool = False


def make_synthetic_dataset(
    folder: Path,
    *,
    train_per_class: int = 100,
    test_per_class: int = 40,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> GroundTruth:
    """Draws a data set of scenes with planted faults into a fresh folder.

    It holds `train/CLASS/*.jpg`, `test/CLASS/*.jpg`, `fjord.jpg` and `truth.json`.

    Args:
        folder: Where it shall be.
        train_per_class: Files in each folder of `train`, planted faults among them.
        test_per_class: Files in each folder of `test`.
        seed: Chooses every picture and every fault.
        overwrite: Whether a practice set that is there may be replaced.
        progress: Where to report to, an image at a time.

    Returns:
        What `truth.json` holds.

    Raises:
        OutputExistsError: Something is there that may not be replaced.
        UsageError: Too few pictures to hold the planted faults, or the folder can't be made.
    """
    if train_per_class < LEAST_TRAIN_PER_CLASS or test_per_class < 1 or seed < 0:
        raise UsageError(
            f"A practice set needs train_per_class >= {LEAST_TRAIN_PER_CLASS}, test_per_class >= 1 and seed >= 0. "
            f"Received: train_per_class={train_per_class}, test_per_class={test_per_class}, seed={seed}."
        )
    files = _plan(train_per_class, test_per_class, seed)
    with atomic_folder(folder, overwrite=overwrite) as partial, progress.task("Drawing", len(files) + 1) as task:
        areas: dict[str, Mapping[str, float]] = {}
        for image, scene, content in _draw(files, seed):
            target = partial / image
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            areas[image] = scene.shares
            task.advance(1)
        truth = _truth(files, areas)
        write_json(partial / TRUTH, asdict(truth))
    return truth


def _plan(train_per_class: int, test_per_class: int, seed: int) -> list[_File]:
    """Says for every file what it shall show, with the faults planted in files chosen by chance."""
    files = [
        _File(f"{part}/{name}/{number:04d}.jpg", name, name, 0)
        for part, count in (("train", train_per_class), ("test", test_per_class))
        for name in CLASS_NAMES
        for number in range(1, count + 1)
    ]
    first_test = train_per_class * len(CLASS_NAMES)
    files = [replace(file, seed=seed * 1_000_003 + index) for index, file in enumerate(files)]
    rng = np.random.default_rng((7, seed))
    same_class = int(rng.integers(len(CLASS_NAMES))) * train_per_class + rng.permutation(train_per_class)[:2]
    free = [int(index) for index in rng.permutation(first_test) if index not in same_class]
    first, second = (int(index) for index in same_class)
    files[second] = _copy(files[first], files[second])
    original = free.pop()
    other_class = next(index for index in free if files[index].given != files[original].given)
    free.remove(other_class)
    files[other_class] = _copy(files[original], files[other_class])
    leaking = free.pop()
    place = first_test + CLASS_NAMES.index(files[leaking].given) * test_per_class + int(rng.integers(test_per_class))
    files[place] = _copy(files[leaking], files[place])
    cut = free.pop()
    files[cut] = replace(files[cut], truncated=True)
    for _ in range(max(LEAST_WRONG_LABELS, round(WRONG_LABEL_SHARE * first_test))):
        index = free.pop()
        others = [name for name in CLASS_NAMES if name != files[index].given]
        files[index] = replace(files[index], shown=others[int(rng.integers(len(others)))])
    return files


def _copy(source: _File, target: _File) -> _File:
    """The target's file with the source's picture in it."""
    return replace(target, shown=source.shown, seed=source.seed)


def _draw(files: list[_File], seed: int) -> Iterator[tuple[str, Scene, bytes]]:
    """Draws the files one after the other, and the fjord."""
    for file in files:
        scene = draw_scene(file.shown, file.seed)
        content = _to_jpeg(scene)
        yield file.image, scene, content[: len(content) // 3] if file.truncated else content
    fjord = draw_fjord(seed)
    yield FJORD, fjord, _to_jpeg(fjord)


def _to_jpeg(scene: Scene) -> bytes:
    content = io.BytesIO()
    Image.fromarray(scene.pixels).save(content, "JPEG", quality=JPEG_QUALITY)
    return content.getvalue()


def _truth(files: list[_File], areas: Mapping[str, Mapping[str, float]]) -> GroundTruth:
    """Collects the faults from what was drawn."""
    unreadable = tuple(file.image for file in files if file.truncated)
    groups: dict[tuple[str, int], list[str]] = {}
    for file in files:
        groups.setdefault((file.shown, file.seed), []).append(file.image)
    return GroundTruth(
        areas={image: shares for image, shares in areas.items() if image not in unreadable},
        wrong_labels=tuple(
            WrongLabel(file.image, file.given, file.shown) for file in files if file.shown != file.given
        ),
        duplicates=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        unreadable=unreadable,
    )
