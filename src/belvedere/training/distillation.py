"""Distillation: predictions of a teacher as targets beside the labels (Hinton et al. 2015, arXiv 1503.02531)."""

import hashlib
import tomllib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.data.labels import compose
from belvedere.data.splits import DataSplit
from belvedere.errors import TrainingError, UsageError
from belvedere.images.listing import SkippedFiles, list_images
from belvedere.inference.embeddings import BATCH_SIZE, read_embeddings
from belvedere.inference.tags import multi_hot
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.training.augment import CropBoxes, crop_resize, sample_crops
from belvedere.training.data_loader import SoftTargets
from belvedere.training.device import Device
from belvedere.training.input_size import time_embedding
from belvedere.training.networks import PretrainedNetwork, architecture_for
from belvedere.training.networks.registry import Network
from belvedere.training.recipe_config import read_config
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import repeats_per_epoch
from belvedere.types.data import DataWarning, Sample
from belvedere.types.model import Preprocess

UNLABELED = ""  # instead of a class name
BACKBONE = "features.backbone.model."  # prefix of a backbone's weights
CROPS_VERSION = 2  # of cached predictions: how crops are resized
MAX_TEACHER_FRACTION = 0.5  # of the time left, for the predictions of the teacher


@dataclass(frozen=True)
class Teacher:
    """A trained network that predicts some crops of each training image, once.

    The student gets the same crops: a prediction for a whole image does not fit a quarter of it (Beyer et al. 2021,
    https://arxiv.org/abs/2106.05237). Caching predictions of some crops is after Shen and Xing 2021
    (https://arxiv.org/abs/2112.01528).
    """

    network: Network  # on the device
    device: Device
    recipe: Recipe  # of the student
    image_size: int  # of the crops that the teacher gets, pixels
    num_classes: int  # K
    sha256: str  # of its weights

    @property
    def embedding_dim(self) -> int:
        """D of the embeddings that the student learns; 0 without them."""
        return self.network.classify.in_features if self.recipe.distillation_embedding_weight else 0

    def make_soft_targets(
        self,
        contents: HashedSamples,
        source: Preprocess,
        num_crops: int,
        labels: NDArray[np.int64],
        targets: NDArray[np.float32] | None,
        progress: Progress,
    ) -> SoftTargets:
        """Predict crops of N images, preprocessed as `source`, or read the cached predictions, and mix in the labels.

        The targets, (N, K), if given, replace the labels, (N,). With the label -1, only predictions count.

        Raises:
            CacheError: The cache cannot be written.
            TrainingError: An image was changed in the meantime.
        """
        embeddings = read_embeddings(contents, TeacherCropEmbedder(self, source, num_crops), progress)
        if len(embeddings.samples) < len(labels):
            raise TrainingError("Images were changed or removed during the training. Start again.")
        crops = embeddings.values.reshape(len(labels), num_crops, -1)
        boxes, predicted, features = np.split(crops, (4, 4 + self.num_classes), 2)
        if targets is None:
            smoothing = np.float32(self.recipe.label_smoothing)
            one_hot = np.eye(self.num_classes, dtype=np.float32)[labels]
            targets = (1 - smoothing) * one_hot + smoothing / self.num_classes
        alpha = np.where(labels < 0, 1.0, self.recipe.distillation_alpha).astype(np.float32)[:, None, None]
        mixed = alpha * predicted + (1 - alpha) * targets[:, None]
        return SoftTargets(boxes, mixed, features if self.embedding_dim else None)

    def count_crops(self, num_images: int, seconds: float | None) -> int:
        """Return the number of crops per image: as many as are shown, and as fit into half of the seconds left, if any.

        Raises:
            UsageError: The time is too short for one crop of each image.
        """
        recipe = self.recipe
        if recipe.crop_scale[0] == 1 and recipe.crop_ratio == (1.0, 1.0):
            wanted = 1  # the whole image
        else:
            shown = repeats_per_epoch(num_images, recipe) * -(-recipe.epochs // 2)
            wanted = min(recipe.teacher_crops_per_image, shown)
        if seconds is None:
            return wanted
        one_crop = time_embedding(self.network, self.image_size, self.device) * num_images
        if one_crop > MAX_TEACHER_FRACTION * seconds:
            raise UsageError(
                f"Too little time for the teacher: one crop of each of {num_images} images takes about {one_crop:.0f} "
                f"s, and {max(0, seconds):.0f} s are left. Give more `max_minutes`, a smaller `teacher_image_size`, or "
                "no `teacher`."
            )
        return min(wanted, int(MAX_TEACHER_FRACTION * seconds / one_crop))

    def predict(self, images: Tensor, boxes: CropBoxes) -> tuple[Tensor, Tensor]:
        """Return probabilities, (N, K), without a temperature, and embeddings, (N, D), of crops of images.

        The images are (N, H, W, 3) uint8.
        """
        with torch.inference_mode(), self.device.autocast():
            pixels = crop_resize(images, boxes, self.image_size, self.device.precision)
            embedding = self.network.forward_embedding(pixels.contiguous(memory_format=torch.channels_last))
            logits: Tensor = self.network.classify(embedding)
        return logits.float().softmax(1), embedding.float()


@dataclass(frozen=True)
class TeacherCropEmbedder:
    """Crops of an image with their predictions and embeddings, in the format of one embedding."""

    teacher: Teacher
    preprocess: Preprocess
    num_crops: int  # V

    @property
    def name(self) -> str:
        """Name of all that determines crops and predictions."""
        teacher, recipe = self.teacher, self.teacher.recipe
        crops = "-".join(map(repr, (self.num_crops, *recipe.crop_scale, *recipe.crop_ratio)))
        kind = "crop-embeddings" if teacher.embedding_dim else "crops"
        return f"{kind}-v{CROPS_VERSION}-{teacher.sha256[:16]}-{crops}-{teacher.image_size}-{teacher.device.key}"

    @property
    def embedding_dim(self) -> int:
        """V (4 + K + D): for each crop, its box as fractions of the image, its probabilities and its embedding."""
        return self.num_crops * (4 + self.teacher.num_classes + self.teacher.embedding_dim)

    @property
    def batch_size(self) -> int:
        """One batch, which all threads compute."""
        return BATCH_SIZE

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (n, V (4 + K + D)) for images, (n, H, W, 3); the pixels of an image determine its crops."""
        height, width = images.shape[1:3]
        boxes = [self._sample_crops(image) for image in images]
        on_device = torch.from_numpy(images).to(self.teacher.device.torch_device)
        found = np.empty((len(images), self.num_crops, self.embedding_dim // self.num_crops), np.float32)
        num_classes, dim = self.teacher.num_classes, self.teacher.embedding_dim
        for view in range(self.num_crops):
            crops = np.array([(box.top[view], box.left[view], box.height[view], box.width[view]) for box in boxes])
            top, left, rows, columns = crops.T
            batch = CropBoxes(top, left, rows, columns, np.zeros(len(images), bool))
            found[:, view, :4] = crops / (height, width, height, width)
            probabilities, embedding = self.teacher.predict(on_device, batch)
            found[:, view, 4 : 4 + num_classes] = probabilities.cpu().numpy()
            found[:, view, 4 + num_classes :] = embedding[:, :dim].cpu().numpy()
        return found.reshape(len(images), -1)

    def _sample_crops(self, image: NDArray[np.uint8]) -> CropBoxes:
        random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image).data))
        return sample_crops(np.zeros(self.num_crops, bool), image.shape[0], image.shape[1], self.teacher.recipe, random)


def load_teacher(recipe: Recipe, class_names: Sequence[str], device: Device) -> Teacher | None:
    """Load the teacher of a recipe; None without one.

    Raises:
        UsageError: It is not a run folder, has other classes, or does not accept the size of the crops.
    """
    if not recipe.teacher:
        return None
    run = Path(recipe.teacher)
    teacher_recipe, names, weights = read_run(run, "teacher")
    if names != tuple(class_names):
        raise UsageError(
            f"The teacher {run} has other classes: {', '.join(names)}. Expected: {', '.join(class_names)}. Train a "
            "teacher on the same classes."
        )
    if teacher_recipe.resize != recipe.resize:
        raise UsageError(
            f"The teacher {run} was trained with another `resize`: {teacher_recipe.resize!r}. "
            f"Received: {recipe.resize!r}. Set `resize` to the teacher's."
        )
    spec = architecture_for(teacher_recipe)
    network, size = spec.create(len(names)).eval(), recipe.teacher_image_size or spec.preprocess.height
    try:
        _load_weights(network, safetensors.torch.load(weights), str(run))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise UsageError(
            f"The weights of the teacher {run} cannot be loaded: {_last_line(error)}. Train the teacher again."
        ) from error
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"The teacher {run} does not accept crops of {size} x {size} pixels: {_last_line(error)}. Choose another "
            "`teacher_image_size`, or leave it out."
        ) from error
    device.move_network(network)
    if not recipe.image_size_schedule:  # the student gets whole images, whatever its crop settings
        recipe = replace(recipe, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    return Teacher(network, device, recipe, size, len(names), hashlib.sha256(weights).hexdigest())


def _load_weights(network: Network, tensors: dict[str, Tensor], name: str) -> None:
    """Load the weights of a run; a pretrained network may end before the last layers of its backbone."""
    if isinstance(network, PretrainedNetwork):
        own = {key.removeprefix(BACKBONE): value for key, value in tensors.items() if key.startswith(BACKBONE)}
        network.load_backbone_weights(own, name)
    network.load_state_dict(tensors)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def weights_path(run: Path | str) -> Path:
    """Return the weights file of a run folder."""
    return Path(run) / "weights.safetensors"


def read_run(run: Path, role: str) -> tuple[Recipe, tuple[str, ...], bytes]:
    """Return recipe, class names and weights of a run, which errors name by its role.

    Raises:
        UsageError: It is not a run folder.
    """
    config = run / "config.toml"
    try:
        values, weights = tomllib.loads(config.read_text(encoding="utf-8")), weights_path(run).read_bytes()
        listed = values["run"]["class_names"]
        if not isinstance(listed, list):
            raise TypeError(f"class_names is not a list: {listed!r}")
        names = tuple(compose(str(name)) for name in listed)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(
            f"The {role} {run} is not a run folder: {getattr(error, 'strerror', None) or error}. Expected config.toml "
            "and weights.safetensors. Choose the folder of a finished run."
        ) from error
    return read_config(config, RECIPES["article"]), names, weights  # a run's config sets every key


def find_unlabeled(recipe: Recipe, split: DataSplit, progress: Progress) -> HashedSamples:
    """Return the unlabeled images of a recipe that are in no split.

    Raises:
        UsageError: The folder cannot be read, or has no image.
    """
    if not recipe.unlabeled:
        return HashedSamples((), ())
    known = {*split.train.hashes, *split.validation.hashes, *split.hashed_test.hashes}
    found = list_unlabeled(recipe.unlabeled, progress)
    new = found.select(index for index, key in enumerate(found.hashes) if key not in known)
    duplicates = len(found.samples) - len(new.samples)
    progress.log(f"Unlabeled images: {len(new.samples)}, without {duplicates} that are in the dataset.")
    return replace(new, unreadable=found.unreadable)


def list_unlabeled(folder: str, progress: Progress) -> HashedSamples:
    """Return the images of a folder, without those of result folders of Belvedere's in it.

    Raises:
        UsageError: The folder cannot be read, or has no image.
    """
    root = Path(folder)
    try:
        results = {mark.parent for mark in root.rglob(MARKER_FILE)} - {root}
        skipped = SkippedFiles()
        paths = [path for path in list_images(root, skipped) if results.isdisjoint(path.parents)]
    except OSError as error:
        raise UsageError(
            f"Cannot read the unlabeled images {folder}: {error.strerror}. Choose another folder."
        ) from error
    if not paths:
        found = f", only {skipped}" if skipped else ""
        raise UsageError(f"No unlabeled images in {folder}{found}. Choose another folder.")
    return hash_samples([Sample(path, str(path), UNLABELED, "train") for path in paths], progress)


def unlabeled_warnings(unlabeled: HashedSamples) -> tuple[DataWarning, ...]:
    """Return a warning about unlabeled images that cannot be opened."""
    names = tuple(f"{sample.name}: {reason}" for sample, reason in unlabeled.unreadable)
    return (DataWarning(f"{count(len(names), 'unlabeled image')} left out: cannot be opened", names),) if names else ()


def multilabel_targets(
    samples: Sequence[Sample], class_names: Sequence[str], smoothing: float
) -> NDArray[np.float32] | None:
    """Return targets that divide each image evenly among its labels, after Mahajan et al. 2018 (arXiv 1805.00932).

    Returns:
        (N, K), each row with the sum 1; None if every image has one label.
    """
    if not any(sample.extra_labels for sample in samples):
        return None
    marks = multi_hot(samples, class_names).astype(np.float32)
    fractions: NDArray[np.float32] = marks / np.maximum(marks.sum(1, keepdims=True), 1)
    return (1 - smoothing) * fractions + np.float32(smoothing / len(class_names))
