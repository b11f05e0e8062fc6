"""Downloads one file into the cache; an interrupted download is continued, also by a later process.

A download is a folder of the cache, with the files `content`, `state.json` (what the server said of the file) and
`lock`. huggingface_hub is not used: it begins again after its process was killed, does not limit sizes and follows any
redirect, and downloads from other servers need this module anyway.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, replace
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import IO

from belvedere.data.array_cache import DOWNLOADS, LOCK
from belvedere.errors import ArchiveError, CacheError, FetchError
from belvedere.fetching.http_client import BrokenOffError, Response, open_url, retry_after
from belvedere.runtime.environment import CACHE_DIR_ENV, make_cache_folder
from belvedere.runtime.files import write_text
from belvedere.runtime.locks import try_lock
from belvedere.runtime.output_folder import close_on_windows
from belvedere.runtime.progress import Progress, Task
from belvedere.runtime.terminal import describe_error

CONTENT, STATE = "content", "state.json"
CHUNK_BYTES = 1 << 18
KILO, MEGA = 1000, 1_000_000
MAX_FAILURES = 5  # attempts in a row that bring less than `MEGA` bytes
BACKOFF_SECONDS, MAX_WAIT_SECONDS = 1.0, 60.0  # before another attempt; the first is doubled each time
WINDOW_SECONDS, WINDOW_BYTES = 60.0, 60_000  # a slower download has stalled
ZIP, PARQUET = "zip", "parquet"
KINDS = {b"PK\x03\x04": ZIP, b"PK\x05\x06": ZIP, b"PAR1": PARQUET}  # by the first bytes
BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
CONTINUE = "The same command continues it."


@dataclass(frozen=True)
class RemoteFile:
    """A file to download."""

    url: str
    name: str  # for messages
    sha256: str = ""  # hexadecimal; empty if it is not known
    token: str = ""  # for the host of `url` only
    login_hint: str = "Download it in a browser, and give the file."  # if the server asks for a login
    head: bytes = b""  # its first bytes; empty: those of a ZIP or Parquet file


@dataclass(frozen=True)
class _State:
    """Headers of the server about the file whose first bytes are in `content`."""

    validator: str = ""  # ETag, or date of the last change; empty: the download cannot be continued
    total: int = -1  # bytes; -1 if unknown
    sha256: str = ""  # that the hub states
    is_complete: bool = False


class _Download:
    """One download: its folder, and the state of the file in it."""

    def __init__(self, file: RemoteFile, folder: Path, max_bytes: int) -> None:
        self.file, self.folder, self.max_bytes = file, folder, max_bytes
        self.content = folder / CONTENT
        self.state = _read_state(folder / STATE)

    @property
    def done(self) -> int:
        """The bytes that are there."""
        with suppress(FileNotFoundError):
            return self.content.stat().st_size
        return 0

    def run(self, progress: Progress) -> None:
        """Download until the file is complete, with pauses after failures."""
        if self.state.is_complete and self.done == self.state.total:
            self._check_size(self.done)
            if not self._wrong_hash():
                progress.log(f"{self.file.name} is in the cache: it is not downloaded again.")
                return
            progress.log(f"{self.file.name} in the cache has another SHA-256 than expected: it is downloaded again.")
            self._discard()
        if self.done and self.state.validator:
            progress.log(f"The download of {self.file.name} continues {self._place()}.")
        failures = 0
        while self.done != self.state.total:
            before = self.done
            try:
                self._attempt(progress)
                break  # also if the size is unknown
            except BrokenOffError as error:
                failures = failures + 1 if self.done - before < MEGA else 1
                if failures == MAX_FAILURES:
                    reason = f"The download of {self.file.name} failed {self._place()}: {error}. {CONTINUE}"
                    raise FetchError(reason) from error
                wait = max(error.wait_seconds, BACKOFF_SECONDS * 2 ** (failures - 1))
                progress.log(f"The download broke off {self._place()} ({error}); continuing in {wait:g} s.")
                time.sleep(wait)
        if wrong := self._wrong_hash():
            self._discard()
            raise FetchError(
                f"{self.file.name} is another file than expected, or damaged: {wrong}. It was deleted; start again."
            )
        self._save(replace(self.state, total=self.done, is_complete=True))

    def _attempt(self, progress: Progress) -> None:
        """Send one request, from the bytes that are there."""
        start = self.done if self.state.validator else 0
        headers = {"Range": f"bytes={start}-", "If-Range": self.state.validator} if start else {}
        response = open_url(self.file.url, headers, self.file.token)
        with response.body:
            self._check_status(response)
            total = self._total_of_rest(response, start) if start else -1
            if total < 0:
                if response.status != HTTPStatus.OK:
                    self._save(_State())
                    raise BrokenOffError("it cannot be continued, and begins again")
                stated = response.headers.get("Content-Length", "")
                start, total = 0, int(stated) if re.fullmatch(r"\d{1,18}", stated) else -1
            self._check_total(total, start)
            hashed = response.linked_hash.strip('"')
            known = hashed if re.fullmatch("[0-9a-f]{64}", hashed) else ""
            with (
                self.content.open("ab" if start else "wb") as file,
                progress.task(f"Downloading {self.file.name}", max(total, 0) // KILO, "kB") as task,
            ):
                self._save(_State(_validator(response.headers), total, known))
                task.resume_at(start // KILO)
                self._receive(response, file, start, task)
        if 0 <= total != self.done:
            raise BrokenOffError(f"it ended after {self.done:,} of {total:,} bytes")

    def _total_of_rest(self, response: Response, start: int) -> int:
        """Return the size of the file whose beginning is there, if a response has more of it; else -1."""
        given = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
        is_part = response.status == HTTPStatus.PARTIAL_CONTENT and given is not None and int(given[1]) == start
        if not is_part or given is None or _validator(response.headers) != self.state.validator:
            return -1
        total = self.state.total if given[2] == "*" else int(given[2])
        return total if total >= start and self.state.total in (-1, total) else -1

    def _check_status(self, response: Response) -> None:
        status, name = response.status, self.file.name
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            return
        check_not_busy(response)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            reason = f"The server does not give {name} to everybody (HTTP status {status})"
            raise FetchError(f"{reason}. {self.file.login_hint}")
        raise FetchError(f"The server does not have {name} (HTTP status {status}). Give another source.")

    def _check_total(self, total: int, start: int) -> None:
        self._check_size(total)
        free = shutil.disk_usage(self.folder).free
        if total - start > free:
            raise FetchError(
                f"{self.file.name} has {total / MEGA:,.0f} MB, but {self.folder} has room for {free / MEGA:,.0f} MB. "
                f"Free disk space, or name another folder in the environment variable {CACHE_DIR_ENV}."
            )

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            if not self.state.is_complete:
                self._discard()
            raise FetchError(
                f"{self.file.name} is larger than {self.max_bytes:,} bytes, the rest of `max_bytes`. "
                "Raise it, if you expect that."
            )

    def _receive(self, response: Response, file: IO[bytes], done: int, task: Task) -> None:
        since, received = time.monotonic(), 0
        while chunk := response.read(CHUNK_BYTES):
            self._check_size(done + len(chunk))
            if done == 0:
                self._check_kind(chunk, response.headers)
            file.write(chunk)
            task.advance((done + len(chunk)) // KILO - done // KILO)
            done, received = done + len(chunk), received + len(chunk)
            if time.monotonic() - since > WINDOW_SECONDS:
                if received < WINDOW_BYTES:
                    raise BrokenOffError(f"it stalled: {received:,} bytes in {WINDOW_SECONDS:g} seconds")
                since, received = time.monotonic(), 0

    def _check_kind(self, head: bytes, headers: Message) -> None:
        if head[:1] == b"<" or headers.get("Content-Type", "").startswith("text/html"):
            self._discard()
            raise FetchError(
                f"The server sent a web page instead of {self.file.name}. Open the address in a browser: it may ask "
                "for a login. Then download the file there, and give it."
            )
        if self.file.head and not head.startswith(self.file.head):
            self._discard()
            raise FetchError(f"The server sent another file than {self.file.name}. Give a file that you downloaded.")
        if not self.file.head and head[:4] not in KINDS and len(head) >= 4:
            self._discard()
            raise FetchError(f"{self.file.name} is neither a ZIP nor a Parquet file. Give one.")

    def _wrong_hash(self) -> str:
        """Return the expected and the received hash, if they differ; else nothing."""
        expected = self.file.sha256 or self.state.sha256
        if not expected:
            return ""
        with self.content.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return f"expected the SHA-256 {expected}. Received: {found}" if found != expected else ""

    def _place(self) -> str:
        total = f" of {self.state.total / MEGA:,.1f}" if self.state.total >= 0 else ""
        return f"at {self.done / MEGA:,.1f}{total} MB"

    def _save(self, state: _State) -> None:
        self.state = state
        write_text(self.folder / STATE, json.dumps(asdict(state)))

    def _discard(self) -> None:
        self.content.unlink(missing_ok=True)
        self._save(_State())


def check_not_busy(response: Response) -> None:
    """Raise `BrokenOffError` if the server is busy, with the pause that it asks for."""
    if response.status in BUSY or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait = retry_after(response.headers, MAX_WAIT_SECONDS)
        raise BrokenOffError(f"the server is busy, HTTP status {response.status}", wait)


@contextmanager
def downloaded(file: RemoteFile, *, max_bytes: int, keep: bool, progress: Progress) -> Iterator[Path]:
    """Download a file, unless the cache has it.

    Args:
        file: The file.
        max_bytes: Largest size.
        keep: Whether it stays in the cache after the block. If the block raises, it stays unless it was refused.
        progress: Receives progress.

    Yields:
        The file in the cache.

    Raises:
        FetchError: It cannot be downloaded, is too large or not the expected one, or another process downloads it.
        CacheError: The cache cannot be written.
    """
    address = hashlib.sha256(file.url.encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.-]+", "_", file.name)[-60:].strip("._")
    with ExitStack() as stack:
        with _cache_errors():
            folder = make_cache_folder(DOWNLOADS, f"{name}-{address}")
            lock = stack.enter_context((folder / LOCK).open("wb"))
            if try_lock(lock) is False:
                raise FetchError(f"Another process is downloading {file.name}. Wait for it.")
            lock.write(b"\n")  # the time of its last use
            download = _Download(file, folder, max_bytes)
            try:
                download.run(progress)
            except KeyboardInterrupt as error:
                error.add_note(CONTINUE)
                raise
        try:
            yield download.content
        except ArchiveError:
            keep = False
            raise
        except BaseException:
            keep = True
            raise
        finally:
            close_on_windows(lock)
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _cache_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"Cannot write the download in the cache: {describe_error(error)}. Free disk space, or name another folder "
            f"in the environment variable {CACHE_DIR_ENV}."
        ) from error


def _read_state(path: Path) -> _State:
    """Return a state that was saved; an empty one if there is none, or it is damaged."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        state = _State(**json.loads(path.read_text("utf-8")))
        if list(map(type, astuple(state))) == list(map(type, astuple(_State()))):
            return state
    return _State()


def _validator(headers: Message) -> str:
    """Return the mark of a version of the file: a strong ETag, or the date of the last change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")
