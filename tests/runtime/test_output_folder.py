import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from belvedere.errors import OutputExistsError, UsageError
from belvedere.runtime import files, output_folder
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


def make_results(folder: Path, *, overwrite: bool = False, content: bytes = OLD) -> None:
    with output_folder.atomic_folder(folder, overwrite=overwrite) as partial:
        (partial / "metrics.json").write_bytes(content)


def test_folder_appears_only_when_whole() -> None:
    folder = Path("deep/er/results")
    with output_folder.atomic_folder(folder, overwrite=False) as partial:
        (partial / "metrics.json").write_bytes(NEW)
        assert not folder.exists()
        assert partial == folder.resolve().with_name("results.partial")
    assert names(folder) == [output_folder.MARKER_FILE, "metrics.json"]
    assert names(folder.parent) == ["results"]


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("keep_if", ["", "history.csv", "metrics.json"])
def test_failure_leaves_the_old_results_and_only_a_part_worth_keeping(error: BaseException, keep_if: str) -> None:
    folder = Path("results")
    make_results(folder)
    with pytest.raises(type(error)), output_folder.atomic_folder(folder, overwrite=True, keep_if=keep_if) as partial:
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
    with pytest.raises(OutputExistsError):
        make_results(folder, content=NEW)
    assert (folder / "metrics.json").read_bytes() == OLD
    make_results(folder, overwrite=True, content=NEW)
    assert names(folder) == [output_folder.MARKER_FILE, "metrics.json"]
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
    with pytest.raises(OutputExistsError) as caught:
        make_results(Path("results"), overwrite=overwrite)
    assert (caught.value.path.name, caught.value.can_overwrite) == (name, False)
    assert (Path(name) if kind == "file" else Path(name) / "photo.jpg").read_bytes() == OLD


@pytest.mark.parametrize("name", ["to_label.labels.jsonl", "a.annotations.jsonl", "run.corrections.jsonl"])
def test_answers_of_people_are_never_replaced(name: str) -> None:
    folder = Path("results")
    make_results(folder)
    (folder / name).write_bytes(OLD)
    with pytest.raises(OutputExistsError) as caught:
        make_results(folder, overwrite=True)
    assert not caught.value.can_overwrite
    assert (folder / name).read_bytes() == OLD


def test_empty_folder_is_filled() -> None:
    Path("results").mkdir()
    make_results(Path("results"))
    assert names(Path("results")) == [output_folder.MARKER_FILE, "metrics.json"]


def test_part_left_over_is_refused_with_the_ways_out() -> None:
    folder = Path("results")
    with (
        pytest.raises(ValueError, match="stop"),
        output_folder.atomic_folder(folder, overwrite=False, keep_if=output_folder.MARKER_FILE),
    ):
        raise ValueError("stop")
    with pytest.raises(OutputExistsError) as caught:
        make_results(folder, overwrite=False)
    assert (caught.value.path.name, caught.value.can_overwrite) == ("results.partial", True)
    make_results(folder, overwrite=True)
    assert names(Path()) == ["results"]


def test_part_left_over_is_taken_up_again_without_what_was_half_written() -> None:
    with (
        pytest.raises(ValueError, match="stop"),
        output_folder.atomic_folder(Path("results"), overwrite=False, keep_if="kept"),
    ):
        Path("results.partial/kept").write_bytes(OLD)
        Path("results.partial", files.TEMPORARY_NAME.format("0123456789abcdef")).write_bytes(b"half of")
        raise ValueError("stop")
    with output_folder.atomic_folder(Path("results"), overwrite=False, resume=True) as folder:
        assert names(folder) == [output_folder.MARKER_FILE, "kept"]
    assert Path("results/kept").read_bytes() == OLD
    with output_folder.atomic_folder(Path("fresh"), overwrite=False, resume=True):
        pass  # nothing to go on with: it begins
    with pytest.raises(OutputExistsError), output_folder.atomic_folder(Path("results"), overwrite=False, resume=True):
        pass


