"""Rules of Windows on another system: open files keep their names, and so do folders that contain one."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from belvedere.runtime import operating_system

DESCRIPTORS = Path("/proc/self/fd")


def open_files() -> list[Path]:
    """Return the paths of the files that this process has opened."""
    found = []
    for descriptor in DESCRIPTORS.iterdir():
        try:
            found.append(descriptor.readlink())
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def refuse_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let renaming and deleting fail as on Windows, and let Belvedere take the system for Windows."""
    if not DESCRIPTORS.is_dir():
        pytest.skip("lists open files by /proc")

    def wrap(name: str) -> None:
        original = getattr(Path, name)

        def checked(path: Path, *arguments: object, **options: object) -> object:
            moved = [path.absolute(), *(Path(each).absolute() for each in arguments if isinstance(each, Path))]
            for file in open_files():
                if any(file.is_relative_to(each) for each in moved):
                    raise PermissionError(13, "The process cannot access the file", str(file))
            if name == "rename" and arguments[0].exists():  # type: ignore[attr-defined]
                raise FileExistsError(17, "The file exists", str(arguments[0]))
            return original(path, *arguments, **options)

        monkeypatch.setattr(Path, name, checked)

    for name in ("rename", "replace", "unlink"):
        wrap(name)
    monkeypatch.setattr(operating_system, "sys", SimpleNamespace(platform="win32"))  # not of other libraries
    monkeypatch.setattr(operating_system, "RENAME_SECONDS", 0.001)
