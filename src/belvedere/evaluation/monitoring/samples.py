"""Compared samples: predictions and embeddings of the test images of a run, and of new images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from belvedere.data.sampling import evenly_spaced
from belvedere.errors import UsageError
from belvedere.evaluation.comparison import find_file
from belvedere.evaluation.monitoring.records import DECIMALS, Record, read_records
from belvedere.evaluation.monitoring.two_sample import MAX_EMBEDDINGS
from belvedere.evaluation.run_folder import PREDICTIONS, StoredPredictions
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import Source
from belvedere.images.listing import SkippedFiles, iter_images
from belvedere.inference.batch import log_skipped, require_nonempty
from belvedere.inference.model import Model
from belvedere.inference.postprocess import ModelOutputs
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import count
from belvedere.types.data import DataWarning
from belvedere.types.prediction import Prediction

MIN_EMBEDDINGS = 20  # of test images, for a comparison
MIN_PRESENT = 0.9  # fraction of the test images that are still there, for a comparison
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sampled:
    """Predictions for N images."""

    class_names: tuple[str, ...]
    probabilities: Floats  # (N, K), rounded as in predictions.csv
    none_of_these_score: Floats | None  # (N,), rounded; None if the model has none
    embeddings: NDArray[np.float32] | NDArray[np.float16] | None  # (M, D), perhaps of a part of the images
    images: tuple[str, ...] = ()  # (N,); empty for records
    times: Floats | None = None  # (N,), of records, seconds since 1970, UTC
    warnings: tuple[DataWarning, ...] = ()

    def __len__(self) -> int:
        return len(self.probabilities)

    @cached_property
    def confidence(self) -> Floats:
        """The highest probability of each image, (N,)."""
        return np.asarray(self.probabilities.max(1))

    @cached_property
    def label_counts(self) -> NDArray[np.int64]:
        """Number of images of each predicted class, (K,)."""
        return np.bincount(self.probabilities.argmax(1), minlength=len(self.class_names)).astype(np.int64)


def sample_reference(stored: StoredPredictions, model: Model, progress: Progress) -> Sampled:
    """Return the predictions of a run, and the embeddings of images that are still there, `MAX_EMBEDDINGS` at most."""
    readable = [each for each in stored.predictions if each.error is None]
    chosen = [readable[k] for k in evenly_spaced(len(readable), min(MAX_EMBEDDINGS, len(readable)))]
    files = [path for each in chosen if (path := find_file(stored.folder, each.image)).is_file()]
    needed = max(MIN_EMBEDDINGS, MIN_PRESENT * len(chosen))  # a few that remain may differ from those that are gone
    if len(files) >= needed:
        _, embeddings = _predict_and_embed(model, files, "Embedding test images", progress)
        if len(embeddings) >= needed:
            return _collect(readable, embeddings)
    message = (
        f"Embeddings are not compared: {len(files):,} of {count(len(chosen), 'test image')} of "
        f"{stored.folder / PREDICTIONS} are still there; at least {MIN_EMBEDDINGS}, and {MIN_PRESENT:.0%}, are needed"
    )
    return _collect(readable, None, warnings=(DataWarning(message),))


def sample_images(sources: Sequence[Source], model: Model, progress: Progress) -> Sampled:
    """Predict new images.

    Raises:
        UsageError: There are none, or none can be read.
    """
    skipped = SkippedFiles()
    images = list(require_nonempty(iter_images(sources, skipped), sources, skipped))
    log_skipped(skipped, progress)
    predictions, embeddings = _predict_and_embed(model, images, "Predicting", progress)
    readable = [each for each in predictions if each.error is None]
    failed = tuple(f"{each.image}: {each.error}" for each in predictions if each.error is not None)
    if not readable:
        raise UsageError(f"None of {count(len(images), 'image')} can be read, such as {failed[0]}. Give other images.")
    warnings = (DataWarning(f"{count(len(failed), 'image')} not compared: cannot be read", failed),) if failed else ()
    return _collect(readable, embeddings, tuple(each.image for each in readable), warnings)


def sample_records(folder: Path, model: Model, since: float | None) -> Sampled:
    """Read the records of `serve`.

    Raises:
        UsageError: There are none of this model, or none since then.
    """
    sizes, ours, kinds = (len(model.class_names), model.embedding_dim), list[Record](), Counter[str]()
    for each in read_records(folder):
        if each is None:
            kinds["damaged"] += 1
        elif since is not None and each.time < since:
            kinds["earlier"] += 1
        elif each.model != model.sha256:
            kinds["other"] += 1
        elif (len(each.probabilities), len(each.embedding)) != sizes:
            kinds["damaged"] += 1
        else:
            ours.append(each)
    if not ours:
        raise UsageError(f"{folder} has no records {_explain_none(kinds, model)}")
    warnings = []
    if kinds["damaged"]:
        warnings.append(DataWarning(f"{count(kinds['damaged'], 'damaged record')} skipped"))
    if kinds["other"]:
        warnings.append(DataWarning(f"{count(kinds['other'], 'record')} skipped: of another model"))
    ours.sort(key=lambda record: record.time)
    scores = [each.none_of_these_score for each in ours]
    return Sampled(
        model.class_names,
        np.array([each.probabilities for each in ours]),
        None if None in scores else np.array(scores, np.float64),
        np.stack([each.embedding for each in ours]),
        times=np.array([each.time for each in ours]),
        warnings=tuple(warnings),
    )


def _explain_none(kinds: Mapping[str, int], model: Model) -> str:
    """Return the end of a message, by the number of records of each kind."""
    if kinds["other"]:
        return f"of {model.name}, but {kinds['other']:,} of other models. Give the model that was served."
    if kinds["earlier"]:
        return f"since then, but {kinds['earlier']:,} before. Give an earlier time with `since`."
    if kinds["damaged"]:
        return f"that can be read: {kinds['damaged']:,} are damaged. Give another folder."
    return "yet. Send images to the server first."


def _predict_and_embed(
    model: Model, images: Sequence[Source], title: str, progress: Progress
) -> tuple[list[Prediction], NDArray[np.float32]]:
    """Return a prediction of each image, and the embeddings of those that can be read, (N, D), from one run."""
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


def _collect(
    predictions: Sequence[Prediction],
    embeddings: NDArray[np.float32] | None,
    images: tuple[str, ...] = (),
    warnings: tuple[DataWarning, ...] = (),
) -> Sampled:
    scores = [each.none_of_these_score for each in predictions]
    return Sampled(
        predictions[0].class_names,
        np.array([each.probability_values for each in predictions]).round(DECIMALS),
        None if None in scores else np.array(scores, np.float64).round(DECIMALS),
        embeddings,
        images,
        warnings=warnings,
    )