@pytest.mark.parametrize("spelling", ["results/", "./results", "missing/../results", "results/.", "link/results"])
def test_spellings_of_a_path(spelling: str) -> None:
    Path("link").symlink_to(Path.cwd())
    make_results(Path(spelling))
    with pytest.raises(OutputExistsError):
        make_results(Path("results"))
    assert names(Path("results")) == [output_folder.MARKER_FILE, "metrics.json"]
    assert names(Path()) == ["link", "results"]


@pytest.mark.parametrize("place", [".", "", "..", "inside/..", "/"])
def test_folder_one_is_in_is_refused(place: str) -> None:
    Path("inside").mkdir()
    Path(output_folder.MARKER_FILE).touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            make_results(Path(place), overwrite=overwrite)
    assert names(Path()) == [output_folder.MARKER_FILE, "inside"]


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
    assert all(word in str(caught.value) for word in (f" {place}: ", "`out`"))


def test_mounted_disk_is_refused_before_the_work() -> None:
    with pytest.raises(UsageError):
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
    with pytest.raises(UsageError):
        make_results(folder, overwrite=True, content=NEW)
    assert (folder / "metrics.json").read_bytes() == OLD
    assert Path("results.partial/metrics.json").read_bytes() == NEW


def test_folder_made_by_another_meanwhile_is_not_replaced() -> None:
    folder = Path("results")
    with (
        pytest.raises(UsageError, match=r"results\.partial: ") as caught,
        output_folder.atomic_folder(folder, overwrite=True) as partial,
    ):
        (partial / "metrics.json").write_bytes(NEW)
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(OLD)
    assert isinstance(caught.value.__cause__, OutputExistsError)
    assert (caught.value.__cause__.path, caught.value.__cause__.can_overwrite) == (folder, False)
    assert names(folder) == ["photo.jpg"]
    assert Path("results.partial/metrics.json").read_bytes() == NEW


HOLD = """

import time
from pathlib import Path
from belvedere.runtime.output_folder import atomic_folder
with atomic_folder(Path("results"), overwrite=True, keep_if="kept") as folder:
    (folder / "kept").touch()
    print("ready", flush=True)
    time.sleep(600)
"""


CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--map-root-user")


