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
from belvedere.fetching.onnxruntime_web import read_onnxruntime_web
from belvedere.images.decode import DecodedImage
from belvedere.images.inputs import read_inputs
from belvedere.images.listing import iter_images
from belvedere.inference.hub_folder import check_license, write_hub_folder
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
from belvedere.inference.page.folder import folder_bytes, write_page_folder
from belvedere.inference.pixel_values import LOGITS, PIXEL_VALUES, to_pixel_values
from belvedere.inference.postprocess import ModelOutputs
from belvedere.inference.session import Session
from belvedere.inference.uncertainty.temperature_scaling import softmax
from belvedere.runtime.files import write_bytes
from belvedere.runtime.output_file import OutputFile
from belvedere.runtime.output_folder import atomic_folder, check_output_folder
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import describe_error
from belvedere.types.model import ModelCard, Preprocess

NUM_CALIBRATION_IMAGES = 128  # a fifth of the images that are read
NUM_VALIDATION_IMAGES = 512  # the others
MIN_IMAGES = 30


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest differences of the predictions of an export from the original's."""

    agreement: float  # minimum fraction of images with the same predicted class
    change: float  # maximum change of a probability
    ood_flip_rate: float = 0.05  # maximum fraction of images that are "none of these" for one of the two only


PAGE = "page"  # keeps the model as it is, so that nothing is compared
TOLERANCES: Mapping[str, Tolerance] = {
    "int8": Tolerance(0.99, 0.25),
    "float16-weights": Tolerance(0.998, 0.02),
    "nchw": Tolerance(0.998, 0.001),
    "hub": Tolerance(0.998, 0.001),
}
FORMATS: Mapping[str, Tolerance | None] = {**TOLERANCES, PAGE: None}
NO_TTA = Tolerance(0.97, 0.5, 0.1)  # without test-time augmentation, in any format


@dataclass(frozen=True, slots=True)
class ExportComparison:
    """Differences between the predictions of an export and those of the original."""

    num_images: int
    agreement: float  # fraction with the same predicted class
    max_change: float  # of a probability
    mean_change: float  # mean over the images of the largest change
    ood_flip_rate: float | None  # fraction that are "none of these" for one of the two only; None if unknown
    tolerance: Tolerance

    @property
    def within_tolerance(self) -> bool:
        """Whether the predictions are close enough; False if a probability is NaN."""
        return (
            self.agreement >= self.tolerance.agreement
            and self.max_change <= self.tolerance.change
            and (self.ood_flip_rate is None or self.ood_flip_rate <= self.tolerance.ood_flip_rate)
        )


@dataclass(frozen=True, slots=True)
class Export:
    """An exported model."""

    format: str
    tta: bool  # whether test-time augmentation is as in the original
    fingerprint: str  # of the original
    comparison: ExportComparison | None  # None for "page", which keeps the model as it is
    num_calibration_images: int
    size_bytes: int
    original_size_bytes: int


