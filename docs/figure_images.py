"""The images of docs/figures.py: synthetic scenes, new ones, drawings of other things, and shots of one scene."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

import belvedere
from belvedere.data.hashing import hash_file
from belvedere.demo.scenes.scenes import draw_scene
from belvedere.images.decode import read_image
from belvedere.images.resize import resize_image
from belvedere.inference.model import Model
from belvedere.inference.postprocess import ModelOutputs

SCENES, SHOTS, SHIFT = 5, 8, 0.1  # scenes of a class, shots of a scene, largest shift as a fraction of the sides
TEST_FRACTION = 0.2
FIRST_SEED = 50_000_000  # of new scenes; those of the demo are far below

Labels = NDArray[np.int64]


class Demo:
    """Synthetic scenes with planted faults, as those of `belvedere demo`, and a model that is trained on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / "images"
        if not (folder / "run").exists():
            belvedere.make_synthetic_dataset(self.images, train_per_class=100, test_per_class=40, overwrite=True)
            belvedere.train(self.images, out=folder / "run", recipe="quick", epochs=15, validation_fraction=0.2)
        self.model = belvedere.load_model(folder / "run")
        self.truth = json.loads((self.images / "truth.json").read_text(encoding="utf-8"))
        self.faulty = {
            *(each["image"] for each in self.truth["wrong_labels"]),
            *(image for group in self.truth["duplicates"] for image in group),
            *self.truth["unreadable"],
        }

    def files(self, split: str, name: str, *, with_faults: bool = False) -> list[Path]:
        """Return the images of a class in a split, in order."""
        found = sorted((self.images / split / name).glob("*.jpg"))
        return [file for file in found if with_faults or file.relative_to(self.images).as_posix() not in self.faulty]

    def held_out_files(self) -> tuple[list[Path], Labels, NDArray[np.bool_]]:
        """Return the images that the training held out, their labels, (N,), and which labels are wrong, (N,)."""
        with (self.folder / "run" / "splits.csv").open(encoding="utf-8", newline="") as opened:
            hashes = {row["sha256"] for row in csv.DictReader(opened) if row["split"] == "val"}
        wrong = {self.images / each["image"] for each in self.truth["wrong_labels"]}
        unreadable = {self.images / image for image in self.truth["unreadable"]}
        files, labels = self._all_files("train")
        rows = [row for row, file in enumerate(files) if file not in unreadable and hash_file(file) in hashes]
        return [files[row] for row in rows], labels[rows], np.array([files[row] in wrong for row in rows])

    def test_files(self) -> tuple[list[Path], Labels]:
        """Return all test images and their labels, (N,)."""
        return self._all_files("test")

    def _all_files(self, split: str) -> tuple[list[Path], Labels]:
        by_class = [self.files(split, name, with_faults=True) for name in self.model.class_names]
        labels = np.repeat(np.arange(len(by_class)), [len(files) for files in by_class])
        return [file for files in by_class for file in files], labels


def raw_outputs(model: Model, images: Sequence[Image.Image | Path]) -> ModelOutputs:
    """Return the outputs of a model, such as logits, for images."""
    pixels = [read_image(each) if isinstance(each, Path) else np.asarray(each) for each in images]
    return model.forward_all(np.stack([resize_image(each, model.card.preprocess) for each in pixels]))


def draw_new_scenes(folder: Path, class_names: tuple[str, ...], per_class: int) -> None:
    """Write class folders of scenes that are not in the demo, without faults."""
    for k, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            scene = draw_scene(name, FIRST_SEED + k * per_class + number)
            Image.fromarray(scene.pixels).save(folder / name / f"{number:04d}.jpg", quality=90)


def draw_page(random: np.random.Generator) -> Image.Image:
    """Draw lines of words on paper."""
    image = Image.new("RGB", (150, 150), tuple(int(each) for each in random.integers(225, 256, 3)))
    pen, y = ImageDraw.Draw(image), 12
    while y < 140:
        x = 12
        while x < 120:
            width = int(random.integers(6, 26))
            pen.rectangle((x, y, min(x + width, 138), y + 4), fill=(40, 40, 46))
            x += width + 5
        y += int(random.integers(9, 12))
    return image


def draw_chart(random: np.random.Generator) -> Image.Image:
    """Draw a bar chart."""
    image = Image.new("RGB", (150, 150), (255, 255, 255))
    pen, color = ImageDraw.Draw(image), tuple(int(each) for each in random.integers(30, 200, 3))
    for x in range(18, 134, 16):
        pen.rectangle((x, int(random.integers(20, 120)), x + 10, 134), fill=color)
    pen.line((12, 12, 12, 135, 140, 135), fill=(30, 30, 30), width=2)
    return image


def draw_balls(random: np.random.Generator) -> Image.Image:
    """Draw balls on a plain ground, softened as by a lens."""
    image = Image.new("RGB", (150, 150), tuple(int(each) for each in random.integers(60, 230, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(random.integers(1, 5))):
        x, y, radius = (int(each) for each in random.integers((20, 20, 14), (130, 130, 45)))
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(box, fill=tuple(int(each) for each in random.integers(0, 256, 3)))
    return image.filter(ImageFilter.GaussianBlur(1))


def upside_down(file: Path) -> Image.Image:
    """Return a test image turned by 180 degrees."""
    return Image.open(file).convert("RGB").transpose(Image.Transpose.ROTATE_180)


def cut(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return one shot of a scene: shifted, a little lighter or darker."""
    side = round(image.width * (1 - SHIFT))
    left, top = (int(random.integers(0, image.width - side + 1)) for _ in range(2))
    shot = image.crop((left, top, left + side, top + side))
    return ImageEnhance.Brightness(shot).enhance(float(random.uniform(0.92, 1.08)))


def draw_bursts(demo: Demo, seed: int) -> tuple[list[Image.Image], Labels, NDArray[np.intp]]:
    """Return shots, their labels, (N,), and their scenes, (N,)."""
    random = np.random.default_rng(seed)
    shots: list[Image.Image] = []
    for name in demo.model.class_names:
        files = demo.files("train", name)
        for index in random.permutation(len(files))[:SCENES]:
            with Image.open(files[index]) as image:
                shots += [cut(image.convert("RGB"), random) for _ in range(SHOTS)]
    scenes = np.arange(len(shots)) // SHOTS
    return shots, (scenes // SCENES).astype(np.int64), scenes


def hold_out(names: NDArray[np.intp], seed: int) -> NDArray[np.bool_]:
    """Return which images, (N,), are held out: a fraction of the names of each class, which are in order."""
    random = np.random.default_rng(seed)
    by_class = np.unique(names).reshape(-1, len(np.unique(names)) // (len(names) // (SCENES * SHOTS)))
    count = max(1, round(TEST_FRACTION * by_class.shape[1]))
    return np.isin(names, [random.permutation(row)[:count] for row in by_class])
