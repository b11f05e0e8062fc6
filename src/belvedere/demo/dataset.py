"""A synthetic dataset on disk: class folders for training and test, with planted and documented faults."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from belvedere.demo.scenes.drawing import CLASS_NAMES
from belvedere.demo.scenes.scenes import Scene, draw_fjord, draw_scene
from belvedere.errors import UsageError
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.serialization import write_json

MIN_TRAIN_PER_CLASS = 4  # room for one planted fault per file
WRONG_LABEL_FRACTION = 0.02  # of the training images
MIN_WRONG_LABELS = 3
JPEG_QUALITY = 90
TRUTH = "truth.json"
FJORD = "fjord.jpg"
FJORD_SEED = 28  # by day, in clear air; the same image whatever the seed of the dataset


@dataclass(frozen=True, slots=True)
class WrongLabel:
    """An image in the folder of another class."""

    image: str
    given: str  # class of the folder
    true: str  # class with the largest area in the image


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Content and faults of a synthetic dataset; paths are relative to its folder, with forward slashes."""

    areas: Mapping[str, Mapping[str, float]]  # image -> class -> fraction of its area; without unreadable images
    wrong_labels: tuple[WrongLabel, ...]
    duplicates: tuple[tuple[str, ...], ...]  # groups of identical files
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    image: str
    given: str  # class of the folder
    shown: str  # class that is drawn
    seed: int
    truncated: bool = False


def make_synthetic_dataset(
    folder: Path | str,
    *,
    train_per_class: int = 100,
    test_per_class: int = 40,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> GroundTruth:
    """Draw a dataset of scenes with planted faults: wrong labels, duplicates, a split leak and a truncated file.

    Args:
        folder: Folder to make, with `train/CLASS/*.jpg`, `test/CLASS/*.jpg`, `fjord.jpg` and `truth.json`.
        train_per_class: Number of training images per class, planted faults included.
        test_per_class: Number of test images per class.
        seed: Seed for faults and all images but the fjord.
        overwrite: Whether an older synthetic dataset may be replaced.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The content of `truth.json`.

    Raises:
        OutputExistsError: The folder exists and may not be replaced.
        UsageError: Too few images for the planted faults, or the folder cannot be made.
    """
    if train_per_class < MIN_TRAIN_PER_CLASS or test_per_class < 1 or seed < 0:
        raise UsageError(
            f"A synthetic dataset needs train_per_class >= {MIN_TRAIN_PER_CLASS}, test_per_class >= 1 and seed >= 0. "
            f"Received: train_per_class={train_per_class}, test_per_class={test_per_class}, seed={seed}."
        )
    files = _plan(train_per_class, test_per_class, seed)
    task_of = choose_progress(progress).task
    with atomic_folder(Path(folder), overwrite=overwrite) as partial, task_of("Drawing", len(files) + 1) as task:
        areas: dict[str, Mapping[str, float]] = {}
        for image, scene, content in _draw(files):
            target = partial / image
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            areas[image] = scene.area_fractions
            task.advance(1)
        truth = _collect_truth(files, areas)
        write_json(partial / TRUTH, asdict(truth))
    return truth


def _plan(train_per_class: int, test_per_class: int, seed: int) -> list[_File]:
    """Choose the scene of each file, and plant faults in random files."""
    files = [
        _File(f"{split}/{name}/{number:04d}.jpg", name, name, 0)
        for split, count in (("train", train_per_class), ("test", test_per_class))
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
    leaked = free.pop()
    leak = first_test + CLASS_NAMES.index(files[leaked].given) * test_per_class + int(rng.integers(test_per_class))
    files[leak] = _copy(files[leaked], files[leak])
    truncated = free.pop()
    files[truncated] = replace(files[truncated], truncated=True)
    for _ in range(max(MIN_WRONG_LABELS, round(WRONG_LABEL_FRACTION * first_test))):
        index = free.pop()
        others = [name for name in CLASS_NAMES if name != files[index].given]
        files[index] = replace(files[index], shown=others[int(rng.integers(len(others)))])
    return files


def _copy(source: _File, target: _File) -> _File:
    return replace(target, shown=source.shown, seed=source.seed)


def _draw(files: list[_File]) -> Iterator[tuple[str, Scene, bytes]]:
    def draw(file: _File) -> tuple[str, Scene, bytes]:
        scene = draw_scene(file.shown, file.seed)
        content = _to_jpeg(scene)
        return file.image, scene, content[: len(content) // 3] if file.truncated else content

    yield from map(draw, files)  # threads are no faster: NumPy on small arrays holds the GIL
    fjord = draw_fjord(FJORD_SEED)
    yield FJORD, fjord, _to_jpeg(fjord)


def _to_jpeg(scene: Scene) -> bytes:
    content = io.BytesIO()
    Image.fromarray(scene.pixels).save(content, "JPEG", quality=JPEG_QUALITY)
    return content.getvalue()


def _collect_truth(files: list[_File], areas: Mapping[str, Mapping[str, float]]) -> GroundTruth:
    unreadable = tuple(file.image for file in files if file.truncated)
    groups: dict[tuple[str, int], list[str]] = {}
    for file in files:
        groups.setdefault((file.shown, file.seed), []).append(file.image)
    return GroundTruth(
        areas={image: fractions for image, fractions in areas.items() if image not in unreadable},
        wrong_labels=tuple(
            WrongLabel(file.image, file.given, file.shown) for file in files if file.shown != file.given
        ),
        duplicates=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        unreadable=unreadable,
    )
