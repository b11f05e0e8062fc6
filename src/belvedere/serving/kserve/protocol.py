"""Paths, header and error responses of the protocol, for the rest of the server."""

import json

from starlette.types import Scope

from belvedere.runtime.http.errors import HTTPError, error_body

PREFIX = "/v2"
HEADER_LENGTH = "Inference-Header-Content-Length"  # bytes of the JSON before binary data


def error_content(scope: Scope, error: HTTPError) -> bytes:
    """Return the body of an error response: that of the protocol below its prefix."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if f"{path}/".startswith(f"{PREFIX}/"):
        return json.dumps({"error": error.message}).encode()
    return error_body(error.code, error.message)
