"""A teacher's answers as something to learn from beside the labels.

Knows how answers and labels are mixed (Hinton et al. 2015, https://arxiv.org/abs/1503.02531); does not know how either
is learnt.
"""

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

from belvedere.data.hashing import Contents
from belvedere.errors import TrainingError, UsageError
from belvedere.inference.embeddings import read_embeddings
from belvedere.inference.tags import multi_hot
from belvedere.runtime.progress import Progress
from belvedere.training.augment import Boxes, cut, sample_crops
from belvedere.training.data_loader import SoftTargets
from belvedere.training.device import Hardware
from belvedere.training.input_size import time_picture
from belvedere.training.networks import PretrainedNetwork, architecture_for
from belvedere.training.networks.registry import Network
from belvedere.training.recipe_config import read_config
from belvedere.training.recipes import RECIPES, Recipe
from belvedere.training.schedule import repeats_per_epoch
from belvedere.types.data import Sample
from belvedere.types.model import Preprocess

BACKBONE = "features.backbone.model."  # before the names of a backbone's weights
TIME_ASKING = 0.5  # of the time that is left, for the teacher's answers


@dataclass(frozen=True)
class Teacher:
    """A trained network that is learnt from: it answers, once, for some crops of each photograph.

    The learner is shown these crops: an answer for a whole photograph does not fit a quarter of it (Beyer et al. 2021,
    https://arxiv.org/abs/2106.05237; kept for some crops, Shen and Xing 2021, https://arxiv.org/abs/2112.01528).
    """

    network: Network  # where training runs
    hardware: Hardware
    recipe: Recipe  # of the learner: how many crops, of which sizes, and how much the answers count
    side: int  # of the crops that the teacher sees, pixels
    classes: int  # K
    sha256: str  # of its weights

    def prepare(
        self,
        contents: Contents,
        source: Preprocess,
        crops: int,
        labels: NDArray[np.int64],
        shared: NDArray[np.float32] | None,
        progress: Progress,
    ) -> SoftTargets:
        """Asks the teacher, or the cache, about crops of photographs, and mixes the answers with the labels.

        Args:
            contents: N photographs that can be read.
            source: How the pictures are read that crops are cut from.
            crops: V, how many of each.
            labels: (N,); -1 where there is none, and the teacher's answer is all.
            shared: (N, K), instead of the labels, where a picture has several.
            progress: Shows how far it is.

        Raises:
            CacheError: The cache can't be written.
            TrainingError: A photograph was changed meanwhile.
        """
        answered = read_embeddings(contents, TeacherCropEmbedder(self, source, crops), progress)
        if len(answered.samples) < len(labels):
            raise TrainingError("Photographs have been changed while they were learnt from. Start again.")
        found = answered.values.reshape(len(labels), -1, 4 + self.classes)
        if shared is None:
            smoothing = np.float32(self.recipe.label_smoothing)
            shared = (1 - smoothing) * np.eye(self.classes, dtype=np.float32)[labels] + smoothing / self.classes
        share = np.where(labels < 0, 1.0, self.recipe.distillation_alpha).astype(np.float32)[:, None, None]
        return SoftTargets(found[..., :4], share * found[..., 4:] + (1 - share) * shared[:, None])

    def count_crops(self, photographs: int, seconds: float | None) -> int:
        """Counts the crops to ask about: no more than will be shown, and what half of the time is enough for.

        Args:
            photographs: How many there are.
            seconds: That are left for all of it; None for no end.

        Raises:
            UsageError: It is not enough for one crop of each.
        """
        recipe = self.recipe
        if recipe.crop_scale[0] == 1 and recipe.crop_ratio == 1:
            wanted = 1  # the whole picture
        else:
            shown = repeats_per_epoch(photographs, recipe) * -(-recipe.epochs // 2)
            wanted = min(recipe.teacher_crops_per_image, shown)
        if seconds is None:
            return wanted
        once = time_picture(self.network, self.side, self.hardware) * photographs
        if once > TIME_ASKING * seconds:
            raise UsageError(
                f"To answer once for each of {photographs} photographs takes the teacher about {once:.0f} s, and "
                f"{max(0, seconds):.0f} s are left for all. Give more --max-minutes, a smaller teacher_image_size, "
                "or no teacher."
            )
        return min(wanted, int(TIME_ASKING * seconds / once))

    def answer(self, images: Tensor, boxes: Boxes) -> Tensor:
        """Returns its probabilities for crops of pictures, (N, H, W, 3) uint8: (N, K), before any temperature."""
        with torch.inference_mode(), self.hardware.autocast():
            pixels = cut(images, boxes, self.side, self.hardware.precision)
            logits: Tensor = self.network(pixels.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(1)


@dataclass(frozen=True)
class TeacherCropEmbedder:
    """A teacher as what describes pictures: by crops, and its probabilities for each of them."""

    teacher: Teacher
    preprocess: Preprocess
    crops: int  # V

    @property
    def name(self) -> str:
        """Names all that decides the crops and the answers."""
        asked, recipe = self.teacher, self.teacher.recipe
        kinds = f"{self.crops}-{recipe.crop_scale[0]!r}-{recipe.crop_scale[1]!r}-{recipe.crop_ratio!r}"
        on = f"{asked.hardware.device.type}-{asked.hardware.precision_name}"
        return f"crops-{asked.sha256[:16]}-{kinds}-{asked.side}-{on}"

    @property
    def width(self) -> int:
        """V (4 + K): a crop, as shares of height and width, and what is said of it, one after the other."""
        return self.crops * (4 + self.teacher.classes)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describes pictures, (n, H, W, 3), as (n, V (4 + K)); a picture's pixels decide its crops."""
        height, width = images.shape[1:3]
        drawn = [self._draw(image) for image in images]
        shown = torch.from_numpy(images).to(self.teacher.hardware.device)
        told = np.empty((len(images), self.crops, 4 + self.teacher.classes), np.float32)
        for view in range(self.crops):
            crops = np.array([(b.top[view], b.left[view], b.height[view], b.width[view]) for b in drawn])
            top, left, rows, columns = crops.T
            boxes = Boxes(top, left, rows, columns, np.zeros(len(images), bool))
            told[:, view, :4] = crops / (height, width, height, width)
            told[:, view, 4:] = self.teacher.answer(shown, boxes).cpu().numpy()
        return told.reshape(len(images), -1)

    def _draw(self, image: NDArray[np.uint8]) -> Boxes:
        random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(image).data))
        return sample_crops(np.zeros(self.crops, bool), image.shape[0], image.shape[1], self.teacher.recipe, random)


