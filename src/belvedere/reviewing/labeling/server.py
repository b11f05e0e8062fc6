"""Starts the labeling: reads the images and their embeddings, and runs the server of the page."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import uvicorn

from belvedere.data.corrections.class_names import check_new_class
from belvedere.data.corrections.corrections_file import CorrectionsFile, active_decisions, damaged_lines_warning
from belvedere.data.labels import normalize_label
from belvedere.errors import UsageError
from belvedere.inference.embeddings import Embedder
from belvedere.inference.model import Model
from belvedere.reviewing.embedder import open_embedder
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.labeling.app import create_app
from belvedere.reviewing.labeling.estimate import Accuracy
from belvedere.reviewing.labeling.labels import LabelStore, default_labels_file, list_classes
from belvedere.reviewing.labeling.output import (
    PlannedTraining,
    check_labels_file,
    output_folders,
    plan_trainings,
    write_table,
)
from belvedere.reviewing.labeling.pool import read_pool
from belvedere.reviewing.labeling.session import LabelingSession
from belvedere.reviewing.labeling.views import LabelContext
from belvedere.reviewing.page_server import HOST, PORT, PageServer, user_name
from belvedere.runtime.dependencies import require
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.network import check_main_thread
from belvedere.runtime.output_folder import check_output_folder
from belvedere.runtime.progress import Progress, choose_progress

if TYPE_CHECKING:
    from belvedere.training.run import Run


@dataclass(frozen=True)
class LabelSummary:
    """Result of a labeling."""

    labels: Path  # file with every step
    table: Path | None  # of the labeled images, which `train` reads; None without labels
    num_labeled: int
    num_left: int
    counts: dict[str, int]  # labels by class
    accuracy: Accuracy | None  # estimated for the images of the folder
    trainings: tuple[PlannedTraining, ...]  # on the labels
    runs: tuple["Run", ...] = ()  # of the trainings, if `train` was given

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that train on the labels."""
        return tuple(each.command for each in self.trainings)


@overload
def label(
    data: Path | str,
    *,
    classes: Sequence[str] = (),
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    corrections: Path | str | None = None,
    root: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    train: bool = False,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
    block: Literal[True] = True,
) -> LabelSummary: ...


@overload
def label(
    data: Path | str,
    *,
    classes: Sequence[str] = (),
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    corrections: Path | str | None = None,
    root: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: Literal[False],
) -> "BackgroundLabeling": ...


def label(
    data: Path | str,
    *,
    classes: Sequence[str] = (),
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    corrections: Path | str | None = None,
    root: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    train: bool = False,
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress | bool | None = None,
    block: bool = True,
) -> "LabelSummary | BackgroundLabeling":
    """Serve a page for labeling images, until Ctrl-C or in a thread; a linear probe suggests classes and images.

    Args:
        data: Folder of images, or a table of images and labels; folders and labels are not used.
        classes: Names of classes. More can be added on the page.
        model: Model for the embeddings; default: the bundled one, which needs no download.
        network: Pretrained timm network for the embeddings instead.
        weights: File of its weights; default: downloaded.
        corrections: File for the labels, which are appended; default: one beside the folder.
        root: Folder that the image paths of a table are relative to; default: that of the table.
        host: Address to listen on. Addresses of other machines require a token, which is printed.
        port: Port to listen on; 0 for any free one.
        annotator: Name recorded with each label, unless the page has another. Default: the user's name.
        train: Whether to train on the labels at the end: after Ctrl-C, or from the last page.
        out: Run folder of the training. Default: one beside the labels.
        overwrite: Whether `train` may replace an older run there.
        progress: Reports the address and the progress.
        block: Whether to serve until Ctrl-C. False serves in a thread, as a notebook needs it.

    Returns:
        The files, numbers and commands. If not `block`: the running labeling, with `url`, `stop()` and `summary`.

    Raises:
        BelvedereError: An argument is invalid, an input cannot be read, the address is not available, or `block` is
            true outside the main thread or in an event loop.
    """
    if block:
        check_main_thread("label", "belvedere", "label", str(data))
    progress = choose_progress(progress)
    labels_file = default_labels_file(Path(data)) if corrections is None else Path(corrections)
    if train:
        _check_training(labels_file, out, data, overwrite=overwrite, block=block)
    with ExitStack() as stack:
        page = stack.enter_context(PageServer("Label", host, port, block=block))
        embedder = open_embedder(model, network, weights, progress)
        session = _open_session(Path(data), root, classes, labels_file, embedder, progress)
        options = _network_options(network, weights)
        context = LabelContext(session, Gallery(), annotator or user_name(), options, out, trains=train)
        if running := _serve(page, context, stack, progress, block=block):
            return running
    summary = summarize(context)
    return _train(summary, overwrite, progress) if train else summary


