"""Environment of the process: cache folder, telemetry variables, command line, versions."""

import os
import platform
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from belvedere.errors import CacheError

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

CACHE_DIR_ENV = "BELVEDERE_CACHE"
PRIVATE = 0o700
CACHE_TAG = "CACHEDIR.TAG"  # excludes the folder from backups: https://bford.info/cachedir/
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of Belvedere: belvedere cache --clear deletes it.\n"
TELEMETRY_OFF = {  # docs/privacy.md lists what each dependency could send
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.29 and later
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub and hf-xet, which timm imports
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",  # crash reports
}
# For FastAPI(telemetry=...): otherwise FASTAPI_OTEL_AUTO_CONFIGURE and OTEL_* make FastAPI send traces.
FASTAPI_TELEMETRY_OFF: "TelemetryConfig" = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def disable_telemetry() -> None:
    """Set the variables of `TELEMETRY_OFF` that the user has not set.

    Importing `belvedere` calls this: dependencies read their variables on import, and child processes inherit them.
    """
    for name, value in TELEMETRY_OFF.items():
        os.environ.setdefault(name, value)


def cache_folder() -> Path:
    """Return the cache folder: $BELVEDERE_CACHE, or Belvedere's folder in the user's cache folder.

    Raises:
        CacheError: The user has no home folder.
    """
    if folder := os.environ.get(CACHE_DIR_ENV):
        return Path(folder)
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "belvedere"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "belvedere"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "belvedere"
    except RuntimeError as error:  # without HOME, and without an entry of the user in the system
        hint = f"Name a folder in the environment variable {CACHE_DIR_ENV}."
        raise CacheError(f"There is no cache folder: the user has no home folder. {hint}") from error


def make_cache_folder(*names: str) -> Path:
    """Make a folder in the cache that only this user may read, and return it.

    The cache folder itself is made private too, unless $BELVEDERE_CACHE names it. An empty one gets a `CACHEDIR.TAG`.

    Raises:
        OSError: It cannot be made.
        CacheError: The user has no home folder.
    """
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not os.environ.get(CACHE_DIR_ENV) and folder.is_dir():
        with suppress(OSError):  # it belongs to another user
            folder.chmod(PRIVATE)
    for name in ("", *names):
        folder /= name
        folder.mkdir(PRIVATE, exist_ok=True)
    if next(folder.iterdir(), None) is None:
        (folder / CACHE_TAG).write_text(SIGNATURE, encoding="utf-8")
    return folder


def command_line() -> str:
    """Return the command, quoted for a shell; empty if Belvedere was called from Python."""
    program = Path(sys.argv[0])
    ours = program.stem == "belvedere" or (program.name == "__main__.py" and program.parent.name == "belvedere")
    return shlex.join(["belvedere", *sys.argv[1:]]) if ours else ""


def list_versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, Belvedere and some packages."""
    from importlib import metadata

    return {"python": platform.python_version()} | {name: metadata.version(name) for name in ("belvedere", *packages)}
