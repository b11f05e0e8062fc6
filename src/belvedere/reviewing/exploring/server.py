"""Starts the map: reads images and embeddings, and runs the server of the page."""

from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

from belvedere.data.dataset import Dataset
from belvedere.errors import UsageError
from belvedere.inference.embeddings import Embedder
from belvedere.inference.model import Model
from belvedere.inference.model_paths import BUNDLED, is_model_path
from belvedere.reviewing import auth
from belvedere.reviewing.embedder import open_embedder
from belvedere.reviewing.exploring.app import ExploreContext, create_app, embed_example, nearest_rows
from belvedere.reviewing.exploring.pairs import PairFinder
from belvedere.reviewing.exploring.projection import PURPOSE
from belvedere.reviewing.exploring.selection import network_options
from belvedere.reviewing.exploring.sources import ImageMap, read_map, records_dataset, select_rows, title_of
from belvedere.reviewing.images import Gallery
from belvedere.reviewing.page_server import HOST, PORT, PageServer
from belvedere.runtime.dependencies import require
from belvedere.runtime.http.background import BackgroundServer
from belvedere.runtime.network import check_main_thread
from belvedere.runtime.progress import Progress, choose_progress

MAX_EXAMPLE_BYTES = 32_000_000  # of a request with an example image
LIMITS = replace(auth.LIMITS, max_body_bytes=MAX_EXAMPLE_BYTES, max_buffered_bytes=2 * MAX_EXAMPLE_BYTES)


@overload
def explore(
    source: Dataset | Path | str,
    *,
    data: Dataset | Path | str | None = None,
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    image: Path | str | None = None,
    cell: str | None = None,
    host: str = HOST,
    port: int = PORT,
    progress: Progress | bool | None = None,
    block: Literal[True] = True,
) -> None: ...


@overload
def explore(
    source: Dataset | Path | str,
    *,
    data: Dataset | Path | str | None = None,
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    image: Path | str | None = None,
    cell: str | None = None,
    host: str = HOST,
    port: int = PORT,
    progress: Progress | bool | None = None,
    block: Literal[False],
) -> BackgroundServer: ...


def explore(
    source: Dataset | Path | str,
    *,
    data: Dataset | Path | str | None = None,
    model: Model | Path | str | None = None,
    network: str | None = None,
    weights: Path | str | None = None,
    image: Path | str | None = None,
    cell: str | None = None,
    host: str = HOST,
    port: int = PORT,
    progress: Progress | bool | None = None,
    block: bool = True,
) -> BackgroundServer | None:
    """Serve a page with a dataset, run or audit as a map, until Ctrl-C, or in a thread.

    Args:
        source: Labeled images, as for `evaluate`; or a folder that `train`, `evaluate` or `audit` wrote.
        data: Dataset of the run or audit, if it was moved.
        model: Model for the embeddings. Default: that of the run, else the bundled one, which needs no download.
        network: Pretrained timm network for the embeddings instead.
        weights: File of its weights; default: downloaded.
        image: Image to begin with: it and the images most like it are shown. It need not be on the map.
        cell: Cell of the confusion matrix to begin with, as "LABEL,PREDICTION"; for a run.
        host: Address to listen on. Addresses of other machines require a token, which is printed.
        port: Port to listen on; 0 for any free one.
        progress: Reports the address and the progress.
        block: Whether to serve until Ctrl-C. False serves in a thread, as a notebook needs it.

    Returns:
        None; if `block` is False, the running server, with `url` and `stop()`.

    Raises:
        MissingDependencyError: The packages of the extra `explore` are not installed.
        UsageError: Arguments exclude each other, no image is meant by `cell`, or too few images can be read.
        BelvedereError: The images, the model or its weights cannot be read, or the address is not available; or
            `block` is true, and this is not the main thread, or an event loop runs in it.
    """
    require("explore", PURPOSE)
    source, progress = source if isinstance(source, Dataset) else Path(source), choose_progress(progress)
    _check_arguments(source, data, image, cell)
    if block:
        check_main_thread("explore", "belvedere", "explore", title_of(source))
    with ExitStack() as stack:
        page = stack.enter_context(PageServer("Map", host, port, block=block, limits=LIMITS))
        own = source if isinstance(source, Path) and is_model_path(source) else None  # model of a run
        embedder = open_embedder(model, network, weights, progress, own or BUNDLED)
        options = network_options(own if model is network is weights is None else model, network, weights)
        context = _make_context(read_map(source, data, embedder, progress), embedder, image, cell, options)
        if block:
            stack.enter_context(suppress(KeyboardInterrupt))  # the regular end
        page.log_address(progress)
        server = page.create(create_app(context, page.guard))
        stack.callback(context.pairs.stop)
        context.pairs.start()  # after `create_app`: both replace warning filters, see `review`
        if not block:
            stack.pop_all()  # the thread closes the socket and stops the search
            return BackgroundServer(server, page.listener, page.url, context.pairs.stop)
        server.run(sockets=[page.listener])
    return None


def _check_arguments(
    source: Dataset | Path, data: Dataset | Path | str | None, image: Path | str | None, cell: str | None
) -> None:
    if image is not None and cell is not None:
        raise UsageError("`image` and `cell` exclude each other. Leave one out.")
    if data is not None and not (isinstance(source, Path) and records_dataset(source)):
        raise UsageError(f"`data` is the dataset of a run or audit, and {title_of(source)} is neither. Leave it out.")


def _make_context(
    images: ImageMap, embedder: Embedder, image: Path | str | None, cell: str | None, label_options: str
) -> ExploreContext:
    selected = select_rows(images, image, cell)
    if image is not None:
        vector = images.embeddings[selected[0]] if selected else embed_example(embedder, Path(image))
        selected = list(dict.fromkeys([*selected, *nearest_rows(images.embeddings, vector)]))
    pairs = PairFinder(images.samples, images.hashes, images.pairs)
    return ExploreContext(images, pairs, Gallery(), embedder, selected, label_options)
