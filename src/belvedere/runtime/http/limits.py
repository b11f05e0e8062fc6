"""What a server takes at most of one request, in bytes and in seconds.

Knows numbers and whether they go together; does not know requests.
"""

from dataclasses import dataclass, fields

from belvedere.errors import UsageError


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The bounds of a request; what is over them is refused, with a reason."""

    body_bytes: int = 32_000_000  # of one request
    body_seconds: float = 30.0  # from a request's head to the end of its body
    answer_seconds: float = 30.0  # from a request's body to its answer
    head_seconds: float = 10.0  # from a connection, or a request's first byte, to the end of its head
    held_bytes: int = 256_000_000  # bodies in memory at one time, of all requests
    head_bytes: int = 32_768  # of a request's head

    def __post_init__(self) -> None:
        """Raises UsageError where a bound makes no sense."""
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "drain_seconds" else 1e-3
            if not least <= value < float("inf"):
                name = field.name.replace("_", " ")
                raise UsageError(f"The limit on {name} must be a number above 0. Received: {value}.")
        if self.body_bytes > self.held_bytes:
            raise UsageError(
                f"A request may be {self.body_bytes:,} bytes, but only {self.held_bytes:,} are held in memory at one "
                "time. Give a smaller limit."
            )
