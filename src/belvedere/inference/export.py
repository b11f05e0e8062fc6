"""Exports of a model in other formats, checked against the predictions of the original."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from belvedere.data.dataset import Dataset
from belvedere.errors import BelvedereError, ExportError, UsageError, find_named
from belvedere.images.decode import DecodedImage, read_inputs
from belvedere.images.listing import iter_images
from belvedere.inference.model import Model, as_model
from belvedere.inference.model_card import NCHW_FORMAT, card_to_metadata
from belvedere.inference.model_graph import INPUT
from belvedere.inference.model_paths import model_file, refuse_models
from belvedere.inference.onnx_transforms import (
    Images,
    batches,
    load_graph,
    remove_tta,
    to_float16_weights,
    to_int8,
    to_nchw_float,
    write_card,
)
from belvedere.inference.postprocess import ModelOutputs
from belvedere.inference.session import Session
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import Preprocess

NUM_CALIBRATION_IMAGES = 128  # a fifth of the images that are read
NUM_VALIDATION_IMAGES = 512  # the others
MIN_IMAGES = 30


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the predictions of an export may differ from the original's."""

    agreement: float  # minimum fraction of images with the same predicted class
    change: float  # maximum change of a probability
    ood_flip_rate: float = 0.05  # maximum fraction of images that are "none of these" for one of the two only


TOLERANCES: Mapping[str, Tolerance] = {
    "int8": Tolerance(0.99, 0.25),
    "float16-weights": Tolerance(0.998, 0.02),
    "nchw": Tolerance(0.998, 0.001),
}
NO_TTA = Tolerance(0.97, 0.5, 0.1)  # without test-time augmentation, in any format

