"""Names and addresses of this machine, and listening on them.

Knows which they are; does not know who asks, or for what.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from belvedere.errors import UsageError

BACKLOG = 2048  # connections that wait to be accepted
MAX_PORT = 65_535


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def names_this_machine(header: str, own_name: str = "") -> bool:
    """Whether a request's Host is a local one, or the server's own name, with a port or without."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return name != "" and (is_local(name) or name == own_name.lower())


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


def address_of(listener: socket.socket) -> str:
    """The address that is listened on, in numbers: what a name stood for."""
    return str(listener.getsockname()[0])


def url_of(listener: socket.socket, host: str) -> str:
    """Where a browser of this machine finds what listens under a name."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - every address of this machine
    shown = everywhere.get(address_of(listener), host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}"
