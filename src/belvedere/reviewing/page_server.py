"""The server of a local page: its port, the guard of its requests, and its address."""

import getpass
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from belvedere.reviewing.auth import LIMITS, LOGIN_PATH, RequestGuard
from belvedere.runtime.http.background import NOTEBOOK_ANCESTORS
from belvedere.runtime.http.connections import configure
from belvedere.runtime.http.limits import RequestLimits
from belvedere.runtime.network import address_of, listen, url_of
from belvedere.runtime.progress import Progress

HOST, PORT = "127.0.0.1", 8642
GRACE_SECONDS = 2


class PageServer:
    """Opens the port of a page before its work, so that a port in use fails at once; a `with` block closes it."""

    def __init__(self, title: str, host: str, port: int, *, block: bool, limits: RequestLimits = LIMITS) -> None:
        """Listen on an address.

        Args:
            title: Name of the page before its address.
            host: Address to listen on. Addresses of other machines require a token.
            port: Port to listen on; 0 for any free one.
            block: Whether the page is served until Ctrl-C; otherwise notebooks may show it in a frame.
            limits: Limits of one request.

        Raises:
            UsageError: The address is not available.
        """
        self._title, self._block = title, block
        self.listener = listen(host, port)
        ancestors = "'none'" if block else NOTEBOOK_ANCESTORS
        self.guard = RequestGuard(address_of(self.listener), host, limits, ancestors)
        self.url = url_of(self.listener, host) + (f"{LOGIN_PATH}?token={self.guard.token}" if self.guard.token else "/")

    def log_address(self, progress: Progress) -> None:
        """Report the address."""
        progress.log(f"{self._title}: {self.url}" + ("  (Ctrl-C ends it)" if self._block else ""))
        if self.guard.token:
            progress.log("Anyone with this address can view the images and use the page. It is not encrypted.")

    def create(self, app: ASGIApp) -> uvicorn.Server:
        """Create the server of an application."""
        return make_server(app, self.guard.limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.close()


def make_server(app: ASGIApp, limits: RequestLimits) -> uvicorn.Server:
    """Create the server of an application, with limits on requests."""
    config, _ = configure(app, limits, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
    return uvicorn.Server(config)


def user_name() -> str:
    """Return the name of the user, for the decisions."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
