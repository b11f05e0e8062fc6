import csv
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from belvedere.errors import UsageError
from belvedere.runtime import files, serialization
from running import run_python

OLD, NEW = b"old", b"new and longer"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    yield
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".replaced")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files


def test_file_is_written_and_replaced() -> None:
    path = Path("x.bin")
    for content in (OLD, NEW, b""):
        files.write_bytes(path, content)
        assert path.read_bytes() == content
    assert names(Path()) == ["x.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(
    step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = Path("x.bin")
    files.write_bytes(path, OLD)
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    expected = UsageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        files.write_bytes(path, NEW)
    assert path.read_bytes() == OLD
    assert names(Path()) == ["x.bin"]
    if expected is UsageError:
        assert f" x.bin: {os.strerror(errno.ENOSPC)}. " in str(caught.value)


@pytest.mark.parametrize("place", ["missing/x.bin", "a_file/x.bin", "a_folder", ".", "/", "/proc/x.bin", "x" * 300])
def test_place_that_cannot_be_written_is_one_clear_line(place: str) -> None:
    Path("a_file").touch()
    Path("a_folder").mkdir()
    with pytest.raises(UsageError) as caught:
        files.write_bytes(Path(place), NEW)
    assert f" {place}: " in str(caught.value)
    assert "None" not in str(caught.value)
    assert names(Path()) == ["a_file", "a_folder"]


def test_link_is_followed() -> None:
    Path("elsewhere").mkdir()
    Path("link.txt").symlink_to("elsewhere/x.txt")
    files.write_text(Path("link.txt"), "hello")
    assert Path("link.txt").is_symlink()
    assert Path("elsewhere/x.txt").read_text() == "hello"


def test_a_loop_of_links_is_refused() -> None:
    Path("loop").symlink_to("loop")
    with pytest.raises(UsageError):
        files.write_bytes(Path("loop"), NEW)
    assert Path("loop").is_symlink()


def test_device_is_written_into_and_stays_a_device() -> None:
    files.write_bytes(Path("/dev/null"), NEW)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_file_may_be_read_by_others() -> None:
    mask = os.umask(0o022)
    try:
        files.write_bytes(Path("x.bin"), NEW)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(Path("x.bin").stat().st_mode) == 0o644


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o444])
def test_a_replaced_file_keeps_its_permissions(mode: int) -> None:
    path = Path("x.bin")
    path.write_bytes(OLD)
    path.chmod(mode)
    with files.atomic_text_writer(path) as file:
        file.write("new")
        [temporary] = [each for each in Path().iterdir() if each != path]
        assert stat.S_IMODE(temporary.stat().st_mode) == mode
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


def test_name_as_long_as_names_can_be() -> None:
    path = Path("x" * 251 + ".csv")
    files.write_bytes(path, NEW)
    assert path.read_bytes() == NEW


def test_text_is_utf8_with_its_own_line_ends() -> None:
    files.write_text(Path("x.txt"), "fjörd\r\n☃\n")
    assert Path("x.txt").read_bytes() == "fjörd\r\n☃\n".encode()


def test_file_names_that_are_not_utf8_can_be_written() -> None:
    name = os.fsdecode(b"fj\xf6rd.jpg")
    serialization.write_csv(Path("x.csv"), ("image",), [(name,)])
    assert Path("x.csv").read_text(encoding="utf-8") == "image\nfj\\udcf6rd.jpg\n"
    serialization.write_json(Path("x.json"), {"image": name})
    assert json.loads(Path("x.json").read_text(encoding="utf-8")) == {"image": name}
    with files.atomic_text_writer(Path("x.txt")) as file:
        file.write(name)
    assert Path("x.txt").read_text(encoding="utf-8") == "fj\\udcf6rd.jpg"


def test_json_is_for_people() -> None:
    serialization.write_json(Path("x.json"), {"größe": [1, 2]})
    assert Path("x.json").read_text(encoding="utf-8") == '{\n  "größe": [\n    1,\n    2\n  ]\n}\n'


def test_csv_quotes_and_leaves_none_empty() -> None:
    rows = [("a,b", None, 0.5), ('say "x"', "two\nlines", 1), ("a\rb", "c\r", 2)]
    serialization.write_csv(Path("x.csv"), ("image", "label", "share"), rows)
    with Path("x.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["image", "label", "share"],
            ["a,b", "", "0.5"],
            ['say "x"', "two\nlines", "1"],
            ["a\rb", "c\r", "2"],
        ]


def test_file_written_bit_by_bit_appears_when_whole() -> None:
    path = Path("x.csv")
    path.write_bytes(OLD)
    with files.atomic_text_writer(path) as file:
        file.write("one\n")
        file.flush()
        assert path.read_bytes() == OLD
        file.write("two\r\n")
    assert path.read_bytes() == b"one\ntwo\r\n"


def test_file_written_bit_by_bit_is_dropped_on_failure() -> None:
    path = Path("x.csv")
    path.write_bytes(OLD)
    with pytest.raises(ValueError, match="stop"), files.atomic_text_writer(path) as file:
        file.write("one\n" * 10_000)
        raise ValueError("stop")
    assert path.read_bytes() == OLD
    assert names(Path()) == ["x.csv"]


def test_two_files_in_one_folder_at_once() -> None:
    with files.atomic_text_writer(Path("a")) as first, files.atomic_text_writer(Path("b")) as second:
        first.write("1")
        second.write("2")
    assert Path("a").read_text() + Path("b").read_text() == "12"


def test_temporary_files_of_killed_writers_are_cleared_and_those_of_living_ones_are_not() -> None:
    program = """

import time
from pathlib import Path
from belvedere.runtime import files, serialization
with files.atomic_text_writer(Path("file.txt")) as file:
    print("ready", flush=True)
    time.sleep(600)
"""
    mine = [".belvedere-0123456789abcdef.tmp.txt", ".belvedere-notes.tmp"]
    for name in mine:
        Path(name).touch()
    clear = [sys.executable, "-c", "from belvedere.runtime.files import *; write_text(Path('other.txt'), 'x')"]
    with run_python(program):
        subprocess.run(clear, check=True)
        assert len(names(Path())) == len(mine) + 2
    subprocess.run(clear, check=True)
    assert names(Path()) == [*mine, "other.txt"]
    Path(mine[1]).unlink()


def test_a_path_beside_another(tmp_path: Path) -> None:
    assert files.beside(Path("a", "b.c"), "-x") == Path("a", "b.c-x")
    assert files.beside(Path(), "-x") == tmp_path / "here-x"
    with pytest.raises(UsageError):
        files.beside(Path(tmp_path.anchor), "-x")
