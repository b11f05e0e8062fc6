"""Names and addresses of this machine, and listening on them.

Knows which they are; does not know who asks, or for what.
"""

import asyncio
import ctypes
import ipaddress
import socket
import struct
import sys
import threading
from contextlib import suppress
from urllib.parse import urlsplit

from belvedere.errors import UsageError

BACKLOG = 2048  # connections that wait to be accepted
MAX_PORT = 65_535
SO_ATTACH_FILTER = 26  # of Linux
# A filter for the packets of a listening socket, as (code, jump if true, jump if false, operand): byte 13 of a TCP
# header holds its flags, and what opens a connection (SYN) is dropped.
NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_allowed_host(header: str, own_name: str = "") -> bool:
    """Whether a request's Host is a local one, or the server's own name, with a port or without."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return name != "" and (is_local(name) or name == own_name.lower())


def check_main_thread(function: str, *command: str) -> None:
    """Checks that a server can run here until Ctrl-C: in the main thread, and in no event loop.

    Args:
        function: The name of the function that was called, for the message.
        command: The command that does the same in a process of its own.

    Raises:
        UsageError: It can't, which would otherwise show only after the port is taken.
    """
    if threading.current_thread() is not threading.main_thread():
        place = f"in the thread {threading.current_thread().name}, but signals reach the main thread only"
    else:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        place = "in a running event loop, such as a notebook's, which it would stop"
    raise UsageError(
        f"{function} was called {place}. Start it in a process of its own: subprocess.Popen({list(command)!r})."
    )


def listen(host: str, port: int) -> socket.socket:
    """Listens on an address of this machine, or on a name that means one.

    Raises:
        UsageError: There is no such address or port, or it is taken.
    """
    try:
        if not 0 <= port <= MAX_PORT:
            raise ValueError(f"ports end at {MAX_PORT}")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, ValueError) as error:  # a name that can't be one is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Can't listen on {host}, port {port}: {reason}. Give another --port or --host.") from error
    return listener


def stop_connecting(listener: socket.socket) -> None:
    """Let no further connection begin, where the system is Linux; those in the backlog can still be accepted.

    A socket that is closed resets what is in its backlog, and as long as clients connect, that is never empty. A client
    whose first packet is dropped sends it again after a second: to whatever listens then.
    """
    if sys.platform != "linux":
        return
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in NO_SYN))
    with suppress(OSError):
        program = struct.pack("HP", len(NO_SYN), ctypes.addressof(filters))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def address_of(listener: socket.socket) -> str:
    """The address that is listened on, in numbers: what a name stood for."""
    return str(listener.getsockname()[0])


def url_of(listener: socket.socket, host: str) -> str:
    """Where a browser of this machine finds what listens under a name."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - every address of this machine
    shown = everywhere.get(address_of(listener), host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
