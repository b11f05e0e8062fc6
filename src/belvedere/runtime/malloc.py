"""The C library's memory while a network is trained on the processor.

Each step of training frees large blocks and takes the same ones again. glibc gives every block over 32 MB back to the
kernel and fetches it anew, page by page: of a step of the article's network that was half the time (0.17 s against
0.09 s on two cores).
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
KEEP_ALL = 2**31 - 1
# Afterwards: what glibc itself would have come to by then. Its own adjusting ends with the first call of mallopt.
USUAL_TRIM_THRESHOLD, USUAL_MMAP_MAX = 64 * 2**20, 65_536


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Lets the C library keep freed blocks for reuse while the block runs, then gives them back.

    Does nothing where the C library is not glibc.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, KEEP_ALL)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_MAX, USUAL_MMAP_MAX)
        library.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_THRESHOLD)
        library.malloc_trim(0)


def trim_memory() -> None:
    """Returns freed blocks to the system: what follows a training would else be taken on top of what it needed."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
