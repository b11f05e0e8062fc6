"""Finds the files that a source names: a URL, a dataset of the Hugging Face Hub or of Kaggle, or a file."""

import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from belvedere.errors import FetchError, UsageError
from belvedere.fetching.addresses import check_url
from belvedere.fetching.download import BACKOFF_SECONDS, RemoteFile, check_not_busy
from belvedere.fetching.http_client import BrokenOffError, open_url
from belvedere.fetching.layout import split_name
from belvedere.runtime.progress import Progress

HUB, KAGGLE = "https://huggingface.co", "https://www.kaggle.com"
HUB_SCHEME, KAGGLE_SCHEME = "hf://", "kaggle://"
EXAMPLES = "a name, a https:// URL, hf://datasets/OWNER/NAME, kaggle://OWNER/NAME or a file"
NOT_STATED = "not stated"
MAX_LISTING_BYTES = 16_000_000  # of the description of a dataset
MAX_LISTING_SECONDS = 60.0
MAX_LISTING_FAILURES = 3  # attempts
MAX_FILES, MAX_LICENSES = 1000, 5
_NAME = r"\w[\w.-]*"
_HUB = re.compile(rf"hf://datasets/({_NAME})/({_NAME})(?:@([^/\s]+))?(?:/(\S+))?")
_KAGGLE = re.compile(rf"kaggle://({_NAME})/({_NAME})")


@dataclass(frozen=True)
class Source:
    """Files to download, or one on this disk."""

    name: str  # as given
    page: str = ""  # address for people
    license: str = NOT_STATED
    files: tuple[RemoteFile, ...] = ()
    local: Path | None = None


def default_name(source: str) -> str:
    """Return the name of the folder for a source: that of the dataset or file, without suffix."""
    last = unquote(urlsplit(source).path if "://" in source else source)
    if found := _HUB.fullmatch(source) or _KAGGLE.fullmatch(source):
        last = found[2]
    name = PurePosixPath(Path(last).name)
    return re.sub(r"[^\w.-]+", "_", name.stem if name.suffix in (".zip", ".parquet", ".pq") else name.name).strip(".")


def find_file(source: str) -> Path | None:
    """Return the file on this disk that a source names; None if it names none."""
    with suppress(OSError, ValueError):  # no system accepts every text as a path
        if "://" not in source and Path(source).is_file():
            return Path(source)
    return None


def find_source(source: str, sha256: str = "", progress: Progress | None = None) -> Source:
    """Return the files of a source; the hub is asked for them if it names no file.

    Args:
        source: URL, dataset or file.
        sha256: Hash of the file, if it is known.
        progress: Logs the pauses before the hub is asked again.

    Raises:
        UsageError: It is none of these.
        FetchError: The hub cannot be asked, or has no such dataset, or more than one archive, or a file has a path
            out of the dataset.
    """
    if source.startswith(HUB_SCHEME):
        return _hub_source(source, sha256, progress or Progress())
    if source.startswith(KAGGLE_SCHEME):
        found = _KAGGLE.fullmatch(source)
        if not found:
            raise UsageError(f"Not a dataset of Kaggle: {source}. Give one such as kaggle://OWNER/NAME.")
        path = f"datasets/download/{found[1]}/{found[2]}"
        file = RemoteFile(f"{KAGGLE}/api/v1/{path}", f"{found[2]}.zip", sha256)
        return Source(source, f"{KAGGLE}/datasets/{found[1]}/{found[2]}", files=(file,))
    if "://" in source:
        parts = check_url(source)
        file_name = PurePosixPath(unquote(parts.path)).name or parts.netloc
        return Source(source, files=(RemoteFile(source, file_name, sha256),))
    if local := find_file(source):
        return Source(source, local=local)
    raise UsageError(f"No such dataset or file: {source[:200]}. Give {EXAMPLES}.")