@pytest.mark.parametrize("container", [(), CONTAINER], ids=["here", "elsewhere"])
def test_a_folder_has_one_writer_until_that_is_killed(container: tuple[str, ...]) -> None:
    if container and subprocess.run([*container, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs leave to make a namespace for processes")
    with run_python(HOLD, *container):
        for overwrite, resume in ((False, False), (True, False), (False, True)):
            with (
                pytest.raises(OutputExistsError) as caught,
                output_folder.atomic_folder(Path("results"), overwrite=overwrite, resume=resume),
            ):
                pass
            assert (caught.value.path.name, caught.value.can_overwrite) == ("results.partial", False)
        assert names(Path("results.partial")) == [output_folder.MARKER_FILE, "kept"]
    with output_folder.atomic_folder(Path("results"), overwrite=False, resume=True) as folder:
        assert names(folder) == [output_folder.MARKER_FILE, "kept"]


def test_a_number_of_a_process_says_nothing() -> None:
    """As after a reboot, or in a container: the number that was written down is that of a living process."""
    Path("results.partial").mkdir()
    Path("results.partial", output_folder.MARKER_FILE).write_text(str(os.getppid()))
    with output_folder.atomic_folder(Path("results"), overwrite=False, resume=True):
        pass
    assert names(Path()) == ["results"]


def put_aside() -> None:
    """As a process leaves it that was killed between the two renamings of a replacement."""
    make_results(Path("results"))
    Path("results").rename(f".results{output_folder.REPLACED}")


def test_older_results_that_a_killed_process_put_aside_come_back() -> None:
    put_aside()
    with pytest.raises(OutputExistsError):
        make_results(Path("results"), content=NEW)
    assert Path("results/metrics.json").read_bytes() == OLD
    assert names(Path()) == ["results"]


def test_older_results_that_were_replaced_before_the_kill_are_deleted() -> None:
    put_aside()
    with output_folder.lock_folder(Path("results")):
        pass
    others = Path(f".results2{output_folder.REPLACED}")
    others.mkdir()
    make_results(Path("results"), overwrite=True, content=NEW)
    assert names(Path()) == [others.name, "results"]
    others.rmdir()


class KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", range(12))
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_kill_while_a_folder_is_deleted_leaves_no_folder_in_the_way(
    step: int, is_complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*, complete: bool = True) -> None:
        with output_folder.atomic_folder(Path("results"), overwrite=True) as folder:
            (folder / "figures").mkdir()
            for name in ("figures/a.png", "metrics.json", "report.html"):
                (folder / name).touch()
            if not complete:
                raise ValueError

    write()
    calls = iter(range(step, -1, -1))
    with monkeypatch.context() as patch, suppress(KilledError, ValueError):

        def delete(original: Callable[..., None], *args: Any, **options: Any) -> None:
            if next(calls, 0) == 0:
                raise KilledError
            original(*args, **options)

        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, partial(delete, getattr(os, name)))
        write(complete=is_complete)
    write()
    assert names(Path()) == ["results"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_user_calls_so_is_reported_before_the_work(kind: str) -> None:
    make_results(Path("results"))
    other = Path(f".results{output_folder.REPLACED}")
    if kind == "file":
        other.touch()
    else:
        (other / "mine").mkdir(parents=True)
    with pytest.raises(OutputExistsError) as caught:
        output_folder.check_output_folder(Path("results"), overwrite=True)
    assert (caught.value.path.name, caught.value.can_overwrite) == (other.name, False)
    other.rename("other")


def test_what_a_user_calls_so_is_left_alone() -> None:
    put_aside()
    Path(f".results{output_folder.REPLACED}", output_folder.MARKER_FILE).unlink()
    make_results(Path("results"), content=NEW)
    assert Path(f".results{output_folder.REPLACED}/metrics.json").read_bytes() == OLD
    Path(f".results{output_folder.REPLACED}/metrics.json").unlink()
    Path(f".results{output_folder.REPLACED}").rmdir()


@pytest.mark.parametrize("read", ["results/model.onnx", "results", "link/model.onnx", "outside", "results.partial/x"])
def test_a_folder_that_holds_what_is_read_is_never_replaced(read: str) -> None:
    make_results(Path("results"))
    Path("results/model.onnx").write_bytes(OLD)
    Path("link").symlink_to("results")
    Path("outside").symlink_to("results/model.onnx")
    Path("results.partial").mkdir()
    Path("results.partial", output_folder.MARKER_FILE).touch()
    Path("results.partial/x").touch()
    for overwrite in (False, True):
        with (
            pytest.raises(OutputExistsError) as caught,
            output_folder.atomic_folder(Path("results"), overwrite=overwrite, inputs=[read]),
        ):
            raise AssertionError
        assert caught.value.can_overwrite == (read == "results.partial/x" and not overwrite)
    assert Path("results/model.onnx").read_bytes() == OLD
    assert Path("results.partial/x").exists()
    with output_folder.atomic_folder(Path("results/inside"), overwrite=False, inputs=["results"]):
        pass  # nothing is replaced


def test_a_folder_of_several_results_is_held_meanwhile() -> None:
    with output_folder.create_output_folder(Path("demo"), overwrite=False):
        make_results(Path("demo/run"))
        with pytest.raises(OutputExistsError) as caught:
            make_results(Path("demo"), overwrite=True)
        assert (caught.value.path, caught.value.can_overwrite) == (Path("demo"), False)
    make_results(Path("demo"), overwrite=True)


def test_a_disk_without_locks_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(output_folder, "try_lock", lambda _: None)
    make_results(Path("results"))
    assert "no file locks" in caplog.text
