"""Starting the review: what is in doubt, the model, the photographs and the journal put together, and the server run.

Knows the order of these steps and what may be missing; does not know pages.
"""

import getpass
import json
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from belvedere.data.corrections.journal import Journal, damaged_note
from belvedere.data.dataset import Dataset, load_dataset
from belvedere.data.hashing import Contents, read_contents
from belvedere.errors import BelvedereError, UsageError
from belvedere.inference.model import Model
from belvedere.review.app import create_app
from belvedere.review.auth import LOGIN_PATH, Guard
from belvedere.review.images import Gallery
from belvedere.review.items import Doubts
from belvedere.review.models import find_sight
from belvedere.review.neighbours import Neighbours, subsample
from belvedere.review.queue import Entry, Queue, make_id
from belvedere.review.sources import AUDIT, read_doubts
from belvedere.review.views import ReviewContext
from belvedere.runtime.http.connections import limited
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.network import address_of, check_main_thread, listen, url_of
from belvedere.runtime.progress import Progress
from belvedere.types.data import Note, Sample

HOST, PORT = "127.0.0.1", 8642
JOURNAL_SUFFIX = ".journal.jsonl"  # behind the name of the folder that is reviewed, beside it
PHOTOGRAPHS_KEY, JOURNAL_KEY = "photographs", "labels"  # in config.toml and audit.json
GRACE_SECONDS = 2


@dataclass(frozen=True)
class Reviewed:
    """What came of a review."""

    journal: Path
    recorded: int  # decisions, those undone among them
    left: int  # doubts


def run_review(
    source: Path | str,
    *,
    photos: Path | str | None = None,
    model: Path | str | None = None,
    journal: Path | str | None = None,
    host: str = HOST,
    port: int = PORT,
    who: str | None = None,
    progress: Progress | None = None,
) -> Reviewed:
    """Serves the page for going through doubts, until Ctrl-C.

    Args:
        source: A folder that `belvedere train`, `evaluate --out` or `audit` wrote.
        photos: The data set: for neighbours, and to find photographs that were moved. Without, what the run names.
        model: Shows where its evidence is, and what it takes to be alike. Without, the run's or the audit's, or the
            bundled one where that knows the same classes.
        journal: The file for the decisions; without, that which the run was trained with, or one beside the folder.
        host: The address to listen on. Away from this machine a token is needed, which is said.
        port: 0 for any that is free.
        who: Stands with each decision, where the page is not told another name; without, the user's name.
        progress: Says the address, and shows how far it is.

    Returns:
        What came of it.

    Raises:
        BelvedereError: The folder, the data set, the model or the journal can't be read, or the address not be had; or
            this is not the main thread, or an event loop runs in it.
    """
    check_main_thread("run_review", "belvedere", "review", str(source))
    folder, progress = Path(source), progress or Progress()
    book, applied = _open_journal(folder, journal)
    dataset = _find_photos(folder, photos, applied, progress)
    found = read_doubts(folder, dataset)
    sight = find_sight(folder, model, found.class_names, progress)
    entries, lost = list_entries(found, progress)
    progress.say_notes(lost + damaged_note(book.path, book.damaged))
    scene = create_scene(folder, found, Queue(entries, book), sight.model, who or _user_name())
    with listen(host, port) as listening, suppress(KeyboardInterrupt):  # how it is meant to end
        guard = Guard(address_of(listening), host)
        _say_where(url_of(listening, host), guard, progress)
        if sight.model is not None:
            progress.say(f"Model for heat-maps and neighbors: {sight.model.identity}")
        if sight.describe is not None:
            scene.neighbours.start(partial(_describable, entries, dataset), sight.describe, progress)
        try:
            make_server(create_app(scene, guard, sight.model), guard.limits).run(sockets=[listening])
        finally:
            scene.neighbours.stop()
    return Reviewed(book.path, len(book.decisions), sum(scene.queue.find_decided(each) is None for each in entries))


