"""Starts the review: reads items, model, dataset and corrections, and runs the server."""

import json
import socket
import tomllib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, overload

import uvicorn

from belvedere.data.corrections.corrections_file import CorrectionsFile, damaged_lines_warning
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.groups import group_column
from belvedere.data.hashing import HashedSamples, hash_samples
from belvedere.errors import BelvedereError, UsageError
from belvedere.inference.model import Model
from belvedere.reviewing.app import create_app
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.items import ReviewItems
from belvedere.reviewing.models import ReviewModels, find_models
from belvedere.reviewing.neighbors import NeighborIndex, subsample
from belvedere.reviewing.page_server import HOST, PORT, PageServer, user_name
from belvedere.reviewing.queue import Entry, Queue, make_id
from belvedere.reviewing.sources import read_items
from belvedere.reviewing.views import ReviewContext
from belvedere.runtime.files import beside
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.network import check_main_thread
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.runtime.terminal import count
from belvedere.types.audit import AUDIT
from belvedere.types.data import DataWarning, Sample

CORRECTIONS_SUFFIX = ".corrections.jsonl"  # of the file beside the reviewed folder
DATA_KEY, CORRECTIONS_KEY = "data", "corrections"  # in config.toml and audit.json


@dataclass(frozen=True)
class ReviewSummary:
    """Result of a review."""

    corrections: Path
    num_decisions: int  # including undone ones
    num_left: int  # undecided items


@overload
def review(
    source: Path | str,
    *,
    data: Dataset | Path | str | None = None,
    model: Model | Path | str | None = None,
    corrections: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: Literal[True] = True,
) -> ReviewSummary: ...


@overload
def review(
    source: Path | str,
    *,
    data: Dataset | Path | str | None = None,
    model: Model | Path | str | None = None,
    corrections: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: Literal[False],
) -> "BackgroundReview": ...


def review(
    source: Path | str,
    *,
    data: Dataset | Path | str | None = None,
    model: Model | Path | str | None = None,
    corrections: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: bool = True,
) -> "ReviewSummary | BackgroundReview":
    """Serve a page for reviewing a run or an audit, until Ctrl-C, or in a thread.

    Args:
        source: Folder that `train`, `evaluate` or `audit` wrote.
        data: Dataset, to find neighbors and moved images. Default: the dataset of the run or audit.
        model: Model for heatmaps and neighbors. Default: that of the run or audit, or the bundled one if it has the
            same classes.
        corrections: File for the decisions. Default: the file that the run was trained with, or one beside the folder.
        host: Address to listen on. Addresses of other machines require a token, which is printed.
        port: Port to listen on; 0 for any free one.
        annotator: Name recorded with each decision, unless the page has another. Default: the user's name.
        progress: Reports the address and the progress.
        block: Whether to serve until Ctrl-C. False serves in a thread, as a notebook needs it.

    Returns:
        The corrections file, and the numbers of decisions and undecided items. If `block` is False: the running review,
        with `url`, `stop()` and `summary`.

    Raises:
        BelvedereError: An input cannot be read, or the address is not available; or `block` is true, and this is not
            the main thread, or an event loop runs in it.
    """
    if block:
        check_main_thread("review", "belvedere", "review", str(source))
    folder, progress = Path(source), choose_progress(progress)
    with ExitStack() as stack:
        page = stack.enter_context(PageServer("Review", host, port, block=block))
        corrections_file, applied = _open_corrections(folder, corrections)
        dataset = load_data(folder, data, applied, progress)
        found = read_items(folder, dataset)
        models = find_models(folder, model, found.class_names, progress)
        entries, warnings = list_entries(found, progress)
        progress.log_warnings(warnings + damaged_lines_warning(corrections_file.path, corrections_file.damaged))
        queue = Queue(entries, corrections_file)
        context = create_context(folder, found, queue, models.model, annotator or user_name())
        if block:
            stack.enter_context(suppress(KeyboardInterrupt))  # the regular end
        page.log_address(progress)
        stack.callback(context.neighbors.stop)
        server = page.create(create_app(context, page.guard, models.model))
        # After `create_app`: it replaces the warning filters of the process, and so do decoders in threads. If both do
        # at once, a filter is lost.
        _use_models(context, models, partial(_hash_images, entries, dataset), progress, block)
        if not block:
            stack.pop_all()  # the thread closes the socket and stops the search
            return BackgroundReview(server, page.listener, page.url, context.queue, context.neighbors.stop)
        server.run(sockets=[page.listener])
    return summarize(context.queue)


class BackgroundReview(BackgroundServer):
    """A review in a thread.

    Attributes:
        url: Address of its page, with the token if it needs one.
    """

    def __init__(
        self, server: uvicorn.Server, listener: socket.socket, url: str, queue: Queue, close: Callable[[], object]
    ) -> None:
        self._queue = queue
        super().__init__(server, listener, url, close)

    @property
    def summary(self) -> ReviewSummary:
        """The decisions so far; each is in the corrections file already."""
        return summarize(self._queue)


