"""The same answers from many processes and machines, by Ray Data: for folders too large for one machine.

Knows how names go out to workers and rows come back as Parquet; does not know how a picture is read or answered for:
each worker opens the same model and reads by the same rule as `predict`. A worker that is lost is replaced, and what it
had in hand is done again by another.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from belvedere.errors import DistributedError, MissingDependencyError, UsageError
from belvedere.images.inputs import Source
from belvedere.images.listing import expand
from belvedere.inference.batch import Answered, require_nonempty
from belvedere.inference.model import BATCH, Model, open_model
from belvedere.inference.model_paths import find_model
from belvedere.inference.writers.parquet import to_table
from belvedere.runtime.output_folder import atomic_folder
from belvedere.runtime.parallel import chunks_of
from belvedere.runtime.progress import Progress
from belvedere.types.data import ModelId

try:
    import pyarrow as pa
    import pyarrow.dataset as pd
    import ray
    import ray.data
except ModuleNotFoundError as error:
    raise MissingDependencyError("The engine ray", error.name or "ray", "ray") from error

NAMES_TOGETHER = 4096  # in a piece that a worker takes up
ROWS_TOGETHER = 256  # answered by a worker at once: what is done again at most when it is lost


def predict_at_scale(
    model: Path | str,
    sources: Iterable[Source],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Answered:
    """Answers for files and folders on a Ray cluster, and writes the answers as a folder of Parquet files.

    The cluster is the one that this process is connected to, or that `RAY_ADDRESS` names; else one is started here.
    Pictures and `out` must be there under the same path on every machine.

    Args:
        model: A `model.onnx`, or the run folder that holds one.
        sources: Files and folders.
        out: The folder, which appears when it is whole; the order of its rows is not that of the pictures.
        overwrite: Whether an older one that Belvedere made may be replaced.
        progress: Is told what is done.

    Returns:
        How many there were, and how many could not be read.

    Raises:
        UsageError: There is nothing to answer for.
        OutputExistsError: `out` may not be written.
        DistributedError: The cluster failed, or rows are missing.
        InvalidModelError: The model can't be opened.
    """
    file = find_model(model)
    content = file.read_bytes()
    opened = open_model(content, str(file))
    pictures = require_nonempty(expand(sources), sources)
    listed = sources if isinstance(sources, Sequence) else ()
    read = (file, *(each for each in listed if isinstance(each, Path | str)))
    with atomic_folder(out, overwrite=overwrite, inputs=read) as folder:
        with _cluster() as workers:
            (progress or Progress()).say(f"Model: {opened.identity}. Up to {workers} workers predict")
            count = _answer(pictures, folder, (content, opened.identity), workers)
        return _check(folder, count, opened)


class Answerer:
    """A worker's own copy of the model."""

    def __init__(self, content: bytes, identity: ModelId) -> None:
        self._model, self._identity = open_model(content, "model.onnx"), identity

    def __call__(self, names: pa.Table) -> pa.Table:
        """Answers for the pictures of a table of names."""
        sources = [os.fsdecode(name) for name in names["name"].to_pylist()]
        # A batch at a time, in this thread: the worker has one core, and memory for one batch of decoded pictures.
        answers = [self._model.answer_batch(some, reduced=True) for some in chunks_of(sources, BATCH)]
        return to_table(list(chain.from_iterable(answers)), self._model.class_names, self._identity)


def _answer(pictures: Iterator[Source], folder: Path, model: tuple[bytes, ModelId], workers: int) -> int:
    """Lets workers answer for pictures and write the rows; returns how many pictures there were."""
    try:
        names = [(ray.put(table), len(table)) for table in _name_tables(pictures)]
        answers = ray.data.from_arrow_refs([table for table, _ in names]).map_batches(
            Answerer,
            fn_constructor_args=model,
            batch_size=ROWS_TOGETHER,
            batch_format="pyarrow",
            concurrency=(1, workers),
            num_cpus=1,
        )
        answers.write_parquet(str(folder))
    except ray.exceptions.RayError as error:
        raise DistributedError(f"The Ray cluster failed: {' '.join(str(error).split())[-300:]}") from error
    return sum(count for _, count in names)


def _check(folder: Path, count: int, model: Model) -> Answered:
    """Counts what came back: every picture must have its row."""
    rows = pd.dataset(folder, format="parquet")
    found = rows.count_rows()
    if found != count or not {"image", "error"} <= set(rows.schema.names):
        raise DistributedError(f"{found:,} rows came back for {count:,} pictures, of {model.name}. Please report this.")
    return Answered(count, rows.count_rows(filter=pd.field("error").is_valid()))


def _name_tables(pictures: Iterator[Source]) -> Iterator[pa.Table]:
    """Puts the names of pictures into tables, as the bytes that the disk has."""
    while some := list(islice(pictures, NAMES_TOGETHER)):
        if not all(isinstance(name, Path | str) for name in some):
            raise UsageError("The engine ray takes files and folders, not the bytes of pictures.")
        yield pa.table({"name": pa.array([os.fsencode(str(name)) for name in some], pa.binary())})


@contextmanager
def _cluster() -> Iterator[int]:
    """Connects to a cluster or starts one, and yields how many workers it takes: one processor is kept for the disk."""
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DistributedError(
                f"There is no Ray cluster to be had: {' '.join(str(error).split())[:300]}"
            ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 2)) - 1)
    finally:
        if ours:
            ray.shutdown()