def list_entries(found: Doubts, progress: Progress) -> tuple[list[Entry], list[Note]]:
    """Lists the doubts whose photographs are there, in their order, and names the others."""
    samples = [Sample(doubt.path, doubt.image, doubt.given, doubt.part) for doubt in found.doubts]
    contents = read_contents(samples, progress)
    hashes = {id(sample): key for sample, key in zip(contents.samples, contents.hashes, strict=True)}
    entries = [
        Entry(make_id(doubt, key), doubt, key, doubt.path.stat().st_size)
        for doubt, sample in zip(found.doubts, samples, strict=True)
        if (key := hashes.get(id(sample))) is not None
    ]
    lost = (*found.lost, *(f"{sample.image}: {reason}" for sample, reason in contents.unreadable))
    notes = [Note(f"{len(lost)} in doubt not found: say with --data where they are", lost)] if lost else []
    return entries, notes


def create_scene(source: Path, found: Doubts, queue: Queue, model: Model | None, who: str) -> ReviewContext:
    """Puts together what the pages of one review share."""
    if model is None:
        no_heatmap = "There is no heat-map: no model is known that says where it sees a class."
    elif not model.has_activation_maps:
        no_heatmap = "There is no heat-map: this model does not say where in a picture its evidence is."
    else:
        no_heatmap = ""
    return ReviewContext(
        title=str(source),
        class_names=found.class_names,
        queue=queue,
        gallery=Gallery(),
        neighbours=Neighbours(),
        heatmap_classes=frozenset(model.class_names if model is not None and not no_heatmap else ()),
        no_heatmap=no_heatmap,
        who=who,
        journal=str(queue.journal.path.absolute()),
    )


def _open_journal(folder: Path, journal: Path | str | None) -> tuple[Journal, Path | None]:
    """The journal that is named, else that which the run was trained with, else one beside the folder.

    A journal that was applied in training is gone on with, so that its decisions stay, and it is applied here too.
    """
    applied = _named_in(folder, JOURNAL_KEY)
    if journal is None and applied is not None and not Path(applied).is_file():
        raise UsageError(
            f"{folder} was trained with the journal {applied}, which is not there. Name it with --corrections."
        )
    place = folder.resolve()
    book = Journal(Path(journal or applied or place.with_name(place.name + JOURNAL_SUFFIX)))
    return book, book.path if applied is not None and book.path.is_file() else None


def _find_photos(folder: Path, photos: Path | str | None, labels: Path | None, progress: Progress) -> Dataset | None:
    """The data set that is named, or else that of the run or audit, if it is still there."""
    if photos is not None:
        return load_dataset(photos, labels, progress)
    if (named := _named_in(folder, PHOTOGRAPHS_KEY)) is None:
        return None
    try:
        return load_dataset(named, labels, progress)
    except BelvedereError as error:
        progress.say(f"Note: the photographs that {folder} is about are not read. {error} Name them with --data.")
        return None


def _named_in(folder: Path, key: str) -> str | None:
    """What a run or an audit says it was made of: its data set, or the journal that mended the labels."""
    try:
        if (folder / AUDIT).exists():
            named = json.loads((folder / AUDIT).read_text(encoding="utf-8"))[key]
        else:
            named = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["run"][key]
        return named if isinstance(named, str) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _describable(entries: list[Entry], dataset: Dataset | None, progress: Progress) -> Contents:
    """The photographs in doubt, and those to look for neighbours among."""
    doubtful = {entry.sha256: Sample(entry.doubt.path, entry.doubt.image, entry.doubt.given, "") for entry in entries}
    if dataset is None:
        return Contents(tuple(doubtful.values()), tuple(doubtful), ())
    known = read_contents(subsample(dataset.samples), progress)
    there = set(known.hashes)
    more = {key: sample for key, sample in doubtful.items() if key not in there}
    return Contents((*known.samples, *more.values()), (*known.hashes, *more), ())


def _say_where(url: str, guard: Guard, progress: Progress) -> None:
    entrance = f"{LOGIN_PATH}?token={guard.token}" if guard.token else "/"
    progress.say(f"Review: {url}{entrance}  (Ctrl-C ends it)")
    if guard.token:
        progress.say("Whoever has this address can see the photographs and decide. It is not encrypted.")


def make_server(app: Callable[..., object], limits: RequestLimits) -> uvicorn.Server:
    """Makes the server of an application, within limits on requests."""
    config = uvicorn.Config(
        app,
        http=limited(limits),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "someone"
