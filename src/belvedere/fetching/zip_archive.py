"""Unpacks untrusted ZIP files: everything is checked before the first file is written."""

import io
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from belvedere.data.label_tables import TABLE_SUFFIXES
from belvedere.errors import ArchiveError, FetchError
from belvedere.fetching.layout import DistinctNames, arrange, is_hidden, refusal, split_name
from belvedere.fetching.outside_paths import outside_warnings
from belvedere.fetching.unpacked_size import check_count, check_disk, check_size
from belvedere.images.content import MAX_BYTES
from belvedere.images.formats import START_BYTES, detect_format
from belvedere.images.listing import IMAGE_SUFFIXES, SkippedFiles
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import describe_error
from belvedere.types.data import DataWarning

MAX_DIRECTORY_BYTES = 32_000_000  # of the list of entries, which is in memory
MAX_PARTS = 1_500_000  # folders in the names of all files, and the files
ENTRY = b"PK\x01\x02"  # start of an entry in the list
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA, for one, takes as much memory as the file says
LABEL_SUFFIXES = (*TABLE_SUFFIXES, ".txt", ".json")  # tables of labels, and lists of class names
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, ValueError, RuntimeError)
ENCRYPTED = 0x1  # flag
COPY_BYTES = 1 << 20


class _Bounded(io.FileIO):
    """A file that is read in pieces of limited size: zipfile reads the list of entries at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        size = MAX_DIRECTORY_BYTES if size is None or size < 0 else size
        if size > MAX_DIRECTORY_BYTES:
            raise refusal(f"its list of files is larger than {MAX_DIRECTORY_BYTES:,} bytes")
        content = super().read(size) or b""
        check_count(content.count(ENTRY), "entries")  # before zipfile makes an object of each
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and offset < 0:  # as a damaged list of entries says
            raise zipfile.BadZipFile("an entry outside of the file")
        return super().seek(offset, whence)


def unpack_zip(
    archive: Path, folder: Path, folders: Mapping[str, str], max_bytes: int, progress: Progress
) -> tuple[DataWarning, ...]:
    """Unpack the images and tables of a ZIP file.

    Args:
        archive: The file.
        folder: An empty folder of ours.
        folders: As in `arrange`; then no tables are unpacked.
        max_bytes: Largest size of all files, unpacked.
        progress: Receives progress.

    Returns:
        Warnings on files that were left out, and on tables that name files outside of the folder.

    Raises:
        ArchiveError: It is damaged, or refused.
        FetchError: It is too large for the limit or the disk.
        OSError: The disk is full.
    """
    with _zip_errors(), _Bounded(archive, "rb") as file, zipfile.ZipFile(file) as opened:
        entries = _list_files(opened)
        chosen, warnings = _choose(opened, entries, folders)
        names = DistinctNames()
        for parts in chosen.values():
            names.add(parts)
        total = sum(entry.file_size for entry in chosen)
        check_size(total, archive.stat().st_size, max_bytes)
        check_disk(total, folder)
        with progress.task("Unpacking", len(chosen), "files") as task:
            for entry, parts in chosen.items():
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as packed, target.open("xb") as plain:
                    shutil.copyfileobj(packed, plain, COPY_BYTES)
                task.advance(1)
    targets = (folder.joinpath(*parts) for parts in chosen.values())
    tables = [target for target in targets if target.suffix.lower() in LABEL_SUFFIXES]
    return (*warnings, *outside_warnings(folder, tables))


@contextmanager
def _zip_errors() -> Iterator[None]:
    try:
        yield
    except FetchError:
        raise
    except _ZIP_ERRORS as error:
        raise ArchiveError(f"The archive is damaged: {describe_error(error)}. Download it again.") from error


def _list_files(archive: zipfile.ZipFile) -> dict[zipfile.ZipInfo, tuple[str, ...]]:
    """Return the files with the parts of their names.

    Raises:
        FetchError: An entry is not an ordinary file or folder, or there are too many.
    """
    files, num_parts = {}, 0
    for entry in archive.infolist():
        parts = split_name(entry.filename)
        num_parts += len(parts)
        if num_parts > MAX_PARTS:
            raise refusal(f"the names of its files have more than {MAX_PARTS:,} parts")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refusal(f"an entry is a link or a device: {entry.filename[:200]!r}")
        if entry.is_dir() or kind == stat.S_IFDIR:
            continue
        if entry.flag_bits & ENCRYPTED:
            raise refusal("it is encrypted")
        if entry.compress_type not in METHODS:
            raise refusal(f"an entry is packed by an unusual method ({entry.compress_type}): {entry.filename[:200]!r}")
        files[entry] = parts
    return files


def _choose(
    archive: zipfile.ZipFile, files: Mapping[zipfile.ZipInfo, tuple[str, ...]], folders: Mapping[str, str]
) -> tuple[dict[zipfile.ZipInfo, tuple[str, ...]], list[DataWarning]]:
    """Return the new names of the files that are unpacked, and warnings on the others."""
    visible = {entry: parts for entry, parts in files.items() if not is_hidden(parts)}
    wanted = {
        entry: parts for entry, parts in visible.items() if _is_wanted(archive, entry, parts[-1], tables=not folders)
    }
    skipped = SkippedFiles(parts[-1] for entry, parts in visible.items() if entry not in wanted)
    arranged = list(zip(wanted, arrange(list(wanted.values()), folders), strict=True))
    chosen = {entry: parts for entry, parts in arranged if parts is not None}
    outside = tuple(entry.filename for entry, parts in arranged if parts is None)
    hidden = len(files) - len(visible)
    warnings = [DataWarning(f"{hidden:,} hidden files of the archive skipped")] * bool(hidden)
    if skipped:
        warnings.append(DataWarning(f"Not unpacked, since they are neither images nor tables: {skipped}"))
    if outside:
        warnings.append(DataWarning(f"{len(outside):,} images of the archive outside of the known folders", outside))
    if not chosen:
        expected = f" in the folders {', '.join(folders)}" if folders else ""
        raise refusal(f"it has no images{expected}" + (f", only {skipped}" if skipped else ""))
    for entry in chosen:
        if entry.file_size > MAX_BYTES:
            raise refusal(f"{entry.filename[:200]!r} has {entry.file_size:,} bytes, over the limit of {MAX_BYTES:,}")
    return chosen, warnings


def _is_wanted(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, *, tables: bool) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix:
        return suffix in IMAGE_SUFFIXES or (tables and suffix in LABEL_SUFFIXES)
    with archive.open(entry) as file:
        return bool(detect_format(file.read(START_BYTES)))