def _train(summary: LabelSummary, overwrite: bool, progress: Progress) -> LabelSummary:
    runs = tuple(each.run(overwrite=overwrite, progress=progress) for each in summary.trainings)
    return replace(summary, runs=runs)


def _check_training(
    labels_file: Path, out: Path | str | None, data: Path | str, *, overwrite: bool, block: bool
) -> None:
    """Check, before any work, that a training can follow."""
    if not block:
        raise UsageError("`train` needs `block`. Otherwise call `belvedere.train` with the table of `summary`.")
    require("train", "Training on the labels")
    for folder in output_folders(labels_file, out):
        check_output_folder(folder, overwrite=overwrite, inputs=[data, labels_file])


def _serve(
    page: PageServer, context: LabelContext, stack: ExitStack, progress: Progress, *, block: bool
) -> "BackgroundLabeling | None":
    """Serve the page until Ctrl-C, or in a thread, which then closes what is on the stack."""
    if block:
        stack.enter_context(suppress(KeyboardInterrupt))  # the regular end
    page.log_address(progress)
    app = create_app(context, page.guard)
    context.session.start()  # after `create_app`: both replace warning filters, see `review`
    stack.callback(context.session.stop)
    server = page.create(app)
    app.state.end = partial(setattr, server, "should_exit", True)
    if not block:
        stack.pop_all()  # the thread closes the socket and stops the session
        return BackgroundLabeling(server, page.listener, page.url, context, context.session.stop)
    server.run(sockets=[page.listener])
    return None


class BackgroundLabeling(BackgroundServer):
    """A labeling in a thread.

    Attributes:
        url: Address of its page, with the token if it needs one.
    """

    def __init__(
        self,
        server: uvicorn.Server,
        listener: socket.socket,
        url: str,
        context: LabelContext,
        close: Callable[[], object],
    ) -> None:
        self._context = context
        super().__init__(server, listener, url, close)

    @property
    def summary(self) -> LabelSummary:
        """The labels so far; each is in the labels file already, and this writes the table."""
        return summarize(self._context)


def summarize(context: LabelContext) -> LabelSummary:
    """Write the table of labels, and count them."""
    session = context.session
    with session.lock:
        store = session.store
        table = write_table(store)
        return LabelSummary(
            labels=store.corrections_file.path,
            table=table,
            num_labeled=store.num_labeled(),
            num_left=store.num_left(),
            counts=store.counts(),
            accuracy=session.curve[-1].accuracy if session.curve else None,
            trainings=tuple(plan_trainings(store, table, context.network_options, context.out)),
        )


def _network_options(network: str | None, weights: Path | str | None) -> dict[str, str]:
    """Return the arguments of `train` for the network of the embeddings."""
    given = {"network": network, "weights": weights}
    return {name: str(value) for name, value in given.items() if value is not None}


def _open_session(
    folder: Path,
    root: Path | str | None,
    classes: Sequence[str],
    labels_file: Path,
    embedder: Embedder,
    progress: Progress,
) -> LabelingSession:
    names: list[str] = []
    for name in classes:
        names.append(check_new_class(name, names))
    corrections_file = CorrectionsFile(labels_file)
    recorded = {normalize_label(name): name for name in list_classes(active_decisions(corrections_file.decisions))}
    names = [recorded.get(normalize_label(name), name) for name in names]  # one spelling in the table
    check_labels_file(corrections_file, folder)
    pool = read_pool(folder, embedder, progress, root)
    progress.log_warnings((*pool.warnings, *damaged_lines_warning(corrections_file.path, corrections_file.damaged)))
    return LabelingSession(pool, LabelStore(pool, corrections_file, names))
