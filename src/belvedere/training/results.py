"""Trained network with all that is written about it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from belvedere.data.sampling import evenly_spaced
from belvedere.training.device import Runtime
from belvedere.training.held_out import HeldOutOutputs, predict_held_out
from belvedere.training.loop import FitResult
from belvedere.training.networks import Network
from belvedere.training.training_data import TrainingData
from belvedere.types.data import DataWarning
from belvedere.types.model import Preprocess

NUM_SAMPLE_IMAGES = 16  # to compare the model file on


@dataclass(frozen=True)
class TrainingOutput:
    """A trained network and its outputs on held-out images, not yet written."""

    network: Network  # on the CPU, with the weights of the best epoch
    fit: FitResult
    held_out: HeldOutOutputs
    preprocess: Preprocess
    sample_images: NDArray[np.uint8]  # (n, H, W, 3), to compare the model file on
    num_images: dict[str, int]  # by split
    warnings: tuple[DataWarning, ...]
    pretrained_from: dict[str, str] = field(default_factory=dict)  # weights, their hash and license, teacher
    embedding_key: str = ""  # of a frozen backbone, for the cache of its embeddings


def collect_output(network: Network, data: TrainingData, result: FitResult, runtime: Runtime) -> TrainingOutput:
    """Predict held-out images with a fitted network, and move it to the CPU."""
    held_out = predict_held_out(network, data, runtime)
    samples = data.validation.images[evenly_spaced(len(data.validation.labels), NUM_SAMPLE_IMAGES)]
    return TrainingOutput(network.cpu(), result, held_out, data.preprocess, samples, data.num_images, data.warnings)
