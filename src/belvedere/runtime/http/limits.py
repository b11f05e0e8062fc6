"""Limits of one request: bytes and seconds."""

from dataclasses import dataclass, fields
from typing import ClassVar

from belvedere.errors import UsageError


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one request. A request over a limit is rejected."""

    MAY_BE_ZERO: ClassVar[tuple[str, ...]] = ()  # names of limits

    max_body_bytes: int = 32_000_000
    body_seconds: float = 30.0  # from the end of the header to the end of the body
    response_seconds: float = 30.0  # from the end of the body to the response, and to read it
    header_seconds: float = 10.0  # from the first byte, or the connection, to the end of the header
    max_buffered_bytes: int = 256_000_000  # request bodies in memory, over all requests
    max_header_bytes: int = 32_768

    def __post_init__(self) -> None:
        """Check the values; raises UsageError."""
        for field in fields(self):
            value, minimum = getattr(self, field.name), 0 if field.name in self.MAY_BE_ZERO else 1e-3
            is_whole = field.type is int
            is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
            if not is_number or not minimum <= value < float("inf"):
                number = "a whole number" if is_whole else "a number"
                raise UsageError(f"Limit {field.name} is not {number} above 0: {value!r}. Give another value.")
        if self.max_body_bytes > self.max_buffered_bytes:
            raise UsageError(
                f"Limit max_body_bytes is too large: {self.max_body_bytes:,}. Give at most max_buffered_bytes, "
                f"{self.max_buffered_bytes:,}."
            )
