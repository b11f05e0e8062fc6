"""Predictions for images in memory, files and folders: the function `belvedere.predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from belvedere.data.dataset import Dataset
from belvedere.errors import UsageError
from belvedere.images.inputs import to_sources
from belvedere.inference.batch import PredictionSummary, predict_files
from belvedere.inference.model import Model, as_model
from belvedere.inference.predictions import Predictions
from belvedere.inference.providers import Provider
from belvedere.runtime.progress import Progress


@overload
def predict(
    model: Model | Path | str,
    data: object,
    *,
    out: None = None,
    channel_order: str = "RGB",
    draft: bool = True,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
) -> Predictions: ...


@overload
def predict(
    model: Model | Path | str,
    data: object,
    *,
    out: Path | str,
    format: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    spreadsheet: bool = False,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> PredictionSummary: ...


def predict(
    model: Model | Path | str,
    data: object,
    *,
    out: Path | str | None = None,
    format: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    spreadsheet: bool = False,
    channel_order: str = "RGB",
    draft: bool = True,
    device: str = "auto",
    providers: Sequence[Provider] | None = None,
    threads: int | None = None,
    progress: Progress | bool | None = None,
) -> Predictions | PredictionSummary:
    """Classify images: return the predictions, or write them to a file as they come.

    Args:
        model: A model (`load_model` sets its accept rate), its model.onnx, or a run folder.
        data: Paths of files or folders, a dataset, or images in memory, as `Model.predict` takes them. With `out`, no
            images in memory.
        out: File to write, in memory that does not grow with the number of images; default: none.
        format: "csv", "jsonl", "json", "parquet" or a registered format; default: the suffix of `out`.
        overwrite: Whether any existing file but the inputs may be replaced; older predictions always are.
        resume: Whether to continue an interrupted call with the same arguments.
        spreadsheet: Whether CSV cells that a spreadsheet would run as formulas are escaped.
        channel_order: "RGB" or "BGR", of arrays and tensors; see `Model.predict`.
        draft: Whether to decode large JPEG files at a reduced scale; see `Model.predict`. With `out`, they always are.
        device: See `load_model`; for the path of a model.
        providers: See `load_model`; for the path of a model.
        threads: See `load_model`; for the path of a model.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Returns:
        One prediction per image, in order, with `error` if it cannot be decoded; with `out`, the number of images.

    Raises:
        UsageError: An object is no image, there are none, the file cannot be written, or the device cannot be used.
        OutputExistsError: The file exists and may not be replaced.
        MissingDependencyError: The format is "parquet" and pyarrow is not installed.
    """
    opened = as_model(model, device=device, providers=providers, threads=threads)
    data = [sample.path for sample in data.samples] if isinstance(data, Dataset) else data
    if out is None:
        return opened.predict(data, channel_order=channel_order, draft=draft)
    sources = list(to_sources(data))
    if not all(isinstance(each, Path | str) for each in sources):
        raise UsageError("Only predictions for files can be written. Give paths as `data`, or leave out `out`.")
    return predict_files(
        opened,
        sources,
        format or Path(out).suffix.lower().removeprefix("."),
        out=Path(out),
        overwrite=overwrite,
        resume=resume,
        spreadsheet=spreadsheet,
        progress=progress,
    )
