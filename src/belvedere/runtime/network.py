"""Host names, addresses and listening sockets."""

import asyncio
import ctypes
import ipaddress
import socket
import struct
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlsplit

from belvedere.errors import UsageError
from belvedere.runtime.terminal import describe_error

BACKLOG = 2048  # connections that wait to be accepted
MAX_PORT = 65_535
SO_ATTACH_FILTER = 26  # Linux
# Packet filter of a listening socket, as (code, jump if true, jump if false, operand). Byte 13 of a TCP header holds
# the flags; packets with SYN, which open a connection, are dropped.
NO_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def is_local(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@lru_cache
def is_allowed_host(header: str, own_name: str = "") -> bool:
    """Return whether a Host header names this machine or the server's own name, with or without a port."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return name != "" and (is_local(name) or name == own_name.lower())


def check_main_thread(function: str, *command: str) -> None:
    """Check that a server can run until Ctrl-C: in the main thread, outside an event loop.

    Args:
        function: Name of the calling function, for the message.
        command: The command that does the same in a process of its own.

    Raises:
        UsageError: It cannot.
    """
    if threading.current_thread() is not threading.main_thread():
        where = f"in the thread {threading.current_thread().name}, but signals reach the main thread only"
    else:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        where = "in a running event loop, such as a notebook's, which it would stop"
    raise UsageError(
        f"{function} was called {where}. Give `block`=False to run it in a thread, or start it in a "
        f"process of its own: subprocess.Popen({list(command)!r})."
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address of this machine, or on a name of one.

    Raises:
        UsageError: There is no such address or port, or it is in use.
    """
    try:
        if not 0 <= port <= MAX_PORT:
            raise ValueError(f"ports end at {MAX_PORT}")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            # Windows: with SO_REUSEADDR, two processes could listen on one port.
            option = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, ValueError) as error:  # ValueError: an impossible name
        problem = f"Cannot listen on {host}, port {port}: {describe_error(error)}"
        raise UsageError(f"{problem}. Give another `port` or `host`.") from error
    return listener


def stop_connecting(listener: socket.socket) -> None:
    """Refuse new connections, on Linux; those in the backlog can still be accepted.

    A closed socket resets the connections in its backlog, which is never empty while clients connect. A client whose
    first packet is dropped sends it again after a second, to the next process that listens.
    """
    if sys.platform != "linux":
        return
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in NO_SYN))
    with suppress(OSError):
        program = struct.pack("HP", len(NO_SYN), ctypes.addressof(filters))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def address_of(listener: socket.socket) -> str:
    """Return the numeric address of a listening socket."""
    return str(listener.getsockname()[0])


def url_of(listener: socket.socket, host: str) -> str:
    """Return the URL of a listening socket for a browser on this machine."""
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    shown = any_address.get(address_of(listener), host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
