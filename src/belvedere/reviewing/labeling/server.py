"""Starts the labeling: reads the images and their embeddings, and runs the server of the page."""

import shlex
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import uvicorn

from belvedere.data.corrections.class_names import check_new_class
from belvedere.data.corrections.corrections_file import CorrectionsFile, damaged_lines_warning
from belvedere.inference.embeddings import Embedder
from belvedere.inference.model import Model
from belvedere.reviewing.embedder import open_embedder
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.labeling.app import create_app
from belvedere.reviewing.labeling.estimate import Accuracy
from belvedere.reviewing.labeling.labels import LabelStore, default_labels_file
from belvedere.reviewing.labeling.output import check_labels_file, list_commands, write_table
from belvedere.reviewing.labeling.pool import read_pool
from belvedere.reviewing.labeling.session import LabelingSession
from belvedere.reviewing.labeling.views import LabelContext
from belvedere.reviewing.page_server import HOST, PORT, PageServer, user_name
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.network import check_main_thread
from belvedere.runtime.progress import Progress, choose_progress


@dataclass(frozen=True)
class LabelSummary:
    """Result of a labeling."""

    labels: Path  # file with every step
    table: Path | None  # of the labeled images, which `train` reads; None without labels
    num_labeled: int
    num_left: int
    counts: dict[str, int]  # labels by class
    accuracy: Accuracy | None  # estimated for the images of the folder
    commands: tuple[str, ...]  # that train on the labels


@overload
def label(
    data: Path | str,
    *,
    classes: Sequence[str] = (),
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    corrections: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
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
    host: str = HOST,
    port: int = PORT,
    annotator: str | None = None,
    progress: Progress | bool | None = None,
    block: bool = True,
) -> "LabelSummary | BackgroundLabeling":
    """Serve a page for labeling the images of a folder, until Ctrl-C, or in a thread.

    A linear probe on the embeddings is fitted again after every few labels. It suggests classes and chooses images.

    Args:
        data: Folder or table of images, labeled or not; its folders and labels are not used.
        classes: Names of classes. More can be added on the page.
        model: Model for the embeddings; default: the bundled one, which needs no download.
        network: Pretrained timm network for the embeddings instead.
        weights: File of its weights; default: downloaded.
        corrections: File for the labels, which are appended; default: one beside the folder.
        host: Address to listen on. Addresses of other machines require a token, which is printed.
        port: Port to listen on; 0 for any free one.
        annotator: Name recorded with each label, unless the page has another. Default: the user's name.
        progress: Reports the address and the progress.
        block: Whether to serve until Ctrl-C. False serves in a thread, as a notebook needs it.

    Returns:
        The files, numbers and commands. If `block` is False: the running labeling, with `url`, `stop()` and `summary`.

    Raises:
        BelvedereError: An argument is invalid, an input cannot be read, or the address is not available; or `block` is
            true, and this is not the main thread, or an event loop runs in it.
    """
    if block:
        check_main_thread("label", "belvedere", "label", str(data))
    progress = choose_progress(progress)
    with ExitStack() as stack:
        page = stack.enter_context(PageServer("Label", host, port, block=block))
        embedder = open_embedder(model, network, weights, progress)
        session = _open_session(Path(data), classes, corrections, embedder, progress)
        context = LabelContext(session, Gallery(), annotator or user_name(), _network_options(network, weights))
        if block:
            stack.enter_context(suppress(KeyboardInterrupt))  # the regular end
        page.log_address(progress)
        session.start()
        stack.callback(session.stop)
        server = page.create(create_app(context, page.guard))
        if not block:
            stack.pop_all()  # the thread closes the socket and stops the session
            return BackgroundLabeling(server, page.listener, page.url, context, session.stop)
        server.run(sockets=[page.listener])
    return summarize(context)


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
        commands = list_commands(store, table, context.network_options) if table else []
        return LabelSummary(
            labels=store.corrections_file.path,
            table=table,
            num_labeled=store.num_labeled(),
            num_left=store.num_left(),
            counts=store.counts(),
            accuracy=session.curve[-1].accuracy if session.curve else None,
            commands=tuple(commands),
        )


def _network_options(network: str | None, weights: Path | str | None) -> str:
    """Return the options of the command `train` for the network of the embeddings."""
    given = {"network": network, "weights": weights}
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)


def _open_session(
    folder: Path, classes: Sequence[str], corrections: Path | str | None, embedder: Embedder, progress: Progress
) -> LabelingSession:
    names: list[str] = []
    for name in classes:
        names.append(check_new_class(name, names))
    corrections_file = CorrectionsFile(Path(corrections) if corrections is not None else default_labels_file(folder))
    check_labels_file(corrections_file)
    pool = read_pool(folder, embedder, progress)
    progress.log_warnings((*pool.warnings, *damaged_lines_warning(corrections_file.path, corrections_file.damaged)))
    return LabelingSession(pool, LabelStore(pool, corrections_file, names))