def _use_models(
    context: ReviewContext,
    models: ReviewModels,
    hash_images: Callable[[Progress], HashedSamples],
    progress: Progress,
    block: bool,
) -> None:
    if models.model is not None:
        progress.log(f"Model for heatmaps and neighbors: {models.model.identity}")
    if models.embed is not None:
        # A bar from a thread would appear in whichever cell of a notebook runs then.
        context.neighbors.start(hash_images, models.embed, progress if block else Progress())


def summarize(queue: Queue) -> ReviewSummary:
    """Count the decisions of a review."""
    num_left = sum(queue.decision_on(each) is None for each in queue.entries.values())
    return ReviewSummary(queue.corrections_file.path, len(queue.corrections_file.decisions), num_left)


def list_entries(found: ReviewItems, progress: Progress) -> tuple[list[Entry], list[DataWarning]]:
    """Return the queue entries of readable images, in order, and a warning with the others."""
    samples = [Sample(item.path, item.image, item.label, item.split) for item in found.items]
    hashed = hash_samples(samples, progress)
    hashes = {id(sample): key for sample, key in zip(hashed.samples, hashed.hashes, strict=True)}
    entries = [
        Entry(make_id(item, key), item, key, item.path.stat().st_size)
        for item, sample in zip(found.items, samples, strict=True)
        if (key := hashes.get(id(sample))) is not None
    ]
    missing = (*found.missing, *(f"{sample.name}: {reason}" for sample, reason in hashed.unreadable))
    message = f"{count(len(missing), 'image')} to review not found. Give the dataset as `data`"
    return entries, [DataWarning(message, missing)] if missing else []


def create_context(
    source: Path, found: ReviewItems, queue: Queue, model: Model | None, annotator: str
) -> ReviewContext:
    """Create the shared state of the pages."""
    no_heatmap = ""
    if model is None:
        no_heatmap = "No heatmap: there is no model."
    elif not model.has_activation_maps:
        no_heatmap = "No heatmap: the model has no class activation maps."
    return ReviewContext(
        title=str(source),
        class_names=found.class_names,
        queue=queue,
        gallery=Gallery(),
        neighbors=NeighborIndex(),
        heatmap_classes=frozenset(model.class_names if model is not None and not no_heatmap else ()),
        no_heatmap=no_heatmap,
        annotator=annotator,
        corrections=str(queue.corrections_file.path.absolute()),
    )


def _open_corrections(folder: Path, corrections: Path | str | None) -> tuple[CorrectionsFile, Path | None]:
    """Open the given corrections file, else that of the run, else one beside the folder.

    Returns:
        The file, and its path if the run was trained with corrections, which then apply to the dataset here as well.
    """
    applied = read_configured(folder, CORRECTIONS_KEY)
    if corrections is None and applied is not None and not Path(applied).is_file():
        raise UsageError(f"Missing corrections file of {folder}: {applied}. Give its new path as `corrections`.")
    path = Path(corrections or applied or beside(folder.resolve(), CORRECTIONS_SUFFIX))
    corrections_file = CorrectionsFile(path)
    return corrections_file, corrections_file.path if applied is not None and corrections_file.path.is_file() else None


def load_data(
    folder: Path, data: Dataset | Path | str | None, corrections: Path | None, progress: Progress
) -> Dataset | None:
    """Load the given dataset, else that of the run or audit if it is still there; None without one. Log its warnings.

    It is read as the run or audit read it: by its layout, or its root, if that still exists, and its column of groups.
    """
    dataset = data if isinstance(data, Dataset) else _read_data(folder, data, corrections, progress)
    if dataset is not None:
        progress.log_warnings(dataset.warnings)
    return dataset


def _read_data(folder: Path, data: Path | str | None, corrections: Path | None, progress: Progress) -> Dataset | None:
    layout, column = read_configured(folder, "layout") or "auto", group_column(read_configured(folder, "group_by"))
    root = read_configured(folder, "root")
    if data is not None and Path(data).is_dir():
        return load_dataset(data, corrections, progress, layout=layout)
    if data is not None:
        root = root if root is not None and Path(root).is_dir() else None
        return load_dataset(data, corrections, progress, root=root, group_column=column)
    if (configured := read_configured(folder, DATA_KEY)) is None:
        return None
    try:
        return load_dataset(configured, corrections, progress, root=root, layout=layout, group_column=column)
    except BelvedereError as error:
        progress.log(f"Warning: the dataset of {folder} was not read. {error} Give it as `data`.")
        return None


def read_configured(folder: Path, key: str) -> str | None:
    """Return what a run or audit records of its dataset or corrections, such as a path."""
    try:
        if (folder / AUDIT).exists():
            value = json.loads((folder / AUDIT).read_text(encoding="utf-8"))[key]
        else:
            value = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["run"][key]
        return value if isinstance(value, str) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _hash_images(entries: list[Entry], dataset: Dataset | None, progress: Progress) -> HashedSamples:
    """Hash the images under review, and those to search for neighbors."""
    reviewed = {entry.sha256: Sample(entry.item.path, entry.item.image, entry.item.label, None) for entry in entries}
    known = hash_samples(subsample(dataset.samples if dataset else ()), progress)
    known_hashes = set(known.hashes)
    more = {key: sample for key, sample in reviewed.items() if key not in known_hashes}
    return HashedSamples((*known.samples, *more.values()), (*known.hashes, *more))