def find_teacher(recipe: Recipe, class_names: Sequence[str], hardware: Hardware) -> Teacher | None:
    """Opens the teacher that a recipe names, if it names one.

    Raises:
        UsageError: It is no run, tells other classes apart, or takes no crops of that side.
    """
    if not recipe.teacher:
        return None
    run = Path(recipe.teacher)
    learnt_by, names, weights = _read_run(run)
    if names != tuple(class_names):
        raise UsageError(
            f"The teacher {run} knows other classes: expected {', '.join(class_names)}. "
            f"Received: {', '.join(names)}. Train a teacher on these photographs."
        )
    entry = architecture_for(learnt_by)
    network, side = entry.create(len(names)).eval(), recipe.teacher_image_size or entry.preprocess.height
    try:
        _load(network, safetensors.torch.load(weights), str(run))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise UsageError(
            f"The weights of the teacher {run} can't be taken: {_last_line(error)}. Train the teacher again."
        ) from error
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, side, side))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"The teacher {run} has no answer for crops of {side} pixels a side: {_last_line(error)}. Give another "
            "teacher_image_size, or leave it out."
        ) from error
    network.to(device=hardware.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not recipe.image_size_schedule:  # whole pictures are shown, whatever crops it names
        recipe = replace(recipe, crop_scale=(1.0, 1.0), crop_ratio=1.0)
    return Teacher(network, hardware, recipe, side, len(names), hashlib.sha256(weights).hexdigest())


def _load(network: Network, tensors: dict[str, Tensor], name: str) -> None:
    """Loads a run's weights into its network, which may end before the last layers of its backbone."""
    if isinstance(network, PretrainedNetwork):
        own = {key.removeprefix(BACKBONE): value for key, value in tensors.items() if key.startswith(BACKBONE)}
        network.take_weights(own, name)
    network.load_state_dict(tensors)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def weights_of(run: Path | str) -> Path:
    """Returns the file of a run's weights."""
    return Path(run) / "weights.safetensors"


def _read_run(run: Path) -> tuple[Recipe, tuple[str, ...], bytes]:
    """A run's recipe, class names and weights."""
    config = run / "config.toml"
    try:
        values, weights = tomllib.loads(config.read_text(encoding="utf-8")), weights_of(run).read_bytes()
        names = tuple(map(str, values["run"]["class_names"]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(
            f"The teacher {run} is no run that can be learnt from: {getattr(error, 'strerror', None) or error}. "
            "Expected a folder that belvedere train has written, with config.toml and weights.safetensors in it."
        ) from error
    return read_config(config, RECIPES["article"]), names, weights  # it sets nothing that a config leaves out


def multilabel_targets(
    samples: Sequence[Sample], class_names: Sequence[str], smoothing: float
) -> NDArray[np.float32] | None:
    """Divides what is learnt from a photograph evenly among its labels.

    With a softmax this learnt as well as a sigmoid for each class did, or better, elsewhere (Mahajan et al. 2018,
    https://arxiv.org/abs/1805.00932), and the answer for one main class stays what it is.

    Returns:
        (N, K), each row with the sum 1; None where every photograph has one label.
    """
    if not any(sample.also for sample in samples):
        return None
    marks = multi_hot(samples, class_names).astype(np.float32)
    shares: NDArray[np.float32] = marks / np.maximum(marks.sum(1, keepdims=True), 1)
    return (1 - smoothing) * shares + np.float32(smoothing / len(class_names))
