"""What the service takes at most, of anything a stranger may send.

Knows numbers and whether they go together; does not know requests.
"""

from dataclasses import dataclass

from belvedere.errors import UsageError
from belvedere.images.decode import MAX_PIXELS
from belvedere.inference.model import BATCH
from belvedere.runtime.http.limits import RequestLimits


@dataclass(frozen=True, slots=True)
class Limits(RequestLimits):
    """The bounds of one service; what is over them is refused, with a reason."""

    pixels: int = 50_000_000  # of one picture: height times width
    files: int = 32  # of one request
    queue: int = 256  # pictures that wait or are worked on; more are refused until some are answered
    batch: int = 16  # pictures that go through the model at once, on each core
    decode_seconds: float = 10.0  # for one picture; over it, its decoder is stuck, and another takes its place
    keep_alive_seconds: float = 5.0  # for which a connection is kept on which nothing is asked
    drain_seconds: float = 1.0  # at the end: still accepting, so that no client is cut off between two requests

    def __post_init__(self) -> None:
        """Raises UsageError where a bound makes no sense."""
        RequestLimits.__post_init__(self)
        if self.files > self.queue:
            raise UsageError(
                f"A request may hold {self.files} files, but the queue takes {self.queue} pictures: such a request "
                "could never be answered. Give a longer queue, or fewer files."
            )
        if self.batch > BATCH:
            raise UsageError(
                f"A batch is {BATCH} pictures at most, on each core: more are no quicker. Received: {self.batch}."
            )
        if self.pixels > MAX_PIXELS:
            raise UsageError(f"At most {MAX_PIXELS:,} pixels can be read. Received a limit of {self.pixels:,}.")
