"""Batch prediction on a Ray cluster, for folders too large for one machine.

Each worker opens the same model as `predict` and writes its rows as Parquet; the work of a lost worker is repeated.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from belvedere.errors import DistributedError, MissingDependencyError, UsageError
from belvedere.images.inputs import Source
from belvedere.images.limits import default_max_pixels, set_max_megapixels
from belvedere.images.listing import SkippedFiles, iter_images
from belvedere.inference.batch import PredictionSummary, log_skipped, require_nonempty
from belvedere.inference.model import Model, open_model
from belvedere.inference.model_graph import BATCH_SIZE
from belvedere.inference.model_paths import model_file
from belvedere.inference.writers.parquet import to_table
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.parallel import batched
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import ModelId

try:
    import pyarrow as pa
    import pyarrow.dataset as pd
    import ray
    import ray.data
except ModuleNotFoundError as error:
    raise MissingDependencyError("The backend ray", error.name or "ray", "ray") from error

PATHS_PER_TABLE = 4096
ROWS_PER_TASK = 256  # repeated at most if a worker is lost


def predict_at_scale(
    model: Path | str,
    sources: Iterable[Source],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
) -> PredictionSummary:
    """Predict files and folders on a Ray cluster into a folder of Parquet files.

    The cluster is the connected one or that of `RAY_ADDRESS`; otherwise a local one is started. Images and `out` must
    have the same path on every machine.

    Args:
        model: A `model.onnx`, or the run folder that holds one.
        sources: Files and folders.
        out: The folder, which appears when it is complete; its rows are not in the order of the images.
        overwrite: Whether to replace an older folder that Belvedere made.
        progress: Progress display. Default: on a terminal and in a notebook; False: none.

    Raises:
        UsageError: There are no images.
        OutputExistsError: `out` exists.
        DistributedError: The cluster failed, or rows are missing.
        InvalidModelError: The model cannot be opened.
    """
    file = model_file(model)
    content = file.read_bytes()
    opened = open_model(content, str(file))
    skipped, progress = SkippedFiles(), choose_progress(progress)
    images = require_nonempty(iter_images(sources, skipped), sources, skipped)
    listed = sources if isinstance(sources, Sequence) else ()
    inputs = (file, *(each for each in listed if isinstance(each, Path | str)))
    with atomic_folder(out, overwrite=overwrite, inputs=inputs) as folder:
        with _cluster() as num_workers:
            progress.log(f"Model: {opened.identity}. Up to {num_workers} workers predict")
            num_images = _predict(images, folder, (content, opened.identity), num_workers)
        log_skipped(skipped, progress)
        return _check(folder, num_images, opened)


class Predictor:
    """The model in a worker."""

    def __init__(self, content: bytes, identity: ModelId, max_pixels: int) -> None:
        set_max_megapixels(max_pixels / 1_000_000)  # of the calling process, whose environment other machines lack
        self._model, self._identity = open_model(content, "model.onnx"), identity

    def __call__(self, names: pa.Table) -> pa.Table:
        """Predict the images of a table of paths."""
        paths = [os.fsdecode(name) for name in names["name"].to_pylist()]
        # In this thread, batch by batch: a worker has one core, and memory for one batch of decoded images.
        predictions = [self._model.predict_batch(batch, draft=True) for batch in batched(paths, BATCH_SIZE)]
        return to_table(list(chain.from_iterable(predictions)), self._model.class_names, self._identity)


def _predict(images: Iterator[Source], folder: Path, model: tuple[bytes, ModelId], num_workers: int) -> int:
    """Predict and write the rows; return the number of images."""
    try:
        tables = [(ray.put(table), len(table)) for table in _path_tables(images)]
        predictions = ray.data.from_arrow_refs([table for table, _ in tables]).map_batches(
            Predictor,
            fn_constructor_args=(*model, default_max_pixels()),
            batch_size=ROWS_PER_TASK,
            batch_format="pyarrow",
            concurrency=(1, num_workers),
            num_cpus=1,
        )
        predictions.write_parquet(str(folder))
    except ray.exceptions.RayError as error:
        raise DistributedError(
            f"The Ray cluster failed: {' '.join(str(error).split())[-300:]}. Check its machines."
        ) from error
    return sum(count for _, count in tables)


def _check(folder: Path, num_images: int, model: Model) -> PredictionSummary:
    """Check that every image has a row."""
    rows = pd.dataset(folder, format="parquet")
    num_rows = rows.count_rows()
    if num_rows != num_images or not {"image", "error"} <= set(rows.schema.names):
        raise DistributedError(
            f"Expected {num_images:,} rows of {model.name}. Received: {num_rows:,}. Please report it."
        )
    return PredictionSummary(num_images, rows.count_rows(filter=pd.field("error").is_valid()))


def _path_tables(images: Iterator[Source]) -> Iterator[pa.Table]:
    """Yield tables of paths, as the bytes that the file system holds."""
    for paths in batched(images, PATHS_PER_TABLE):
        if not all(isinstance(path, Path | str) for path in paths):
            raise UsageError("The backend ray predicts files and folders, not images in memory. Give their paths.")
        yield pa.table({"name": pa.array([os.fsencode(str(path)) for path in paths], pa.binary())})


@contextmanager
def _cluster() -> Iterator[int]:
    """Connect to a cluster or start one; yield the number of workers, one less than its cores."""
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DistributedError(
                f"No Ray cluster is available: {describe_error(error)}. Check RAY_ADDRESS."
            ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 2)) - 1)
    finally:
        if is_ours:
            ray.shutdown()
