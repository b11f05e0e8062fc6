"""Fetches a dataset: finds its files, downloads, unpacks and compares them with a manifest."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from belvedere.errors import ArchiveError, FetchError, UsageError
from belvedere.fetching.download import KINDS, PARQUET, ZIP, downloaded
from belvedere.fetching.manifest import ManifestComparison, compare_with_manifest, list_pixels, read_manifest
from belvedere.fetching.parquet import check_pyarrow, unpack_parquet
from belvedere.fetching.registry import KnownDataset, read_registry
from belvedere.fetching.sources import Source, default_name, find_file, find_source
from belvedere.fetching.zip_archive import unpack_zip
from belvedere.images.listing import list_images
from belvedere.runtime.output_folder import atomic_folder, check_output_folder, empty_folder, partial_path
from belvedere.runtime.progress import Progress, choose_progress
from belvedere.types.result import to_plain

MAX_BYTES = 20_000_000_000  # of a download, and of its files unpacked
PARQUET_SUFFIX = ".parquet"
UNPACKING = ".belvedere-fetch"  # file in the unfinished folder of an interrupted fetch


class ArchiveFile(NamedTuple):
    """A file to unpack."""

    name: str  # in the source
    path: Path


@dataclass(frozen=True)
class FetchedDataset:
    """A dataset that was downloaded."""

    folder: Path
    title: str
    source: str  # from where it was downloaded
    license: str  # as its page states it, or "not stated"
    page: str  # address for people; empty if there is none
    num_images: Mapping[str, int]  # by the first folder: a split, a class or "unlabeled"
    comparison: ManifestComparison | None = None  # with the manifest; None without one

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them."""
        return {str(key): value for key, value in to_plain(self).items()}


def fetch(
    source: str,
    out: Path | str | None = None,
    *,
    archive: Path | str | None = None,
    overwrite: bool = False,
    keep_archive: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: Progress | bool | None = None,
) -> FetchedDataset:
    """Download a dataset and unpack it into a folder that `load_dataset` reads.

    Args:
        source: Name of a known dataset, such as "intel-scenes"; a https:// URL of a ZIP or Parquet file;
            hf://datasets/OWNER/NAME, also with @REVISION and /FILE; kaggle://OWNER/NAME; or a file on this disk.
        out: Folder for the images; it appears when it is complete. Default: the name of the dataset.
        archive: A file of a known dataset that was downloaded already.
        overwrite: Whether a folder that Belvedere wrote may be replaced.
        keep_archive: Whether the downloaded files stay in the cache.
        max_bytes: Largest size of a download, and of its files unpacked.
        progress: Receives progress and warnings; default: shown on a terminal and in a notebook.

    Returns:
        The folder, its source and license, and how it differs from the manifest.

    Raises:
        UsageError: There is no such source, or it is not https.
        OutputExistsError: The folder exists and may not be replaced.
        MissingDependencyError: A Parquet file needs the extra `parquet`.
        FetchError: The dataset cannot be downloaded, or its files are damaged or refused.
    """
    shown = choose_progress(progress)
    if max_bytes < 1:
        raise UsageError(f"`max_bytes` must be at least 1. Received: {max_bytes}.")
    known = read_registry().get(source)
    if archive is not None and known is None:
        raise UsageError(f"`archive` is for a dataset known by name. Received: {source}. Give the file alone.")
    name = source if known else default_name(source)
    if out is None and not name:
        raise UsageError(f"{source} gives no name for the folder. Give `out`.")
    folder = Path(out if out is not None else name)
    inputs = [path for each in (archive, source) if each is not None and (path := find_file(str(each)))]
    resume = _was_interrupted(folder)
    check_output_folder(folder, overwrite=overwrite, resume=resume, inputs=inputs)
    with ExitStack() as stack:
        download = partial(_download, stack, max_bytes, keep_archive, shown)
        found, files = _obtain(source, known, archive, download, shown)
        with atomic_folder(folder, overwrite=overwrite, resume=resume, inputs=inputs) as unpacked:
            comparison = _unpack(files, unpacked, known, max_bytes, shown)
            counts = Counter(path.relative_to(unpacked).parts[0] for path in list_images(unpacked))
    return FetchedDataset(
        folder=folder,
        title=known.title if known else name,
        source=found.name,
        license=known.license if known else found.license,
        page=known.page if known else found.page,
        num_images=dict(counts),
        comparison=comparison,
    )


def _was_interrupted(folder: Path) -> bool:
    """Return whether the unfinished folder is that of an interrupted fetch, which begins again."""
    try:
        return (partial_path(folder.resolve()) / UNPACKING).is_file()
    except (OSError, RuntimeError):
        return False  # checking the folder reports it


def _obtain(
    source: str,
    known: KnownDataset | None,
    archive: Path | str | None,
    download: Callable[[Source], list[ArchiveFile]],
    progress: Progress,
) -> tuple[Source, list[ArchiveFile]]:
    """Return the source that worked, and its files; the sources of a known dataset are tried in their order."""
    if known is None or archive is not None:
        found = find_source(source if archive is None else str(archive), progress=progress)
        return found, download(found)
    for number, each in enumerate(known.sources, 1):
        try:
            found = find_source(each.url, each.sha256, progress)
            if not each.sha256:
                progress.log(f"{each.url} has no pinned revision and checksum yet: its images are compared instead.")
            return found, download(found)
        except FetchError as error:
            if number == len(known.sources):
                raise FetchError(f"{error} Or download it in a browser, and give the file as `archive`.") from error
            progress.log(f"{error} Trying {known.sources[number].url}.")
    raise FetchError(f"{source} has no source.")


def _download(stack: ExitStack, max_bytes: int, keep: bool, progress: Progress, found: Source) -> list[ArchiveFile]:
    """Download the files of a source, which stay until the stack is closed."""
    if found.local is not None:
        return [ArchiveFile(found.local.name, found.local)]
    if any(file.name.lower().endswith(PARQUET_SUFFIX) for file in found.files):
        check_pyarrow()
    left, files = max_bytes, []
    for file in found.files:
        path = stack.enter_context(downloaded(file, max_bytes=left, keep=keep, progress=progress))
        left -= path.stat().st_size
        files.append(ArchiveFile(file.name, path))
    return files


def _unpack(
    files: Sequence[ArchiveFile], folder: Path, known: KnownDataset | None, max_bytes: int, progress: Progress
) -> ManifestComparison | None:
    """Unpack files into a folder, and compare it with the manifest of a known dataset."""
    empty_folder(folder)
    (folder / UNPACKING).touch()
    kinds = {_kind_of(file) for file in files}
    if kinds == {PARQUET}:
        warnings = unpack_parquet([(file.name, file.path) for file in files], folder, max_bytes, progress)
    elif kinds == {ZIP} and len(files) == 1:
        warnings = unpack_zip(files[0].path, folder, known.folders if known else {}, max_bytes, progress)
    else:
        raise ArchiveError(f"{files[0].name} is neither a ZIP nor a Parquet file. Give one.")
    progress.log_warnings(warnings)
    comparison = _compare(folder, known, progress)
    (folder / UNPACKING).unlink()
    return comparison


def _kind_of(file: ArchiveFile) -> str:
    with file.path.open("rb") as opened:
        return KINDS.get(opened.read(4), "")


def _compare(folder: Path, known: KnownDataset | None, progress: Progress) -> ManifestComparison | None:
    if known is None or known.manifest is None:
        return None
    manifest = read_manifest(known.manifest)
    comparison = compare_with_manifest(list_pixels(folder, manifest.num_images, progress), manifest)
    progress.log_warnings(comparison.warnings())
    return comparison
