"""The files of onnxruntime-web, which runs models in browsers: from its package on npm, or from a file of it."""

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path

from belvedere.errors import FetchError, UsageError
from belvedere.fetching.download import RemoteFile, downloaded
from belvedere.runtime.progress import Progress
from belvedere.runtime.terminal import describe_error

VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"  # of the package
MAX_BYTES = 50_000_000
GZIP = b"\x1f\x8b"
FILES = {  # the smallest build: CPU only. Renamed, since some hosts do not know .mjs
    "onnxruntime-web.js": "package/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}


def read_onnxruntime_web(package: Path | None, progress: Progress) -> Mapping[str, bytes]:
    """Return the contents of `FILES`.

    Args:
        package: The package, onnxruntime-web-VERSION.tgz. Default: it is downloaded once, and kept in the cache.
        progress: Receives the progress of the download.

    Raises:
        UsageError: The package cannot be read, or is another one.
        FetchError: It cannot be downloaded.
    """
    if package is not None:
        return _unpack(package)
    file = RemoteFile(URL, URL.rpartition("/")[2], SHA256, head=GZIP)
    try:
        with downloaded(file, max_bytes=MAX_BYTES, keep=True, progress=progress) as path:
            return _unpack(path)
    except FetchError as error:
        error.add_note(f"Without a network, download {URL} elsewhere, and give it as `runtime`.")
        raise


def _unpack(package: Path) -> Mapping[str, bytes]:
    """Return the files of a package whose hash is known."""
    try:
        with package.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != SHA256:
                raise UsageError(
                    f"{package} is not the package of onnxruntime-web {VERSION}: expected the SHA-256 {SHA256}. "
                    f"Received: {found}. Download {URL}."
                )
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                members = {name: archive.extractfile(member) for name, member in FILES.items()}
                return {name: member.read() for name, member in members.items() if member is not None}
    except OSError as error:
        raise UsageError(f"{package} cannot be read: {describe_error(error)}. Download {URL}.") from error