Comparison = tuple[int, float, float, float, float | None]  # the fields of `Export` from `num_images` on


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model, compared with the original."""

    format: str
    tta: bool  # whether test-time augmentation is as in the original
    fingerprint: str  # of the original
    num_images: int  # compared
    agreement: float  # fraction with the same predicted class
    max_change: float  # of a probability
    mean_change: float  # mean over the images of the largest change
    ood_flip_rate: float | None  # fraction that are "none of these" for one of the two only; None if unknown
    tolerance: Tolerance
    num_calibration_images: int
    size_bytes: int
    original_size_bytes: int

    @property
    def within_tolerance(self) -> bool:
        """Whether the predictions are close enough; False if a probability is NaN."""
        return (
            self.agreement >= self.tolerance.agreement
            and self.max_change <= self.tolerance.change
            and (self.ood_flip_rate is None or self.ood_flip_rate <= self.tolerance.ood_flip_rate)
        )


def export(
    model: Model | Path | str,
    out: Path | str,
    format: str,
    *,
    calibration_data: Dataset | Path | str,
    tta: bool = True,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> Export:
    """Write a model in another format if its predictions stay close to the original's.

    Args:
        model: A `model.onnx`, or the run folder that holds one.
        out: The file to write.
        format: "int8": static quantization; "float16-weights": weights stored in float16; "nchw": input float32
            (N, 3, H, W), RGB from 0 to 255, for other runtimes.
        calibration_data: Folder of images like those the model is for, such as its training images, or a dataset: a
            fifth to calibrate int8, the others to compare predictions.
        tta: Whether to keep the test-time augmentation of the model; without it, inference takes half the time.
        force: Whether to write the file even if the predictions differ too much.
        overwrite: Whether to replace an existing file.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The comparison, which is also in the file's metadata.

    Raises:
        UsageError: The format is unknown, the file cannot be written, or there are fewer than 30 images.
        ExportError: The predictions differ too much, or the graph cannot be transformed.
        InvalidModelError: The model cannot be opened.
    """
    tolerance = find_named("format", format, TOLERANCES)
    original = as_model(model)
    out, source = Path(out), model_file(original.name)
    paths = _list_images(calibration_data)
    file = OutputFile(out, overwrite=overwrite, inputs=lambda: [source, *paths])
    name = calibration_data.source if isinstance(calibration_data, Dataset) else str(calibration_data)
    images = _read_images(paths, name, original.card.preprocess, choose_progress(progress))
    is_calibration = np.arange(len(images)) % 5 == 0
    calibration, validation = images[is_calibration], images[~is_calibration]
    original.forward(validation[:1])  # raises for a model that cannot be run
    content, comparison = _transform(original, source, format, tta, calibration, validation)
    result = Export(
        format,
        tta,
        original.fingerprint,
        *comparison,
        tolerance=tolerance if tta else NO_TTA,
        num_calibration_images=len(calibration) if format == "int8" else 0,
        size_bytes=len(content),
        original_size_bytes=source.stat().st_size,
    )
    if not (result.within_tolerance or force):
        raise ExportError(_refusal(result))
    metadata = card_to_metadata(original.card) | {"export": json.dumps(asdict(result))}
    content = write_card(load_graph(content), metadata | ({"format": NCHW_FORMAT} if format == "nchw" else {}))
    write_bytes(out, content, file.check)
    return result


def _transform(
    original: Model, source: Path, format: str, tta: bool, calibration: Images, validation: Images
) -> tuple[bytes, Comparison]:
    """Return the transformed graph without metadata, and the comparison."""
    try:
        graph = load_graph(source.read_bytes())
        graph = graph if tta else remove_tta(graph)
        transforms: dict[str, Callable[[Any], Any]] = {
            "int8": partial(to_int8, images=calibration),
            "float16-weights": to_float16_weights,
            "nchw": to_nchw_float,
        }
        content = write_card(transforms[format](graph), {})
        return content, _compare(original, content, validation, format)
    except BelvedereError:
        raise
    except Exception as error:  # ONNX raises anything for an unusual graph
        reason = f"{original.name} cannot be exported as {format}: {describe_error(error)}"
        raise ExportError(f"{reason}. Choose another format.") from error


def _refusal(result: Export) -> str:
    tolerance, flip_rate = result.tolerance, result.ood_flip_rate
    flips = "" if flip_rate is None else f', "none of these" {flip_rate:.1%} (at most {tolerance.ood_flip_rate:.0%})'
    return (
        f"The {result.format} export differs too much from the original on {result.num_images} images: same class "
        f"{result.agreement:.1%} (at least {tolerance.agreement:.1%}), change of a probability {result.max_change:.3f} "
        f"(at most {tolerance.change}){flips}. Nothing was written. Give more images like those it is for, choose "
        "another format, or set `force`."
    )


def _list_images(data: Dataset | Path | str) -> list[Path | str]:
    if isinstance(data, Dataset):
        return [sample.path for sample in data.samples]
    return [each for each in iter_images(refuse_models([Path(data)])) if isinstance(each, Path | str)]


def _read_images(paths: Sequence[Path | str], name: str, preprocess: Preprocess, progress: Progress) -> Images:
    """Read evenly spaced images."""
    count = min(len(paths), NUM_CALIBRATION_IMAGES + NUM_VALIDATION_IMAGES)
    chosen = [paths[number * len(paths) // count] for number in range(count)]
    images = []
    with progress.task("Reading", len(chosen)) as task:
        for outcome in read_inputs(chosen, preprocess):
            if isinstance(outcome, DecodedImage):
                images.append(outcome.pixels)
            task.advance(1)
    if len(images) < MIN_IMAGES:
        raise UsageError(
            f"Too few readable images in {name}: {len(images)}, expected {MIN_IMAGES} or more, and better "
            f"{NUM_CALIBRATION_IMAGES + NUM_VALIDATION_IMAGES}. Give images like those the model is for."
        )
    return np.stack(images)


def _compare(original: Model, content: bytes, images: Images, format: str) -> Comparison:
    expected = original.forward_all(images)
    if format == "nchw":
        probabilities, ood_flip_rate = _run_nchw(content, images), None
    else:
        found = Model.from_bytes(content, original.card).forward_all(images)
        probabilities, ood_flip_rate = found.probabilities, _ood_flip_rate(original, expected, found)
    change = np.abs(probabilities - expected.probabilities).max(1)
    same = probabilities.argmax(1) == expected.probabilities.argmax(1)
    return len(images), float(same.mean()), float(change.max()), float(change.mean()), ood_flip_rate


def _run_nchw(content: bytes, images: Images) -> NDArray[np.float32]:
    session = Session(content, "The NCHW export")
    inputs = (np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) for batch in batches(images))
    return np.concatenate([session.run(["probabilities"], {INPUT: batch})[0] for batch in inputs])


def _ood_flip_rate(original: Model, expected: ModelOutputs, found: ModelOutputs) -> float | None:
    """Return the fraction of images that are "none of these" for one of the two, by the original's card."""
    count = len(expected.probabilities)
    before, after = (
        [each.none_of_these for each in original.to_predictions(outputs, [""] * count, [()] * count)]
        for outputs in (expected, found)
    )
    return None if None in before else float(np.mean(np.array(before) != np.array(after)))