def _hub_source(source: str, sha256: str, progress: Progress) -> Source:
    found = _HUB.fullmatch(source)
    if not found:
        example = "hf://datasets/OWNER/NAME, perhaps with @REVISION and /FILE"
        raise UsageError(f"Not a dataset of the hub: {source}. Give one such as {example}.")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FetchError(f"HF_HUB_OFFLINE is set: {source} is not downloaded.")
    repository, revision, file = f"{found[1]}/{found[2]}", unquote(found[3] or "main"), found[4]
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    page, token = f"{endpoint}/datasets/{repository}", os.environ.get("HF_TOKEN", "").strip()
    if file:
        chosen, license_name = [unquote(file)], NOT_STATED
    else:
        address = f"{endpoint}/api/datasets/{repository}/revision/{quote(revision, safe='')}"
        listing = _parse(address, _receive(address, token, progress))
        chosen, license_name, revision = _choose(source, listing), _license(listing), _commit(listing, revision)
    for each in chosen:
        split_name(each)
    folder = f"{page}/resolve/{quote(revision, safe='')}"
    hint = "Set HF_TOKEN, if it is a private dataset, or download it in a browser and give the file."
    files = tuple(RemoteFile(f"{folder}/{quote(each)}", each, sha256, token, hint) for each in chosen)
    return Source(source, page, license_name, files)


def _choose(source: str, listing: Any) -> list[str]:
    """Return the only ZIP file of a repository, or its Parquet files."""
    try:
        names = sorted(str(each["rfilename"]) for each in listing["siblings"])
    except (LookupError, TypeError) as error:
        raise FetchError(f"The hub does not list the files of {source}. Name one: {source}/FILE.") from error
    tables = [name for name in names if name.lower().endswith(".parquet")]
    archives = [name for name in names if name.lower().endswith(".zip")]
    if len(tables) > MAX_FILES:
        raise FetchError(f"{source} has {len(tables):,} Parquet files, over the limit of {MAX_FILES:,}. Name a file.")
    if tables:
        return tables
    if len(archives) == 1:
        return archives
    shown = ", ".join(archives[:5]) if archives else "no ZIP and no Parquet file"
    raise FetchError(f"{source} has {shown}. Name a file: {source}/FILE.")


def _license(listing: Any) -> str:
    card = listing.get("cardData")
    stated = card.get("license") if isinstance(card, dict) else None
    names = stated if isinstance(stated, Sequence) and not isinstance(stated, str) else [stated]
    texts = [each[:80] for each in names if isinstance(each, str) and each]
    more = [f"and {len(texts) - MAX_LICENSES} more"] if len(texts) > MAX_LICENSES else []
    return ", ".join([*texts[:MAX_LICENSES], *more]) or NOT_STATED


def _commit(listing: Any, revision: str) -> str:
    """Return the commit that a branch names now, so that all files are of one."""
    commit = listing.get("sha")
    return commit if isinstance(commit, str) and re.fullmatch("[0-9a-f]{40}", commit) else revision


def _receive(url: str, token: str, progress: Progress) -> bytes:
    """Return the list of files, after pauses if the hub is busy."""
    failures = 0
    while True:
        try:
            return _attempt(url, token)
        except BrokenOffError as error:
            failures += 1
            reason = f"The hub cannot be asked for its files: {error}."
            if failures == MAX_LISTING_FAILURES:
                raise FetchError(f"{reason} Name a file, or try again.") from error
            wait = max(error.wait_seconds, BACKOFF_SECONDS * 2 ** (failures - 1))
            progress.log(f"{reason} Trying again in {wait:g} s.")
            time.sleep(wait)


def _attempt(url: str, token: str) -> bytes:
    """Send one request."""
    response = open_url(url, {"Accept": "application/json"}, token)
    with response.body:
        check_not_busy(response)
        if response.status != HTTPStatus.OK:
            hint = "Check the name. A private dataset needs a token in HF_TOKEN."
            raise FetchError(f"The hub has no dataset at {url} (HTTP status {response.status}). {hint}")
        content, since = bytearray(), time.monotonic()
        while chunk := response.read(MAX_LISTING_BYTES):
            content += chunk
            if time.monotonic() - since > MAX_LISTING_SECONDS:
                raise BrokenOffError(f"their list has not come in {MAX_LISTING_SECONDS:g} seconds")
            if len(content) > MAX_LISTING_BYTES:
                raise FetchError(f"The hub's list of files is too long: {url}. Name a file.")
    return bytes(content)


def _parse(url: str, content: bytes) -> Any:
    try:
        listing = json.loads(content)
    except (ValueError, RecursionError):
        listing = None
    if not isinstance(listing, dict):
        raise FetchError(f"The hub does not list its files at {url}. Name a file.")
    return listing
