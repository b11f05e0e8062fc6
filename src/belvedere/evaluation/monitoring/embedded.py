"""Predictions and embeddings of image files, from one run of the network."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import Source
from belvedere.inference.model import Model
from belvedere.inference.postprocess import ModelOutputs
from belvedere.runtime.progress import Progress
from belvedere.types.prediction import Prediction


def predict_and_embed(
    model: Model, images: Sequence[Source], title: str, progress: Progress
) -> tuple[list[Prediction], NDArray[np.float32]]:
    """Predict images.

    Args:
        model: The model.
        images: Files; at least one.
        title: Title of the progress display.
        progress: Progress display.

    Returns:
        One prediction per image, in order, with `error` if it cannot be read; and the embeddings of the others, (N, D).
    """
    embeddings: dict[Source, NDArray[np.float32]] = {}
    predictions: list[Prediction] = []

    def keep(sources: Sequence[Source], _: Sequence[DecodedImage], outputs: ModelOutputs) -> None:
        embeddings.update(zip(sources, outputs.embedding, strict=True))

    with progress.task(title, len(images)) as task:
        for prediction in model.predict_sources(images, observer=keep):
            predictions.append(prediction)
            task.advance(1)
    rows = [embeddings[image] for image, each in zip(images, predictions, strict=True) if each.error is None]
    return predictions, np.array(rows, np.float32).reshape(len(rows), model.embedding_dim)
