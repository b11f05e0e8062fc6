"""Limits of the service."""

from dataclasses import dataclass
from typing import ClassVar

from belvedere.errors import UsageError
from belvedere.images.limits import MAX_PIXELS
from belvedere.inference.model_graph import BATCH_SIZE
from belvedere.runtime.http.limits import RequestLimits


@dataclass(frozen=True, slots=True)
class Limits(RequestLimits):
    """Limits of one service; requests over them are rejected."""

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ("drain_seconds",)

    max_pixels: int = 50_000_000  # height times width of one image
    max_files: int = 32  # per request
    max_queue: int = 256  # images waiting or in work
    max_batch_size: int = 16  # images per batch and thread
    max_monitor_bytes: int = 1_000_000_000  # of the records of predictions; the oldest are deleted
    decode_seconds: float = 10.0  # per image; then the decoder counts as stuck and is replaced
    keep_alive_seconds: float = 5.0  # without a request on an open connection
    drain_seconds: float = 1.0  # at shutdown: time in which requests are still accepted

    def __post_init__(self) -> None:
        """Check the values; raises UsageError."""
        RequestLimits.__post_init__(self)
        for name, maximum in (
            ("max_batch_size", BATCH_SIZE),
            ("max_pixels", MAX_PIXELS),
            ("max_files", self.max_queue),
        ):
            if getattr(self, name) > maximum:
                raise UsageError(f"Limit {name} is too large: {getattr(self, name):,}. Give at most {maximum:,}.")
