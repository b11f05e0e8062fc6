"""Weights from the hub where timm publishes them, kept in the cache.

Knows the hub's addresses, and heeds HF_ENDPOINT (a mirror) and HF_TOKEN as its own programs do; does not know what is
in a file.
"""

import os
import re
from pathlib import Path

from filelock import FileLock

from belvedere.errors import DownloadError, WeightsError
from belvedere.runtime.environment import cache_folder, make_cache_folder
from belvedere.runtime.progress import Progress
from belvedere.training.download import download, look_up

FILE = "model.safetensors"
ENDPOINT = "https://huggingface.co"


def fetch_weights(repository: str, progress: Progress, *, offline: bool = False) -> Path:
    """Returns the file of a repository's weights, named by its SHA-256, downloaded if it is not kept yet.

    Args:
        repository: Such as "timm/resnet18.a1_in1k".
        progress: Shows how far it is.
        offline: Whether only what is kept may be taken.

    Raises:
        WeightsError: There are none, the hub can't be reached, or it sent other bytes than it had announced.
    """
    if not repository:
        raise WeightsError("timm names no repository for these weights. Give a file with --weights FILE.safetensors.")
    folder = cache_folder() / "weights" / repository.replace("/", "--")
    if (kept := _find_kept(folder)) is not None:
        return kept
    url = f"{os.environ.get('HF_ENDPOINT') or ENDPOINT}/{repository}/resolve/main/{FILE}"
    ways_out = f"Get {url} on a machine that can and give it with --weights, or set HF_ENDPOINT to a mirror."
    if offline:
        raise WeightsError(f"The weights {repository} are not kept here, and --offline allows no download. {ways_out}")
    try:
        make_cache_folder("weights", folder.name)
        with FileLock(folder / "lock"):  # another process may be downloading the same
            return _find_kept(folder) or _download(url, folder, repository, progress)
    except DownloadError as error:
        raise WeightsError(f"The weights {repository} could not be downloaded: {error}. {ways_out}") from error
    except OSError as error:
        raise WeightsError(f"Can't keep the weights in {folder}: {error.strerror}. Make room there.") from error


def _find_kept(folder: Path) -> Path | None:
    kept = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    return kept[-1] if kept else None


def _download(url: str, folder: Path, repository: str, progress: Progress) -> Path:
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    said = look_up(url, headers)
    # The hub says these of a large file before it sends one on to where the file is.
    sha256 = (said.get("x-linked-etag") or said.get("etag") or "").strip('W/"')
    size = said.get("x-linked-size") or said.get("content-length") or ""
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not size.isdecimal():
        raise DownloadError("the server announced no size and SHA-256 to check the file by")
    file = folder / f"{sha256}.safetensors"
    for part in folder.glob("*.partial"):  # of other bytes than there are now
        if part.stem != file.name:
            part.unlink()
    download(url, file, int(size), sha256, repository, progress, headers)
    return file
