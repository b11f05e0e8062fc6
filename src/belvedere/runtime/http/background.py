"""Servers in a thread of this process, for notebooks and tests."""

import atexit
import html
import socket
import time
from collections.abc import Callable
from typing import Self

import uvicorn

from belvedere.errors import UsageError
from belvedere.runtime.parallel import BackgroundThread

POLL_SECONDS = 0.01
FRAME_HEIGHT = 600  # pixels
# Pages that may show a server of a notebook in a frame: those of this machine, and VS Code's notebooks.
NOTEBOOK_ANCESTORS = "http://localhost:* http://127.0.0.1:* vscode-webview:"


class BackgroundServer:
    """A server that runs in a thread until `stop`, the end of a `with` block, or the end of the process.

    Attributes:
        url: Address of its page.
    """

    def __init__(
        self, server: uvicorn.Server, listener: socket.socket, url: str, close: Callable[[], object] = lambda: None
    ) -> None:
        """Start a server, and return when it accepts requests.

        Args:
            server: The server.
            listener: Its listening socket, which is closed with it.
            url: Address of its page.
            close: Called once the server has stopped, or has failed to start.

        Raises:
            UsageError: It does not start.
        """
        self.url = url
        self._server, self._listener, self._close = server, listener, close
        self._error: BaseException | None = None
        self._thread = BackgroundThread(self._run, f"server of {url}")
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(POLL_SECONDS)
        if not server.started:
            raise UsageError(f"The server of {url} did not start: {self._error or 'see the log'}.") from self._error
        atexit.register(self.stop)

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Finish the open requests, stop the server and free its port; a stopped server stays stopped."""
        self._server.should_exit = True
        self._thread.join()
        atexit.unregister(self.stop)

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except BaseException as error:  # noqa: BLE001 - raised in the thread of the caller
            self._error = error
        finally:
            self._listener.close()
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} ({'running' if self.is_running else 'stopped'})>"

    def _repr_html_(self) -> str:
        if not self.is_running:
            return html.escape(repr(self))
        url = html.escape(self.url, quote=True)
        return f'<iframe src="{url}" title="Belvedere" width="100%" height="{FRAME_HEIGHT}" style="border: 0"></iframe>'
