"""Error responses of the HTTP servers: status, code and message in one JSON shape.

{"error": {"code": "too_many_files", "message": "A request may hold 32 files. Send the others in another request."}}
"""

import json
from collections.abc import Mapping
from http import HTTPStatus

CODES = {  # default code of each status
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    421: "unknown_host",
    422: "invalid_request",
    431: "headers_too_large",
    499: "client_closed_request",
    500: "internal_error",
    503: "overloaded",
}
CLIENT_CLOSED_REQUEST = 499  # nginx's status for the log: no client receives it
RETRY_AFTER_SECONDS = 1


class HTTPError(Exception):
    """A rejected request: status, code and message of the response."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or code_of(status)
        self.message = message
        self.headers = dict(headers or {})


class ClientDisconnectedError(HTTPError):
    """The client closed the connection before the response. It appears in the log only."""

    def __init__(self) -> None:
        super().__init__(CLIENT_CLOSED_REQUEST, "The client closed the connection.")


class ServiceUnavailableError(HTTPError):
    """The server has no capacity for the request; the response says when to retry."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(503, message, code, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def code_of(status: int) -> str:
    """Return the default error code of an HTTP status."""
    return CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "_")


def error_body(code: str, message: str) -> bytes:
    """Return the JSON body of an error response."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()
