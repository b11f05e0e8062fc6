import csv
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from belvedere import storage
from belvedere.csv_files import write_csv
from belvedere.errors import FolderExists, UsageError

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


def make_results(folder: Path, *, overwrite: bool = False, content: bytes = OLD) -> None:
    with storage.new_folder(folder, overwrite=overwrite) as partial:
        (partial / "metrics.json").write_bytes(content)


# Files


def test_file_is_written_and_replaced() -> None:
    path = Path("x.bin")
    for content in (OLD, NEW, b""):
        storage.write_bytes(path, content)
        assert path.read_bytes() == content
    assert names(Path()) == ["x.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_leaves_the_old_file_and_nothing_else(
    step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    path = Path("x.bin")
    storage.write_bytes(path, OLD)
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    expected = UsageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        storage.write_bytes(path, NEW)
    assert path.read_bytes() == OLD
    assert names(Path()) == ["x.bin"]
    if expected is UsageError:
        assert str(caught.value) == "Can't write x.bin: No space left on device. Give another place."


@pytest.mark.parametrize("place", ["missing/x.bin", "a_file/x.bin", "a_folder", ".", "/", "/proc/x.bin", "x" * 300])
def test_place_that_cannot_be_written_is_one_clear_line(place: str) -> None:
    Path("a_file").touch()
    Path("a_folder").mkdir()
    with pytest.raises(UsageError) as caught:
        storage.write_bytes(Path(place), NEW)
    assert str(caught.value).startswith(f"Can't write {place}: ")
    assert str(caught.value).endswith(". Give another place.")
    assert "None" not in str(caught.value)
    assert names(Path()) == ["a_file", "a_folder"]


def test_link_is_followed() -> None:
    Path("elsewhere").mkdir()
    Path("link.txt").symlink_to("elsewhere/x.txt")
    storage.write_text(Path("link.txt"), "hello")
    assert Path("link.txt").is_symlink()
    assert Path("elsewhere/x.txt").read_text() == "hello"


def test_device_is_written_into_and_stays_a_device() -> None:
    storage.write_bytes(Path("/dev/null"), NEW)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_file_may_be_read_by_others() -> None:
    mask = os.umask(0o022)
    try:
        storage.write_bytes(Path("x.bin"), NEW)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(Path("x.bin").stat().st_mode) == 0o644


def test_name_as_long_as_names_can_be() -> None:
    path = Path("x" * 251 + ".csv")
    storage.write_bytes(path, NEW)
    assert path.read_bytes() == NEW


def test_text_is_utf8_with_its_own_line_ends() -> None:
    storage.write_text(Path("x.txt"), "fjörd\r\n☃\n")
    assert Path("x.txt").read_bytes() == "fjörd\r\n☃\n".encode()


def test_file_names_that_are_not_utf8_can_be_written() -> None:
    name = os.fsdecode(b"fj\xf6rd.jpg")
    write_csv(Path("x.csv"), ("image",), [(name,)])
    assert Path("x.csv").read_text(encoding="utf-8") == "image\nfj\\udcf6rd.jpg\n"
    storage.write_json(Path("x.json"), {"image": name})
    assert json.loads(Path("x.json").read_text(encoding="utf-8")) == {"image": name}
    with storage.replace_when_whole(Path("x.txt")) as file:
        file.write(name)
    assert Path("x.txt").read_text(encoding="utf-8") == "fj\\udcf6rd.jpg"


def test_json_is_for_people() -> None:
    storage.write_json(Path("x.json"), {"größe": [1, 2]})
    assert Path("x.json").read_text(encoding="utf-8") == '{\n  "größe": [\n    1,\n    2\n  ]\n}\n'


def test_csv_quotes_and_leaves_none_empty() -> None:
    rows = [("a,b", None, 0.5), ('say "x"', "two\nlines", 1), ("a\rb", "c\r", 2)]
    write_csv(Path("x.csv"), ("image", "label", "share"), rows)
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
    with storage.replace_when_whole(path) as file:
        file.write("one\n")
        file.flush()
        assert path.read_bytes() == OLD
        file.write("two\r\n")
    assert path.read_bytes() == b"one\ntwo\r\n"


def test_file_written_bit_by_bit_is_dropped_on_failure() -> None:
    path = Path("x.csv")
    path.write_bytes(OLD)
    with pytest.raises(ValueError, match="stop"), storage.replace_when_whole(path) as file:
        file.write("one\n" * 10_000)
        raise ValueError("stop")
    assert path.read_bytes() == OLD
    assert names(Path()) == ["x.csv"]


def test_two_files_in_one_folder_at_once() -> None:
    with storage.replace_when_whole(Path("a")) as first, storage.replace_when_whole(Path("b")) as second:
        first.write("1")
        second.write("2")
    assert Path("a").read_text() + Path("b").read_text() == "12"


# Folders


def test_folder_appears_only_when_whole() -> None:
    folder = Path("deep/er/results")
    with storage.new_folder(folder, overwrite=False) as partial:
        (partial / "metrics.json").write_bytes(NEW)
        assert not folder.exists()
        assert partial == folder.resolve().with_name("results.partial")
    assert names(folder) == [storage.MARK, "metrics.json"]
    assert names(folder.parent) == ["results"]


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("keep_if", ["", "history.csv", "metrics.json"])
def test_failure_leaves_the_old_results_and_only_a_part_worth_keeping(error: BaseException, keep_if: str) -> None:
    folder = Path("results")
    make_results(folder)
    with pytest.raises(type(error)), storage.new_folder(folder, overwrite=True, keep_if=keep_if) as partial:
        (partial / "metrics.json").write_bytes(NEW)
        raise error
    assert (folder / "metrics.json").read_bytes() == OLD
    if keep_if == "metrics.json":
        assert Path("results.partial/metrics.json").read_bytes() == NEW
    else:
        assert names(Path()) == ["results"]


def test_overwrite_replaces_all_of_it() -> None:
    folder = Path("results")
    make_results(folder)
    (folder / "left over").touch()
    with pytest.raises(FolderExists, match=r"^results exists already and nothing was changed\. .*--overwrite"):
        make_results(folder, content=NEW)
    assert (folder / "metrics.json").read_bytes() == OLD
    make_results(folder, overwrite=True, content=NEW)
    assert names(folder) == [storage.MARK, "metrics.json"]
    assert (folder / "metrics.json").read_bytes() == NEW
    assert names(Path()) == ["results"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file", "link to a folder"])
@pytest.mark.parametrize("name", ["results", "results.partial"])
def test_what_belvedere_did_not_make_is_never_replaced(overwrite: bool, kind: str, name: str) -> None:
    if kind == "file":
        Path(name).write_bytes(OLD)
    else:
        holder = Path(name if kind == "folder" else "elsewhere")
        holder.mkdir()
        (holder / "photo.jpg").write_bytes(OLD)
        if kind != "folder":
            Path(name).symlink_to(holder)
    with pytest.raises(FolderExists, match="not made by Belvedere, so it is never replaced: give another --out"):
        make_results(Path("results"), overwrite=overwrite)
    assert (Path(name) if kind == "file" else Path(name) / "photo.jpg").read_bytes() == OLD


def test_empty_folder_is_filled() -> None:
    Path("results").mkdir()
    make_results(Path("results"))
    assert names(Path("results")) == [storage.MARK, "metrics.json"]


def test_part_left_over_is_refused_with_the_ways_out() -> None:
    folder = Path("results")
    with (
        pytest.raises(ValueError, match="stop"),
        storage.new_folder(folder, overwrite=False, keep_if=storage.MARK),
    ):
        raise ValueError("stop")
    with pytest.raises(FolderExists, match=r"Add --overwrite .*--resume.*, or give another --out") as caught:
        make_results(folder, overwrite=False)
    assert "results.partial exists already" in str(caught.value)
    make_results(folder, overwrite=True)
    assert names(Path()) == ["results"]


def test_part_left_over_is_taken_up_again_without_what_was_half_written() -> None:
    with pytest.raises(ValueError, match="stop"), storage.new_folder(Path("results"), overwrite=False, keep_if="kept"):
        Path("results.partial/kept").write_bytes(OLD)
        Path("results.partial", storage.TEMPORARY.format("0123abcd")).write_bytes(b"half of")
        raise ValueError("stop")
    with storage.new_folder(Path("results"), overwrite=False, resume=True) as folder:
        assert names(folder) == [storage.MARK, "kept"]
    assert Path("results/kept").read_bytes() == OLD
    with storage.new_folder(Path("fresh"), overwrite=False, resume=True):
        pass  # nothing to go on with: it begins
    with pytest.raises(FolderExists), storage.new_folder(Path("results"), overwrite=False, resume=True):
        pass


@pytest.mark.parametrize("spelling", ["results/", "./results", "missing/../results", "results/.", "link/results"])
def test_spellings_of_a_path(spelling: str) -> None:
    Path("link").symlink_to(Path.cwd())
    make_results(Path(spelling))
    with pytest.raises(FolderExists):
        make_results(Path("results"))
    assert names(Path("results")) == [storage.MARK, "metrics.json"]
    assert names(Path()) == ["link", "results"]


@pytest.mark.parametrize("place", [".", "", "..", "inside/..", "/"])
def test_folder_one_is_in_is_refused(place: str) -> None:
    Path("inside").mkdir()
    Path(storage.MARK).touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is or holds the folder you are in: give --out a folder of its own"):
            make_results(Path(place), overwrite=overwrite)
    assert names(Path()) == [storage.MARK, "inside"]


def test_results_behind_a_link_are_replaced_where_they_are() -> None:
    Path("disk").mkdir()
    Path("results").symlink_to("disk/results")
    make_results(Path("results"))
    make_results(Path("results"), overwrite=True, content=NEW)
    assert Path("results").is_symlink()
    assert Path("disk/results/metrics.json").read_bytes() == NEW


@pytest.mark.parametrize("place", ["a_file/results", "/proc/results", "x" * 300, "circle/results"])
def test_place_where_no_folder_can_be_made(place: str) -> None:
    Path("a_file").touch()
    Path("circle").symlink_to("circle")
    with pytest.raises(UsageError) as caught:
        make_results(Path(place))
    assert str(caught.value).startswith(f"Can't make the folder {place}: ")
    assert str(caught.value).endswith("Give another --out.")


def test_mounted_disk_is_refused_before_the_work() -> None:
    with pytest.raises(
        UsageError, match=r"/proc is a mounted disk: give --out a folder in it, such as /proc/results\."
    ):
        make_results(Path("/proc"), overwrite=True)


def test_results_that_cannot_be_put_in_place_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("results")
    make_results(folder)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name == "results.partial":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UsageError, match=r"The results are whole, but stay in .*results\.partial: Permission denied"):
        make_results(folder, overwrite=True, content=NEW)
    assert (folder / "metrics.json").read_bytes() == OLD
    assert Path("results.partial/metrics.json").read_bytes() == NEW


def test_folder_made_by_another_meanwhile_is_not_replaced() -> None:
    folder = Path("results")
    with (
        pytest.raises(UsageError, match=r"stay in .*results\.partial: results exists already"),
        storage.new_folder(folder, overwrite=True) as partial,
    ):
        (partial / "metrics.json").write_bytes(NEW)
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(OLD)
    assert names(folder) == ["photo.jpg"]
    assert Path("results.partial/metrics.json").read_bytes() == NEW


def run_python(program: str, *before: str) -> subprocess.Popen[str]:
    """Start a program that prints a line when it is ready, and wait for the line."""
    process = subprocess.Popen([*before, sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


HOLD = """
import time
from pathlib import Path
from belvedere.storage import new_folder
with new_folder(Path("results"), overwrite=True, keep_if="kept") as folder:
    (folder / "kept").touch()
    print("ready", flush=True)
    time.sleep(600)
"""


CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--map-root-user")


@pytest.mark.parametrize("container", [(), CONTAINER], ids=["here", "elsewhere"])
def test_a_folder_has_one_writer_until_that_is_killed(container: tuple[str, ...]) -> None:
    if container and subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs leave to make a namespace for processes")
    with run_python(HOLD, *container) as holder:
        for overwrite, resume in ((False, False), (True, False), (False, True)):
            with (
                pytest.raises(FolderExists, match="Another process is at work in it"),
                storage.new_folder(Path("results"), overwrite=overwrite, resume=resume),
            ):
                pass
        assert names(Path("results.partial")) == [storage.MARK, "kept"]
        holder.kill()
        assert holder.stdout
        holder.stdout.read()  # until the process in the container has ended too
    with storage.new_folder(Path("results"), overwrite=False, resume=True) as folder:
        assert names(folder) == [storage.MARK, "kept"]


def test_a_number_of_a_process_says_nothing() -> None:
    """As after a reboot, or in a container: the number that was written down is that of a living process."""
    Path("results.partial").mkdir()
    Path("results.partial", storage.MARK).write_text(str(os.getppid()))
    with storage.new_folder(Path("results"), overwrite=False, resume=True):
        pass
    assert names(Path()) == ["results"]


def test_temporary_files_of_killed_writers_are_cleared_and_those_of_living_ones_are_not() -> None:
    program = """
import sys, time
from pathlib import Path
from belvedere import storage
with storage.replace_when_whole(Path("file.txt")) as file:
    print("ready", flush=True)
    time.sleep(600)
"""
    mine = Path(".belvedere-mine.txt")
    mine.touch()
    clear = [sys.executable, "-c", "from belvedere.storage import *; write_text(Path('other.txt'), 'x')"]
    with run_python(program) as writer:
        subprocess.run(clear, check=True)
        assert len(list(Path().glob(storage.TEMPORARY.format("*")))) == 1
        writer.kill()
    subprocess.run(clear, check=True)
    assert names(Path()) == [".belvedere-mine.txt", "other.txt"]


def test_older_results_that_a_killed_process_put_aside_are_cleared() -> None:
    make_results(Path("results"))
    aside = Path(f".results.abc{storage.REPLACED}")
    (aside / "results").mkdir(parents=True)
    others = Path(f".results2.abc{storage.REPLACED}")
    others.mkdir()
    make_results(Path("results"), overwrite=True, content=NEW)
    assert names(Path()) == [others.name, "results"]
    others.rmdir()