def export(
    model: Model | Path | str,
    out: Path | str,
    format: str,
    *,
    calibration_data: Dataset | Path | str | None = None,
    tta: bool = True,
    license: str | None = None,  # noqa: A002 - the name of the field
    runtime: Path | str | None = None,
    force: bool = False,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> Export:
    """Write a model in another format.

    For all formats but "page", nothing is written if its predictions differ too much from the original's.

    Args:
        model: A `model.onnx`, or the run folder that holds one.
        out: The file to write, or the folder for "hub" and "page".
        format: "int8": static quantization; "float16-weights": weights stored in float16; "nchw": input float32
            (N, 3, H, W), RGB from 0 to 255, for other runtimes; "hub": a folder for the Hugging Face Hub (docs/hub.md);
            "page": a folder with a web page that runs the model in any browser, also offline.
        calibration_data: Folder of images like those the model is for, such as its training images, or a dataset: a
            fifth to calibrate int8, the others to compare predictions. Default for "hub": images of noise.
        tta: Whether to keep the test-time augmentation of the model; without it, inference takes half the time.
        license: License of the model for "hub", such as "apache-2.0". Default: that of the pretrained weights that it
            was trained from, if known.
        runtime: For "page": the npm package onnxruntime-web of the version that Belvedere uses. Default: it is
            downloaded once, 33 MB, from registry.npmjs.org.
        force: Whether to write the file even if the predictions differ too much.
        overwrite: Whether to replace an existing file, or folder that Belvedere wrote.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        The result with the comparison, which are also in the metadata of a file.

    Raises:
        UsageError: The file cannot be written, there are fewer than 30 images, or an argument is invalid.
        FetchError: The package for "page" cannot be downloaded.
        ExportError: The predictions differ too much, or the graph cannot be transformed.
        InvalidModelError: The model cannot be opened.
    """
    find_named("format", format, FORMATS)
    original = as_model(model)
    out, source = Path(out), model_file(original.name)
    _check_arguments(format, calibration_data, tta, license, runtime)
    if format == PAGE:
        return _export_page(original, out, runtime, overwrite, choose_progress(progress))
    paths = [] if calibration_data is None else _list_images(calibration_data)
    inputs = [source, *paths]
    file = _check_output(out, format, overwrite, inputs)
    images = _read_images(paths, calibration_data, original.card.preprocess, choose_progress(progress))
    content, result = _transform_and_compare(original, format, tta, images, force)
    if file is None:
        with atomic_folder(out, overwrite=overwrite, inputs=inputs) as folder:
            write_hub_folder(folder, out.resolve().name, original, content, license)
    else:
        _write_file(file, content, original.card, result)
    return result


def _export_page(original: Model, out: Path, runtime: Path | str | None, overwrite: bool, progress: Progress) -> Export:
    source, package = model_file(original.name), None if runtime is None else Path(runtime)
    inputs = [source, package]
    check_output_folder(out, overwrite=overwrite, inputs=inputs)
    files = read_onnxruntime_web(package, progress)
    with atomic_folder(out, overwrite=overwrite, inputs=inputs) as folder:
        write_page_folder(folder, original, files)
    return Export(
        PAGE,
        tta=True,
        fingerprint=original.fingerprint,
        comparison=None,
        num_calibration_images=0,
        size_bytes=folder_bytes(out),
        original_size_bytes=len(original.content),
    )


def _check_output(out: Path, format: str, overwrite: bool, inputs: Sequence[Path | str]) -> OutputFile | None:
    """Check the file to write, or the folder of the format hub, for which None is returned."""
    if format != "hub":
        return OutputFile(out, overwrite=overwrite, inputs=lambda: inputs)
    check_output_folder(out, overwrite=overwrite, inputs=inputs)
    return None


def _write_file(file: OutputFile, content: bytes, card: ModelCard, result: Export) -> None:
    metadata = card_to_metadata(card) | {"export": json.dumps(asdict(result))}
    if result.format == "nchw":
        metadata["format"] = NCHW_FORMAT
    write_bytes(file.path, write_card(load_graph(content), metadata), file.check)


def _check_arguments(
    format: str,
    calibration_data: Dataset | Path | str | None,
    tta: bool,
    license_id: str | None,
    runtime: Path | str | None,
) -> None:
    """Raise UsageError for arguments that do not go with a format."""
    if format in ("hub", PAGE) and not tta:
        raise UsageError(
            f"`tta` is not for the format {format}, whose model stays as it is. Leave it out, or export the model as "
            "int8 or float16-weights first, and give that file."
        )
    if format != PAGE and runtime is not None:
        raise UsageError(f"`runtime` is for the format page. Received: the format {format}. Leave it out.")
    if format == "hub":
        check_license(license_id)
    elif format == PAGE and calibration_data is not None:
        raise UsageError("`calibration_data` is not for the format page, whose model stays as it is. Leave it out.")
    elif format != PAGE and calibration_data is None:
        raise UsageError(f"`calibration_data` is missing: {format} needs images like those the model is for.")
    elif license_id is not None:
        raise UsageError(f"`license` is for the format hub. Received: the format {format}. Leave it out.")


def _transform_and_compare(
    original: Model, format: str, tta: bool, images: Images, force: bool
) -> tuple[bytes, Export]:
    """Return the transformed graph without metadata, and the result; refuse differences unless forced."""
    is_calibration = np.arange(len(images)) % 5 == 0
    calibration, validation = images[is_calibration], images[~is_calibration]
    original.forward(validation[:1])  # raises for a model that cannot be run
    try:
        content = _transform(original, format, tta, calibration)
        comparison = _compare(original, content, validation, format, TOLERANCES[format] if tta else NO_TTA)
    except BelvedereError:
        raise
    except Exception as error:  # ONNX raises anything for an unusual graph
        reason = f"{original.name} cannot be exported as {format}: {describe_error(error)}"
        raise ExportError(f"{reason}. Choose another format.") from error
    if not (comparison.within_tolerance or force):
        raise ExportError(_refusal(format, comparison))
    num_calibration_images = len(calibration) if format == "int8" else 0
    sizes = (len(content), len(original.content))
    return content, Export(format, tta, original.fingerprint, comparison, num_calibration_images, *sizes)


def _transform(original: Model, format: str, tta: bool, calibration: Images) -> bytes:
    """Return the transformed graph without metadata."""
    graph = load_graph(original.content)
    graph = graph if tta else remove_tta(graph)
    transforms: dict[str, Callable[[Any], Any]] = {
        "int8": partial(to_int8, images=calibration),
        "float16-weights": to_float16_weights,
        "nchw": to_nchw_float,
        "hub": partial(to_pixel_values, preprocess=original.card.preprocess),
    }
    return write_card(transforms[format](graph), {})


def _refusal(format: str, comparison: ExportComparison) -> str:
    tolerance, flip_rate = comparison.tolerance, comparison.ood_flip_rate
    flips = "" if flip_rate is None else f', "none of these" {flip_rate:.1%} (at most {tolerance.ood_flip_rate:.0%})'
    return (
        f"The {format} export differs too much from the original on {comparison.num_images} images: same class "
        f"{comparison.agreement:.1%} (at least {tolerance.agreement:.1%}), change of a probability "
        f"{comparison.max_change:.3f} "
        f"(at most {tolerance.change}){flips}. Nothing was written. Give more images like those it is for, choose "
        "another format, or set `force`."
    )


def _list_images(data: Dataset | Path | str) -> list[Path | str]:
    if isinstance(data, Dataset):
        return [sample.path for sample in data.samples]
    return [each for each in iter_images(refuse_models([Path(data)])) if isinstance(each, Path | str)]


def _read_images(
    paths: Sequence[Path | str], data: Dataset | Path | str | None, preprocess: Preprocess, progress: Progress
) -> Images:
    """Read evenly spaced images; without data, draw images of noise."""
    if data is None:
        sizes = (MIN_IMAGES, preprocess.height, preprocess.width, 3)
        return np.random.default_rng(0).integers(0, 256, sizes, dtype=np.uint8)
    name = data.source if isinstance(data, Dataset) else str(data)
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


def _compare(original: Model, content: bytes, images: Images, format: str, tolerance: Tolerance) -> ExportComparison:
    expected = original.forward_all(images)
    if format in ("nchw", "hub"):
        probabilities, ood_flip_rate = _run_nchw(content, images, format), None
    else:
        found = Model.from_bytes(content, original.card).forward_all(images)
        probabilities, ood_flip_rate = found.probabilities, _ood_flip_rate(original, expected, found)
    change = np.abs(probabilities - expected.probabilities).max(1)
    same = probabilities.argmax(1) == expected.probabilities.argmax(1)
    means = (float(same.mean()), float(change.max()), float(change.mean()))
    return ExportComparison(len(images), *means, ood_flip_rate, tolerance)


def _run_nchw(content: bytes, images: Images, format: str) -> NDArray[np.float32]:
    session = Session(content, f"The {format} export")
    rows = []
    for batch in batches(images):
        pixels = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32)
        if format == "nchw":
            rows += session.run(["probabilities"], {INPUT: pixels})
        else:
            rows += [softmax(logits) for logits in session.run([LOGITS], {PIXEL_VALUES: pixels / 255})]
    return np.concatenate(rows)


def _ood_flip_rate(original: Model, expected: ModelOutputs, found: ModelOutputs) -> float | None:
    """Return the fraction of images that are "none of these" for one of the two, by the original's card."""
    count = len(expected.probabilities)
    before, after = (
        [each.none_of_these for each in original.to_predictions(outputs, [""] * count, [()] * count)]
        for outputs in (expected, found)
    )
    return None if None in before else float(np.mean(np.array(before) != np.array(after)))
