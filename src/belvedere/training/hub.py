"""Weights from the hub where timm publishes them, kept in the cache.

Knows the hub's addresses, and heeds HF_ENDPOINT (a mirror) and HF_TOKEN as its own programs do; does not know what is
in a file.
"""

import os
import re
from pathlib import Path

from belvedere.cache import cache_folder
from belvedere.download import download, look_up
from belvedere.errors import DownloadError, WeightsError
from belvedere.progress import Progress

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
    if kept := sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime):
        return kept[-1]
    url = f"{os.environ.get('HF_ENDPOINT') or ENDPOINT}/{repository}/resolve/main/{FILE}"
    ways_out = f"Get {url} on a machine that can and give it with --weights, or set HF_ENDPOINT to a mirror."
    if offline:
        raise WeightsError(f"The weights {repository} are not kept here, and --offline allows no download. {ways_out}")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        remote = look_up(url, headers)
        sha256 = (remote.headers.get("x-linked-etag") or remote.headers.get("etag") or "").strip('W/"')
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise DownloadError("the server announced no SHA-256 to check the file by")
        file = folder / f"{sha256}.safetensors"
        download(url, file, remote, sha256, repository, progress, **headers)
    except DownloadError as error:
        raise WeightsError(f"The weights {repository} could not be downloaded: {error}. {ways_out}") from error
    except OSError as error:
        raise WeightsError(f"Can't keep the weights in {folder}: {error.strerror}. Make room there.") from error
    return file
