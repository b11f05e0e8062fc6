"""What the service takes at most, of anything a stranger may send.

Knows numbers and whether they go together; does not know requests.
"""

from dataclasses import dataclass, fields

from belvedere.errors import UsageError
from belvedere.images import MAX_PIXELS
from belvedere.model import BATCH


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one service; what is over them is refused, with a reason."""

    body_bytes: int = 32_000_000  # of one request
    pixels: int = 50_000_000  # of one picture: height times width
    files: int = 32  # of one request
    queue: int = 256  # pictures that wait or are worked on; more are refused until some are answered
    batch: int = 16  # pictures that go through the model at once, on each core
    body_seconds: float = 30.0  # from a request's head to the end of its body
    answer_seconds: float = 30.0  # from a request's body to its answer
    head_seconds: float = 10.0  # from a connection, or a request's first byte, to the end of its head
    drain_seconds: float = 1.0  # at the end: still accepting, so that no client is cut off between two requests
    held_bytes: int = 256_000_000  # bodies in memory at one time, of all requests
    head_bytes: int = 32_768  # of a request's head

    def __post_init__(self) -> None:
        """Raises UsageError where a bound makes no sense."""
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "drain_seconds" else 1e-3
            if not least <= value < float("inf"):
                name = field.name.replace("_", " ")
                raise UsageError(f"The limit on {name} must be a number above 0. Received: {value}.")
        if self.files > self.queue:
            raise UsageError(
                f"A request may hold {self.files} files, but the queue takes {self.queue} pictures: such a request "
                "could never be answered. Give a longer queue, or fewer files."
            )
        if self.body_bytes > self.held_bytes:
            raise UsageError(
                f"A request may be {self.body_bytes:,} bytes, but only {self.held_bytes:,} are held in memory at one "
                "time. Give a smaller limit."
            )
        if self.batch > BATCH:
            raise UsageError(
                f"A batch is {BATCH} pictures at most, on each core: more are no quicker. Received: {self.batch}."
            )
        if self.pixels > MAX_PIXELS:
            raise UsageError(f"At most {MAX_PIXELS:,} pixels can be read. Received a limit of {self.pixels:,}.")
