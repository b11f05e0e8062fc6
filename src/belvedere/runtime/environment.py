"""The cache folder of this user, and the environment variables that the command line sets."""

import os
import platform
import shlex
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

CACHE_DIR_ENV = "BELVEDERE_CACHE"
PRIVATE = 0o700
CACHE_TAG = "CACHEDIR.TAG"  # see https://bford.info/cachedir/: backups leave such folders out
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of Belvedere: belvedere cache --clear deletes it.\n"


def cache_folder() -> Path:
    """Returns where the cache is: $BELVEDERE_CACHE, else the user's folder for such files."""
    if place := os.environ.get(CACHE_DIR_ENV):
        return Path(place)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "belvedere"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "belvedere"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "belvedere"


def make_cache_folder(*names: str) -> Path:
    """Make a folder in the cache that only this user may read, and return it.

    The folder of the cache itself is closed to others too, unless the user named it. Where it is empty it
    gets a `CACHEDIR.TAG`: what lies in another may be anybody's.

    Raises:
        OSError: It can't be made.
    """
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not os.environ.get(CACHE_DIR_ENV) and folder.is_dir():
        with suppress(OSError):  # another user's
            folder.chmod(PRIVATE)
    for name in ("", *names):
        folder /= name
        folder.mkdir(PRIVATE, exist_ok=True)
    if next(folder.iterdir(), None) is None:
        (folder / CACHE_TAG).write_text(SIGNATURE, encoding="utf-8")
    return folder


def keep_fonts_in_cache() -> None:
    """Let matplotlib keep its list of fonts in our cache folder; the command line calls it before any import of it."""
    if "MPLCONFIGDIR" not in os.environ:
        os.environ["MPLCONFIGDIR"] = str(cache_folder() / "matplotlib")
        with suppress(OSError):
            make_cache_folder()  # else matplotlib makes it, open to others


def command_line() -> str:
    """Returns how Belvedere was called, as a shell takes it; nothing where it was called from Python."""
    program = Path(sys.argv[0])
    ours = program.stem == "belvedere" or (program.name == "__main__.py" and program.parent.name == "belvedere")
    return shlex.join(["belvedere", *sys.argv[1:]]) if ours else ""


def list_versions(*packages: str) -> dict[str, str]:
    """Returns the versions of Python, Belvedere and the named packages."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in ("belvedere", *packages)}
