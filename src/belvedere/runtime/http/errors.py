"""Why a request is refused, in the one shape that every refusal has.

    {"error": {"code": "too_many_files", "message": "This request holds 40 files, ..."}}

Knows codes, statuses and the shape; does not know what leads to them.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

CODES = {  # of refusals that the framework makes; ours bring their own
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    421: "unknown_host",
    431: "head_too_large",
    499: "gone",
    500: "internal_error",
    503: "busy",
}
GONE = 499  # a status that nobody gets: the sender went away
RETRY_AFTER_SECONDS = 1  # what a client is told that finds the queue full


class Refused(Exception):
    """A request that is not answered, with the status, code and message that its sender gets."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or code_of(status)
        self.message = message
        self.headers = dict(headers or {})


class Gone(Refused):
    """The sender went away before it was answered: seen in the log only."""

    def __init__(self) -> None:
        super().__init__(GONE, "The sender went away.")


class Busy(Refused):
    """There is no room for this request now."""

    def __init__(self, message: str, code: str = "busy") -> None:
        super().__init__(503, message, code, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def code_of(status: int) -> str:
    """Returns the code of a refusal that has none of its own."""
    return CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "_")


def problem(code: str, message: str) -> bytes:
    """Returns the JSON of a refusal."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()
