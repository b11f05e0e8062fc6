"""One thread of BLAS, while threads of ours multiply matrices."""

import threading
from types import TracebackType

from threadpoolctl import threadpool_limits


class SingleBlasThread:
    """Limits BLAS to one thread while blocks run, in one or several threads; the last one restores the limit before."""

    def __init__(self) -> None:
        self._lock, self._num_blocks = threading.Lock(), 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._num_blocks += 1
            if self._limits is None:
                self._limits = threadpool_limits(1, "blas")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._num_blocks -= 1
            if not self._num_blocks and self._limits is not None:
                self._limits.restore_original_limits()
                self._limits = None


single_blas_thread = SingleBlasThread()
