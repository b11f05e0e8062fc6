"""Limits of what an archive unpacks to."""

import shutil
from pathlib import Path

from belvedere.errors import FetchError
from belvedere.fetching.layout import refusal

MAX_ENTRIES = 500_000  # files, or rows
# Images hardly shrink in an archive. The larger of both limits applies.
MAX_EXPANSION, MIN_EXPANDED_BYTES = 50, 1_000_000_000


def check_count(number: int, unit: str) -> None:
    """Raise `ArchiveError` if an archive has too many entries or rows."""
    if number > MAX_ENTRIES:
        raise refusal(f"it has {number:,} {unit}, more than {MAX_ENTRIES:,}")


def check_size(total: int, packed: int, max_bytes: int) -> None:
    """Check the size of all files, unpacked.

    Args:
        total: The size in bytes.
        packed: Size of the archive.
        max_bytes: Limit of the caller.

    Raises:
        FetchError: It is over a limit.
    """
    if total > max_bytes:
        raise FetchError(
            f"The archive unpacks to {total:,} bytes or more, over the limit of {max_bytes:,} bytes. "
            "Raise `max_bytes`, if you expect that."
        )
    if total > max(MIN_EXPANDED_BYTES, MAX_EXPANSION * packed):
        raise refusal(f"it unpacks to {total:,} bytes or more, over {MAX_EXPANSION} times its size")


def check_disk(size: int, folder: Path) -> None:
    """Raise `FetchError` if the disk of a folder has no room for some bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise FetchError(
            f"The archive unpacks to {size / 1e6:,.0f} MB, but the disk has room for {free / 1e6:,.0f} MB. "
            "Free some, or give another `out`."
        )
