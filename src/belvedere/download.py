"""A file from the internet: gone on with where it broke off, checked, and there only when it is whole.

Knows HTTP; does not know what the file is. It goes through the proxies that the environment names.
"""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO

from belvedere.errors import DownloadError
from belvedere.progress import Progress, Task

TIMEOUT_SECONDS = 20.0  # without a byte
ATTEMPTS = 5  # one after the other that bring nothing
WAIT_SECONDS = 1.0  # after the first, and twice as long after each further one
CHUNK_BYTES = 1 << 18
KILO = 1000
_BROKEN = (OSError, http.client.HTTPException)  # urllib's errors are among them


@dataclass(frozen=True)
class Remote:
    """A file as its server describes it."""

    size_bytes: int
    headers: Mapping[str, str]  # names in lower case; of the first answer before those of where it leads to


def look_up(url: str, headers: Mapping[str, str]) -> Remote:
    """Asks for a file's size and headers.

    Raises:
        DownloadError: The server can't be reached, or has no such file.
    """
    for attempt in range(ATTEMPTS):
        try:
            with _open(url, "HEAD", headers) as response:
                return Remote(int(response.headers.get("Content-Length") or 0), response.all_headers)
        except urllib.error.HTTPError as error:
            if error.code < http.client.INTERNAL_SERVER_ERROR or attempt == ATTEMPTS - 1:
                raise DownloadError(f"the server answered {error.code} {error.reason}") from error
        except _BROKEN as error:
            # A name that nobody knows, or a port where nobody listens, will not be there a second later.
            if isinstance(error, urllib.error.URLError) or attempt == ATTEMPTS - 1:
                raise DownloadError(_reason(error)) from error
        time.sleep(WAIT_SECONDS * 2**attempt)
    raise DownloadError("the server did not answer")


def download(url: str, file: Path, remote: Remote, sha256: str, what: str, progress: Progress, **headers: str) -> None:
    """Downloads a file; it appears when it is whole.

    Args:
        url: Where it is.
        file: Where it goes; what has arrived is kept beside it until it is whole, and gone on with.
        remote: What `look_up` said of it.
        sha256: That it must have, or nothing.
        what: To say what is downloaded.
        progress: Shows how far it is.
        **headers: To send.

    Raises:
        DownloadError: It could not be had whole, or has another checksum: then what arrived is thrown away.
    """
    partial = file.with_name(f"{file.name}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    with progress.task(f"Downloading {what}", remote.size_bytes // KILO, "kB") as task, partial.open("ab") as arrived:
        task.advance(arrived.tell() // KILO)
        failures = 0
        while arrived.tell() < remote.size_bytes:
            before = arrived.tell()
            try:
                _append(url, arrived, headers, task)
                reason = "the server sent less than it had announced"
            except _BROKEN as error:
                reason = _reason(error)
            failures = 0 if arrived.tell() > before else failures + 1
            if failures == ATTEMPTS:
                raise DownloadError(f"broke off after {arrived.tell():,} of {remote.size_bytes:,} bytes: {reason}")
            if arrived.tell() < remote.size_bytes:
                time.sleep(WAIT_SECONDS * 2 ** max(0, failures - 1))
    with partial.open("rb") as arrived:
        found = hashlib.file_digest(arrived, "sha256").hexdigest()
    if sha256 and found != sha256:
        partial.unlink()
        raise DownloadError(
            f"other bytes arrived than were announced: expected the SHA-256 {sha256}. Received: {found}"
        )
    partial.replace(file)


def _append(url: str, arrived: IO[bytes], headers: Mapping[str, str], task: Task) -> None:
    """Adds what a server sends from where a file ends."""
    start = arrived.tell()
    with _open(url, "GET", {**headers, **({"Range": f"bytes={start}-"} if start else {})}) as response:
        if start and response.status != http.client.PARTIAL_CONTENT:
            arrived.truncate(0)  # it sends the whole again
            task.advance(-(start // KILO))
        while chunk := response.read1(CHUNK_BYTES):
            before = arrived.tell()
            arrived.write(chunk)
            task.advance(arrived.tell() // KILO - before // KILO)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to where the file is, and keeps what it said on the way."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        self.said = {name.lower(): value for name, value in headers.items()} | self.said
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if followed is not None:
            followed.method = req.get_method()
        return followed


class _Response:
    """An open answer, with the headers of all servers on the way."""

    def __init__(self, answer: http.client.HTTPResponse, said: Mapping[str, str]) -> None:
        self._answer = answer
        self.status, self.headers, self.read1 = answer.status, answer.headers, answer.read1
        self.all_headers = {name.lower(): value for name, value in answer.headers.items()} | dict(said)

    def __enter__(self) -> "_Response":
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()


def _open(url: str, method: str, headers: Mapping[str, str]) -> _Response:
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"expected an address that begins with http:// or https://. Received: {url}")
    redirects = _Redirects()
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http and https only
    for name, value in headers.items():
        request.add_unredirected_header(name, value) if name == "Authorization" else request.add_header(name, value)
    answer = urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS)
    return _Response(answer, redirects.said)


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return " ".join(str(getattr(inner, "strerror", None) or inner or type(inner).__name__).split())[:200]
