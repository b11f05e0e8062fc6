"""Requests over HTTP: redirects are followed one by one and checked, and a token goes to one host only.

The standard library does the rest: certificates, and proxies by the variables HTTPS_PROXY and NO_PROXY.
"""

import http.client
import io
import ssl
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from functools import partial
from importlib.metadata import version
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin

from belvedere.errors import FetchError, UsageError
from belvedere.fetching.addresses import AddressGuard, check_url, describe_url, origin_of
from belvedere.runtime.terminal import describe_error

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
TIMEOUT_SECONDS = 30.0  # without a byte
PATIENCE_SECONDS = 60.0  # until the headers have come, or the next bytes of the content
LINKED_HASH = "X-Linked-ETag"  # of the hub, on its redirect to the storage


class BrokenOffError(Exception):
    """A connection failed or ended early, or the server is busy: another attempt may succeed."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds  # that the server asks for


class _Clocked(io.RawIOBase):
    """The bytes from a socket, until a time has passed: headers, and lengths of chunks, may come a byte a minute."""

    def __init__(self, received: io.RawIOBase) -> None:
        self._received = received
        self.restart()

    def restart(self) -> None:
        """Begin to wait for the next part."""
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if time.monotonic() > self._deadline:
            raise http.client.HTTPException(f"it stalled for {PATIENCE_SECONDS:g} seconds")
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class TimedResponse(http.client.HTTPResponse):
    """A response that is received in time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._clocked = _Clocked(self.fp.detach())
        self.fp = io.BufferedReader(self._clocked)

    def restart_clock(self) -> None:
        """Begin to wait for the next bytes."""
        self._clocked.restart()


@dataclass(frozen=True)
class Response:
    """The last response of a chain of redirects; to be closed."""

    status: int
    headers: Message
    body: TimedResponse
    linked_hash: str  # `LINKED_HASH`, if the first host stated it

    def read(self, size: int) -> bytes:
        """Return some bytes as soon as they have come; none at the end.

        Raises:
            BrokenOffError: The connection failed.
        """
        try:
            self.body.restart_clock()
            return self.body.read1(size)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a wrong chunk size
            raise BrokenOffError(_reason(error)) from error


class _Connection(http.client.HTTPConnection):
    """Checks addresses before it connects, and the one that it has connected to."""

    response_class = TimedResponse

    def __init__(self, host: str, *, guard: AddressGuard, is_proxy: bool, **options: Any) -> None:
        super().__init__(host, **options)
        self._guard, self._is_proxy = guard, is_proxy

    def connect(self) -> None:
        if not self._is_proxy:
            self._guard.check_name(self.host, self.port)
        super().connect()
        if not self._is_proxy:
            self._guard.check(self.host, [str(self.sock.getpeername()[0])])  # the name may have changed since


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    """The same over TLS."""


class _Handler(urllib.request.HTTPSHandler):
    """Opens http: and https: with checked connections."""

    def __init__(self, guard: AddressGuard) -> None:
        super().__init__()
        self._guard = guard

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection(_Connection, request), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        return self.do_open(self._connection(_SecureConnection, request), request, context=context)

    http_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connection(self, kind: type[_Connection], request: urllib.request.Request) -> Any:
        host = origin_of(request.full_url)[1]
        is_proxy = origin_of(f"{request.type}://{request.host}")[1] != host
        if is_proxy:
            self._guard.check_text(host)
        return partial(kind, guard=self._guard, is_proxy=is_proxy)


def open_url(url: str, headers: Mapping[str, str], token: str = "") -> Response:
    """Send a request and follow its redirects.

    Args:
        url: The address.
        headers: Headers of all requests.
        token: Sent as `Authorization` to the host of `url`, and to no other host of a redirect.

    Raises:
        UsageError: The address is not one that is downloaded from, or the token is not one.
        FetchError: A redirect leads to an address that is refused, or in a circle.
        BrokenOffError: The connection failed.
    """
    check_url(url)
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            "The token is not valid: it has spaces, line breaks or other letters than ASCII. Set HF_TOKEN."
        )
    first, current = origin_of(url), url
    guard, linked_hash = AddressGuard(), ""
    opener = urllib.request.OpenerDirector()  # without handlers of file:, ftp: and data:, and without redirects
    for handler in (urllib.request.ProxyHandler(), _Handler(guard)):
        opener.add_handler(handler)
    for _ in range(MAX_REDIRECTS + 1):
        sent = {"User-Agent": f"belvedere/{version('belvedere')}", "Accept-Encoding": "identity", **headers}
        if token and origin_of(current) == first:
            sent["Authorization"] = f"Bearer {token}"
        body = _send(opener, urllib.request.Request(current, headers=sent))  # noqa: S310 - checked
        if origin_of(current) == first:
            linked_hash = body.headers.get(LINKED_HASH, linked_hash)
        if body.status not in REDIRECTS:
            return Response(body.status, body.headers, body, linked_hash)
        with body:
            current = _follow(current, body.headers.get("Location", ""))
    raise FetchError(f"{first[1]} redirects more than {MAX_REDIRECTS} times. Give another source.")


def _send(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> TimedResponse:
    try:
        response: TimedResponse = opener.open(request, timeout=TIMEOUT_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise FetchError(
                f"The certificate of {request.host} is not valid: {reason.verify_message}. Name the certificates of "
                "your network in SSL_CERT_FILE, if it has its own."
            ) from error
        raise BrokenOffError(f"{request.host}: {_reason(reason)}") from error
    except ValueError:  # its text may hold a token
        host = origin_of(request.full_url)[1]
        raise FetchError(f"The request to {host} cannot be sent. Check HTTPS_PROXY and HTTP_PROXY.") from None
    return response


def _follow(url: str, location: str) -> str:
    """Return the address that a redirect leads to."""
    try:
        target = urljoin(url, location)
        check_url(target)
    except (UsageError, ValueError):
        raise FetchError(
            f"A redirect of {origin_of(url)[1]} to {describe_url(location)} was not followed: it is not a valid "
            "address, or not https. Give another source."
        ) from None
    if not location:
        raise FetchError(f"{origin_of(url)[1]} sent a redirect without an address. Give another source.")
    return target


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing was received for {TIMEOUT_SECONDS:g} seconds"
    return describe_error(error)


def retry_after(headers: Message, limit: float) -> float:
    """Return the seconds that a busy server asks to wait for, up to a limit; 0 if it does not say."""
    stated = headers.get("Retry-After", "")
    return min(float(stated), limit) if stated.isdecimal() else 0.0
