"""The metrics of all processes of a server, from each of them."""

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from belvedere.errors import UsageError
from belvedere.runtime.operating_system import UNIX_SOCKETS
from belvedere.runtime.terminal import describe_error

SECONDS = 2.0  # to wait for the metrics of a process, which may just have ended
_FAMILY = re.compile(r"(?m)^# HELP ")
_SAMPLE = re.compile(r"(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")


def check_folder(folder: Path, workers: int) -> None:
    """Check that the processes of a server can have their sockets in a folder.

    Raises:
        UsageError: They cannot, such as in a folder with a long path.
    """
    try:
        with _new_socket() as listener:
            listener.bind(str(folder / str(workers - 1)))  # the longest name; its process replaces the file
    except OSError as error:
        raise UsageError(
            f"`workers` cannot have sockets in {folder}: {describe_error(error)}. Set the variable TMPDIR to another "
            "folder, with a shorter path."
        ) from error


class Peers:
    """The processes of a server: each has a Unix socket in a common folder, and sends its metrics there."""

    def __init__(self, folder: Path, number: int) -> None:
        """Name the folder and the number of this process."""
        self._folder, self._number = folder, number
        self._server: asyncio.Server | None = None

    async def start(self, render: Callable[[], bytes]) -> None:
        """Listen, and send what `render` returns to each connection; replaces a process that ended."""
        path = self._folder / str(self._number)
        path.unlink(missing_ok=True)

        async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                writer.write(render())
                await writer.drain()
            writer.close()

        listener = _new_socket()
        listener.bind(str(path))
        self._server = await asyncio.start_server(send, sock=listener)

    def stop(self) -> None:
        """Stop to listen."""
        if self._server is not None:
            self._server.close()

    async def collect(self) -> bytes:
        """Return the metrics of all processes, each sample with the label `process`."""
        paths = sorted(self._folder.iterdir(), key=lambda path: int(path.name))
        texts = await asyncio.gather(*(asyncio.to_thread(_receive, path) for path in paths))
        return merge({path.name: text for path, text in zip(paths, texts, strict=True) if text})


def _receive(path: Path) -> str:
    """Return what a process sends; nothing if it does not."""
    with suppress(OSError), _new_socket() as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(path))
        with connection.makefile("rb") as stream:
            return stream.read().decode()
    return ""


def _new_socket() -> socket.socket:
    if UNIX_SOCKETS is None:
        raise OSError("there are no Unix sockets on this system")
    return socket.socket(UNIX_SOCKETS, socket.SOCK_STREAM)


def merge(texts: Mapping[str, str]) -> bytes:
    """Return the metrics of several processes in the Prometheus text format, with the label `process`.

    They are not added up: the counters of a process that ended would be missing from the sum, and Prometheus would take
    the rest for new events.
    """
    families: dict[str, str] = {}
    for process, text in texts.items():
        labeled = _SAMPLE.sub(partial(_with_label, process), text)
        for family in filter(None, _FAMILY.split(labeled)):
            first, _, rest = family.partition("\n")
            kind, _, samples = rest.partition("\n")
            key = f"# HELP {first}\n{kind}\n"
            families[key] = families.get(key, "") + samples
    return "".join(key + samples for key, samples in families.items()).encode()


def _with_label(process: str, found: re.Match[str]) -> str:
    name, labels, value = found.groups()
    return f'{name}{{process="{process}"{f",{labels}" if labels else ""}}} {value}'
