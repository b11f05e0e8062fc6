"""A file from the internet: gone on with where it broke off, checked, and there only when it is whole.

Knows HTTP; does not know what the file is. It goes through the proxies that the environment names.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import IO

from belvedere.errors import DownloadError
from belvedere.runtime.progress import Progress, Task

TIMEOUT_SECONDS = 20.0  # without a byte
ATTEMPTS = 5  # one after the other that bring nothing
WAIT_SECONDS = 1.0  # after the first, and twice as long after each further one
CHUNK_BYTES = 1 << 18
KILO = 1000
REDIRECTS = (301, 302, 303, 307, 308)
_BROKEN = (OSError, http.client.HTTPException)  # urllib's errors are among them


def look_up(url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Asks a server about a file.

    Args:
        url: Where it is.
        headers: To send.

    Returns:
        The headers of the answer, names in lower case. Where the server sends one on to another, its own count: the
        other may not answer such questions.

    Raises:
        DownloadError: The server can't be reached, or has no such file.
    """
    for attempt in range(ATTEMPTS):
        try:
            with _open(url, "HEAD", headers, _SameHost()) as answer:
                return {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            if error.code in REDIRECTS:
                return {name.lower(): value for name, value in error.headers.items()}
            if error.code < http.client.INTERNAL_SERVER_ERROR or attempt == ATTEMPTS - 1:
                raise DownloadError(f"the server answered {error.code} {error.reason}") from error
        except _BROKEN as error:
            # A name that nobody knows, or a port where nobody listens, will not be there a second later.
            if isinstance(error, urllib.error.URLError) or attempt == ATTEMPTS - 1:
                raise DownloadError(_reason(error)) from error
        time.sleep(WAIT_SECONDS * 2**attempt)
    raise DownloadError("the server did not answer")


def download(
    url: str, file: Path, size_bytes: int, sha256: str, what: str, progress: Progress, headers: Mapping[str, str]
) -> None:
    """Downloads a file; it appears when it is whole. One process at a time may do so.

    Args:
        url: Where it is.
        file: Where it goes; what has arrived is kept beside it until it is whole, and gone on with.
        size_bytes: That it must have.
        sha256: That it must have.
        what: To say what is downloaded.
        progress: Shows how far it is.
        headers: To send; `Authorization` to the first server only.

    Raises:
        DownloadError: It could not be had whole, or has another checksum: then what arrived is thrown away.
    """
    partial = file.with_name(f"{file.name}.partial")
    with progress.task(f"Downloading {what}", size_bytes // KILO, "kB") as task, partial.open("ab") as arrived:
        task.advance(arrived.tell() // KILO)
        failures = 0
        while arrived.tell() < size_bytes:
            before = arrived.tell()
            try:
                _append(url, arrived, headers, task)
                reason = "the server sent less than it had announced"
            except _BROKEN as error:
                reason = _reason(error)
            failures = 0 if arrived.tell() > before else failures + 1
            if failures == ATTEMPTS:
                raise DownloadError(f"it broke off after {arrived.tell():,} of {size_bytes:,} bytes: {reason}")
            if arrived.tell() < size_bytes:
                time.sleep(WAIT_SECONDS * 2 ** max(0, failures - 1))
    with partial.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != sha256:
        partial.unlink()
        raise DownloadError(
            f"other bytes arrived than were announced: expected the SHA-256 {sha256}. Received: {found}"
        )
    partial.replace(file)


def _append(url: str, arrived: IO[bytes], headers: Mapping[str, str], task: Task) -> None:
    """Adds what a server sends from where a file ends."""
    start = arrived.tell()
    ranged = {**headers, **({"Range": f"bytes={start}-"} if start else {})}
    with _open(url, "GET", ranged, urllib.request.HTTPRedirectHandler()) as answer:
        if start and answer.status != http.client.PARTIAL_CONTENT:  # it sends the whole again
            arrived.seek(0)
            arrived.truncate()
            task.advance(-(start // KILO))
        while chunk := answer.read1(CHUNK_BYTES):
            before = arrived.tell()
            arrived.write(chunk)
            task.advance(arrived.tell() // KILO - before // KILO)


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a server within its own host only, such as to the new name of something."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """Returns the next request, or none."""
        if urllib.parse.urlsplit(newurl).netloc != urllib.parse.urlsplit(req.full_url).netloc:
            return None
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if followed is not None:
            followed.method = req.get_method()
            for name, value in req.unredirected_hdrs.items():
                followed.add_unredirected_header(name, value)
        return followed


def _open(
    url: str, method: str, headers: Mapping[str, str], redirects: urllib.request.HTTPRedirectHandler
) -> http.client.HTTPResponse:
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"expected an address that begins with http:// or https://. Received: {url}")
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http and https only
    for name, value in headers.items():
        if name == "Authorization":
            request.add_unredirected_header(name, value)
        else:
            request.add_header(name, value)
    answer: http.client.HTTPResponse = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS)
    return answer


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return " ".join(str(getattr(inner, "strerror", None) or inner or type(inner).__name__).split())[:200]
