"""Addresses that a download may use: HTTPS or this machine, and by a redirect no nearer network than the given one."""

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from urllib.parse import SplitResult, urlsplit

from belvedere.errors import FetchError, UsageError
from belvedere.runtime.network import is_local
from belvedere.runtime.terminal import describe_error

MAX_URL = 8192  # characters; signed addresses of storage have about 2000
PORTS = {"https": 443, "http": 80}
# IPv6 addresses that end with the IPv4 address that they lead to: NAT64, and the old form.
EMBEDDING = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))
# Ends of names that have another meaning in each network. A name without a dot is one, too.
MACHINE_NAMES, NETWORK_NAMES = (".localhost", ".localdomain"), (".internal", ".local", ".home.arpa")


class Reach(IntEnum):
    """The networks from which an address can be reached."""

    MACHINE = 0
    NETWORK = 1  # private, link-local and reserved addresses
    INTERNET = 2


def reach_of(address: str) -> Reach:
    """Return from where a numeric address can be reached."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and not ip.is_loopback:
        if ip.is_site_local:
            return Reach.NETWORK
        ip = _embedded(ip) or ip
    if ip.is_loopback:
        return Reach.MACHINE
    return Reach.INTERNET if ip.is_global and not ip.is_multicast else Reach.NETWORK


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that packets to an IPv6 address are sent to, if it holds one."""
    if any(ip in network for network in EMBEDDING):
        return ipaddress.IPv4Address(ip.packed[-4:])
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _reach_of_name(host: str) -> Reach:
    """Return the reach of a host that a proxy looks up, as far as its name shows it."""
    host = host.rstrip(".")
    with suppress(ValueError):
        return reach_of(host)
    if f".{host}".endswith(MACHINE_NAMES):
        return Reach.MACHINE
    return Reach.NETWORK if "." not in host or host.endswith(NETWORK_NAMES) else Reach.INTERNET


def _is_short_address(host: str) -> bool:
    """Return whether a host is an address in a form such as 127.1 or 0x7f000001, which not all programs read alike."""
    try:
        socket.inet_aton(host.rstrip("."))
        ipaddress.ip_address(host)
    except OSError:
        return False
    except ValueError:
        return True
    return False


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL of a download.

    Raises:
        UsageError: It is not HTTPS and does not name this machine, or it has no host, or a password.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_valid = bool(host) and parts.port != 0 and len(url) <= MAX_URL and url.isascii() and url.isprintable()
        is_valid = is_valid and not _is_short_address(host)
    except ValueError:
        is_valid = False
    if not is_valid or " " in url:
        raise UsageError(f"Not a valid URL: {url[:200]!r}. Give one such as https://example.org/images.zip.")
    if not (parts.scheme == "https" or (parts.scheme == "http" and is_local(host))):
        raise UsageError(
            f"Only https:// is downloaded, and http:// from this machine. Received: {parts.scheme}://{host}. "
            "Give a URL that begins with https://."
        )
    if parts.username is not None:
        raise UsageError(f"The URL of {host} holds a user name or password. Download the file yourself, and give it.")
    return parts


def describe_url(url: str) -> str:
    """Return scheme and host, for messages: the rest of an address of storage is as good as a password."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"[:200]
    except ValueError:
        return "an address that is not valid"


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a valid URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


class AddressGuard:
    """Checks the addresses of the connections of one request and its redirects."""

    def __init__(self) -> None:
        self._given: Reach | None = None  # of the first connection

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Check the addresses of a host.

        Raises:
            FetchError: A redirect leads to a nearer network, which the server itself may not reach.
        """
        self._check(host, min(map(reach_of, addresses)))

    def check_text(self, host: str) -> None:
        """Check a host that a proxy looks up: only its name, or numeric address, is known.

        Raises:
            FetchError: As `check`.
        """
        self._check(host, _reach_of_name(host))

    def _check(self, host: str, reach: Reach) -> None:
        if self._given is None:
            self._given = reach
        elif reach not in (Reach.INTERNET, self._given):
            where = "this machine" if reach is Reach.MACHINE else "a private network"
            raise FetchError(f"A redirect leads to {host}, an address of {where}: it was not followed.")

    def check_name(self, host: str, port: int) -> None:
        """Look a host up and check its addresses, before a connection is made.

        Raises:
            FetchError: As `check`, or there is no such host.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise FetchError(f"No address of {host} was found: {describe_error(error)}. Check the network.") from error
        self.check(host, {str(address[0]) for *_, address in found})
