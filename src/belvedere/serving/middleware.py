"""What stands before every route of the service: the limits that every server has, and the access log.

Knows one exchange of a request and its answer; does not know routes or pictures.
"""

import logging
import secrets
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from belvedere.runtime.http import middleware
from belvedere.runtime.http.errors import GONE, Refused
from belvedere.serving.limits import Limits
from belvedere.serving.metrics import Metrics
from belvedere.serving.origins import Origins, Preflights

IMAGES = "'self' blob:"  # what the page may show

log = logging.getLogger("belvedere.serving")


class Gate(middleware.Gate):
    """Passes requests on to the service, within limits, and counts them."""

    def __init__(
        self, app: ASGIApp, limits: Limits, metrics: Metrics, *, only_local: str | None, origins: Origins
    ) -> None:
        super().__init__(Preflights(app, origins), limits, images=IMAGES, only_local=only_local)
        self.metrics = metrics
        self.origins = origins

    def open(self, scope: Scope, receive: Receive, send: Send) -> middleware.Exchange:
        """Begins an exchange."""
        return _Exchange(self, scope, receive, send)


class _Exchange(middleware.Exchange):
    """One request and its answer, with its line of the log."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(gate, scope, receive, send)
        self._metrics, self._origins = gate.metrics, gate.origins
        self._code = ""  # of a refusal
        self.id = secrets.token_hex(8)

    async def run(self) -> None:
        self.scope["exchange"] = notes = {"id": self.id, "pictures": 0, "code": ""}
        try:
            await super().run()
        except Exception:
            log.exception("A request failed.", extra={"fields": {"id": self.id}})  # the application has told its sender
        finally:
            self._close(notes)

    def check_head(self) -> None:
        super().check_head()
        if self.method not in middleware.READING and self._origins.is_foreign(self.headers):
            raise Refused(
                403,
                "This request was made by another origin's page. Ask from this server's own page, or start the server "
                "with --cors-origin and the page's origin.",
            )

    def own_headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().own_headers(), (b"x-request-id", self.id.encode()), *self._origins.own_headers(self.headers)]

    async def refuse(self, refused: Refused) -> None:
        self._code = refused.code
        await super().refuse(refused)

    def _close(self, notes: dict[str, object]) -> None:
        """Counts the exchange and writes its line of the log: no name of a file and nothing of a picture is in it."""
        seconds = time.perf_counter() - self.began
        route = getattr(self.scope.get("route"), "path", "other")
        status = self.status or GONE
        code = self._code or notes["code"]
        self._metrics.requests.labels(route, status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if code:
            self._metrics.refused.labels(code).inc()
        client = self.scope.get("client")
        fields = {
            "id": self.id,
            "client": client[0] if client else None,
            "method": self.method,
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 1),
            "bytes": self.received,
            "pictures": notes["pictures"],
        }
        log.info("request", extra={"fields": {**fields, "code": code} if code else fields})
