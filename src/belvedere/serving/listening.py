"""The listening socket: at an address, or at a Unix socket, a file that programs of this machine connect to."""

import contextlib
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from belvedere.errors import UsageError
from belvedere.runtime.network import BACKLOG, address_of, is_local, listen, stop_connecting, url_of
from belvedere.runtime.operating_system import UNIX_SOCKETS
from belvedere.runtime.terminal import describe_error

CONNECT_SECONDS = 1.0
RETRY_SECONDS = 0.1  # for another process to listen on the socket that it has just made
ROOT_PATH = re.compile(r"/|(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+/?")


@dataclass(frozen=True, slots=True)
class Place:
    """A listening socket.

    Attributes:
        url: Its address.
        is_local: Whether only this machine reaches it.
        local_name: Name of the server if only this machine reaches it, so that the Host of requests can be checked:
            otherwise DNS rebinding would let pages of other hosts in. None for Unix sockets, which no page reaches.
        refuse: Refuses new connections, where the system can; those in the backlog can still be accepted.
    """

    listener: socket.socket
    url: str
    is_local: bool
    local_name: str | None
    refuse: Callable[[], None]


@contextlib.contextmanager
def listen_at(host: str, port: int, unix_socket: Path | str | None = None) -> Iterator[Place]:
    """Listen on a Unix socket if one is given, else on an address.

    Raises:
        UsageError: It is in use, or does not exist.
    """
    if unix_socket is not None:
        with _listen_unix(Path(unix_socket)) as place:
            yield place
    else:
        with listen(host, port) as listener:
            only_local = is_local(address_of(listener))
            name, refuse = host if only_local else None, partial(stop_connecting, listener)
            yield Place(listener, url_of(listener, host), only_local, name, refuse)


def inherit_place(descriptor: int, url: str, is_local: bool, local_name: str | None) -> Place:
    """Return the place of another process, whose listening socket this one shares, and which refuses for all."""
    return Place(socket.socket(fileno=descriptor), url, is_local, local_name, lambda: None)


def read_root_path(path: str) -> str:
    """Check the path of a server on the proxy before it, and return it without a slash at the end.

    Raises:
        UsageError: It is not a path.
    """
    if path and not ROOT_PATH.fullmatch(path):
        raise UsageError(f"Not a path of a server: {path[:100]!r}. Give one such as /belvedere.")
    return path.rstrip("/")


@contextlib.contextmanager
def _listen_unix(path: Path) -> Iterator[Place]:
    """Listen on a Unix socket, and remove its file at the end.

    The permissions of the file follow the umask; clients need that to write. The file of a server that was killed is
    replaced.

    Raises:
        UsageError: The path is in use, or cannot be a socket.
    """
    if UNIX_SOCKETS is None:
        raise UsageError("There are no Unix sockets on this system. Give `host` and `port`.")
    if "\0" in str(path):
        raise UsageError(f"`unix_socket` contains a null character: {str(path)!r}. Give another path.")
    _remove_stale(path, UNIX_SOCKETS)
    listener = socket.socket(UNIX_SOCKETS, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"Cannot listen on {path}: {describe_error(error)}. Give another `unix_socket`.") from error
    remove = partial(_remove, path, _identity(path))
    try:
        yield Place(listener, f"unix:{path}", is_local=True, local_name=None, refuse=remove)
    finally:
        listener.close()
        remove()


def _remove_stale(path: Path, family: int) -> None:
    """Remove a socket that nobody listens on."""
    found = _identity(path)
    if found is None:
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise UsageError(f"{path} exists and is not a socket. Give another `unix_socket`.")
    for seconds in (0.0, RETRY_SECONDS):
        time.sleep(seconds)
        if _listens(path, family):
            raise UsageError(f"Another server listens on {path}. Stop it, or give another `unix_socket`.")
    _remove(path, found)


def _listens(path: Path, family: int) -> bool:
    """Return whether a process listens on a socket.

    Raises:
        UsageError: It cannot be found out.
    """
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(CONNECT_SECONDS)
        try:
            client.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except OSError as error:  # such as missing permission, or a full backlog
            raise UsageError(f"{path} is in use: {describe_error(error)}. Give another `unix_socket`.") from error
    return True


def _remove(path: Path, identity: tuple[int, int] | None) -> None:
    """Remove a file, unless another one has its name by now."""
    if identity is not None and _identity(path) == identity:
        path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
