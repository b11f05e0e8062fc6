"""The middleware of the service: limits, cross-origin check, metrics and access log."""

import logging
import random
import time

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from belvedere.errors import InferenceError
from belvedere.runtime.http import middleware
from belvedere.runtime.http.errors import CLIENT_CLOSED_REQUEST, HTTPError
from belvedere.serving.kserve.protocol import error_content
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.origins import Origins

_ids = random.Random()  # noqa: S311 - not secret; independent of a seed that the program sets

log = logging.getLogger("belvedere.serving")


class ServiceMiddleware(middleware.LimitsMiddleware):
    """Apply the limits, count the requests and log them."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        metrics: Metrics,
        *,
        local_name: str | None,
        origins: Origins,
        frame_ancestors: str,
        root_path: str,
    ) -> None:
        super().__init__(
            app, limits, image_sources="'self' blob:", local_name=local_name, frame_ancestors=frame_ancestors
        )
        self.metrics = metrics
        self.origins = origins
        self.root_path = root_path

    def open_request(self, scope: Scope, receive: Receive, send: Send) -> middleware.RequestContext:
        """Return the context of a new request; a proxy may have removed the root path, or not."""
        if self.root_path:
            path = scope["path"]
            is_whole = f"{path}/".startswith(f"{self.root_path}/")
            scope = {**scope, "root_path": self.root_path, "path": path if is_whole else self.root_path + path}
        return _RequestContext(self, scope, receive, send)


class _RequestContext(middleware.RequestContext):
    def __init__(self, service: ServiceMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(service, scope, receive, send)
        self._metrics, self._origins = service.metrics, service.origins
        self.id = f"{_ids.getrandbits(64):016x}"
        self.scope["log"] = self._log = {"id": self.id, "images": 0, "code": ""}  # the routes add to it

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self._write_log()

    def to_http_error(self, error: Exception) -> HTTPError:
        if isinstance(error, HTTPError):
            return error
        if isinstance(error, InferenceError):  # its reason does not expose the path of the file
            return HTTPError(500, f"The model failed: {error.reason}.", "model_failed")
        if isinstance(error, RequestValidationError):
            reasons = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            return HTTPError(422, f"The request is invalid: {reasons}.")
        if isinstance(error, HTTPException):  # of the framework: no such route, no such method
            return self._to_framework_error(error)
        log.error("A request failed.", exc_info=error, extra={"fields": {"id": self.id}})
        return HTTPError(500, f"Internal error. The log has the reason under {self.id}.")

    def _to_framework_error(self, error: HTTPException) -> HTTPError:
        path = self.scope["path"][:200]
        messages = {
            404: f"There is nothing at {path}. See /docs for the API.",
            405: f"{path} does not support {self.scope['method']}. See /docs for the API.",
        }
        headers = dict(error.headers or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"  # the middleware handles HEAD
        return HTTPError(error.status_code, messages.get(error.status_code, error.detail), headers=headers)

    def check_headers(self) -> None:
        super().check_headers()
        root, query = self.scope.get("root_path"), self.scope["query_string"].decode("latin-1")
        if root and self.scope["path"] == root and self.method in middleware.SAFE_METHODS:
            location = f"{root}/{'?' if query else ''}{query}"  # the page has relative URLs
            raise HTTPError(307, f"The page is at {root}/.", headers={"Location": location})
        if self.method not in middleware.SAFE_METHODS and not self._origins.is_allowed(self.headers):
            raise HTTPError(
                403,
                "A page of another origin sent this request. Use the server's own page, or allow the origin when you "
                "start the server.",
            )

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().response_headers(), (b"x-request-id", self.id.encode())]

    async def reject(self, error: HTTPError) -> None:
        self._log["code"] = error.code if error.status >= 400 else ""
        await super().reject(error)

    def error_content(self, error: HTTPError) -> bytes:
        return error_content(self.scope, error)

    def _write_log(self) -> None:
        """Count the request and log one line, without file names and contents."""
        seconds = time.perf_counter() - self.started
        route = getattr(self.scope.get("route"), "path", "other")
        status = self.status or CLIENT_CLOSED_REQUEST
        self._metrics.requests.labels(route, status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        code = self._log.pop("code")
        if code:
            self._metrics.rejected.labels(code).inc()
        client = self.scope.get("client")
        fields = self._log | {
            "client": client[0] if client else None,
            "method": self.method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "bytes": self.num_bytes,
        }
        log.info("request", extra={"fields": {**fields, "code": code} if code else fields})
