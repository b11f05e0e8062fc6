"""A job that is killed goes on: no row lost, none doubled, in every form that can be taken up again."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from belvedere.errors import OutputExistsError, UsageError
from belvedere.inference.batch import predict_files
from belvedere.inference.model import Model, load_model
from belvedere.inference.model_card import card_to_metadata
from belvedere.inference.writers import parquet
from belvedere.inference.writers.resumable import ResumableLines, open_resumable
from belvedere.runtime.output_folder import MARKER_FILE
from belvedere.runtime.progress import Progress, Task
from belvedere.types.prediction import Prediction
from conftest import CARD, CLASS_NAMES, MODEL, make_prediction, model_bytes, sheets, write_classes

FORMS = ("csv", "jsonl", "parquet")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """60 images, two of them unreadable, one with a name that CSV must put in quotes."""
    folder = write_classes(tmp_path / "photos", 19)
    for name in ("red/7b.png", 'blue/two\nli"nes,.png'):
        (folder / name).write_text("no image")
    (folder / "green/caf\udce9.png").write_bytes((folder / "green/3.png").read_bytes())
    return folder


class Killed(BaseException):
    """As a kill: nobody catches it, and nothing is tidied up behind it."""


def cut_off(model: Model, photos: Path, form: str, out: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leaves what a process that was killed behind so many rows leaves."""

    def stop(sources: Iterator[Path], **_: object) -> Iterator[object]:
        for number, each in enumerate(Model.predict_sources(model, sources)):
            if number == after:
                raise Killed
            yield each

    with monkeypatch.context() as patch:
        patch.setattr(model, "predict_sources", stop)
        with pytest.raises(Killed) as raised:
            predict_files(model, [photos], form, out=out)
    assert "resume" in "".join(getattr(raised.value, "__notes__", ()))
    assert not out.exists()
    return out.with_name(f"{out.name}.partial")


def content(file: Path) -> object:
    return pq.read_table(file).to_pylist() if file.suffix == ".parquet" else file.read_bytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("after", [1, 17, 59])
def test_a_job_goes_on_where_it_was_cut_off(
    form: str, after: int, opened: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_PART", 5)
    whole, out = tmp_path / f"whole.{form}", tmp_path / f"out.{form}"
    done = predict_files(opened, [photos], form, out=whole)
    assert (done.num_images, done.num_unreadable) == (60, 2)
    partial = cut_off(opened, photos, form, out, after, monkeypatch)
    asked = 0

    def count(sources: Iterator[Path], **_: object) -> Iterator[object]:
        nonlocal asked
        for each in Model.predict_sources(opened, sources):
            asked += 1
            yield each

    monkeypatch.setattr(opened, "predict_sources", count)
    assert predict_files(opened, [photos], form, out=out, resume=True) == done
    assert asked == 60 - after
    assert content(out) == content(whole)
    assert not partial.exists()


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_torn_row_is_cut_off_wherever_it_is_torn(form: str, tmp_path: Path) -> None:
    """Every place where a kill may tear the file: the rows before it stay, byte for byte."""
    names = ('two\nli"nes,.png', "plain.png", 'a "b".png', "caf\udce9.png")
    whole = ResumableLines(tmp_path, CLASS_NAMES, MODEL, form)
    for name in names:
        whole.write(make_prediction(name, None, 0.1, 0.2, 0.7))
    file = whole.finish()
    stored = file.read_bytes()
    shown = [row.image.encode(errors="backslashreplace") for row in whole.read()]
    assert shown == [name.encode(errors="backslashreplace") for name in names]
    for place in range(len(stored) + 1):
        file.write_bytes(stored[:place])
        rows = ResumableLines(tmp_path, CLASS_NAMES, MODEL, form)
        kept = len(list(rows.read()))
        for name in names[kept:]:
            rows.write(make_prediction(name, None, 0.1, 0.2, 0.7))
        assert rows.finish().read_bytes() == stored, place


@pytest.mark.parametrize(
    ("form", "damaged"),
    [
        ("csv", f"image,error\n{'x' * 200_000}\n"),
        ("csv", "image\n"),
        ("jsonl", "[" * 100_000 + "\n"),
        ("jsonl", "{}\n"),
    ],
)
def test_damaged_rows_are_refused(form: str, damaged: str, tmp_path: Path) -> None:
    (tmp_path / f"rows.{form}").write_text(damaged)
    rows = ResumableLines(tmp_path, CLASS_NAMES, MODEL, form)
    with pytest.raises(UsageError, match="rows"):
        list(rows.read())
    rows.suspend()


@given(names=st.lists(st.text(st.characters(codec=None, exclude_characters="\0"), min_size=1), max_size=6))
def test_any_name_is_read_back(names: list[str], tmp_path: Path) -> None:
    for form in ("csv", "jsonl"):
        (tmp_path / f"rows.{form}").unlink(missing_ok=True)
        rows = ResumableLines(tmp_path, CLASS_NAMES, MODEL, form)
        for name in names:
            rows.write(make_prediction(name, None))
        rows.finish()
        read = [row.image.encode(errors="backslashreplace") for row in rows.read()]
        assert read == [name.encode(errors="backslashreplace") for name in names]


ONE_BY_ONE = """

import sys
from pathlib import Path
from belvedere.inference.writers import parquet, resumable
from belvedere.inference import batch
from belvedere.inference.model import Model, load_model
parquet.ROWS_PER_PART = 4
stream, write = Model.predict_sources, resumable.ResumableLines.write
def wait(self, sources, **options):
    for each in stream(self, sources, **options):
        print("next", flush=True)
        sys.stdin.readline()  # until it may go on
        yield each
def write_through(self, answer):
    write(self, answer)
    self._file.flush()
Model.predict_sources, resumable.ResumableLines.write = wait, write_through
model, photos, form, out = sys.argv[1:]
batch.predict_files(load_model(model), [Path(photos)], form, out=Path(out), resume=True)
"""


@pytest.mark.parametrize("form", FORMS)
def test_killed_processes_lose_and_double_nothing(form: str, tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    """Real processes, really killed, each behind some rows, which the next one finds."""
    out = tmp_path / f"out.{form}"
    command = [sys.executable, "-c", ONE_BY_ONE, str(tiny_model), str(photos), form, str(out)]
    kept = 0
    for rows in (3, 15, 25):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            if process.stdin is None or process.stdout is None:
                raise AssertionError
            process.stdin.write(b"\n" * rows)
            process.stdin.flush()
            assert [process.stdout.readline() for _ in range(rows + 1)] == [b"next\n"] * (rows + 1)
            process.send_signal(signal.SIGKILL)
        kept = (kept + rows) // 4 * 4 if form == "parquet" else kept + rows
        assert count_rows(tmp_path / f"out.{form}.partial", form) == kept
        assert not out.exists()
    last = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert last.stdout.count(b"next") == 60 - kept
    whole = tmp_path / f"whole.{form}"
    predict_files(load_model(tiny_model), [photos], form, out=whole)
    assert content(out) == content(whole)


def count_rows(partial: Path, form: str) -> int:
    """How many rows a job that was cut off has left."""
    if form == "parquet":
        return sum(pq.read_table(part).num_rows for part in partial.glob("part-*"))
    with (partial / f"rows.{form}").open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in (csv.DictReader(file) if form == "csv" else file))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ends", ["in a row", "at the end"])
def test_a_full_disk_leaves_what_can_be_gone_on_with(
    form: str, ends: str, opened: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from the 40th row on: also where the rows so far are put down."""
    monkeypatch.setattr(parquet, "ROWS_PER_PART", 16)
    out, whole = tmp_path / f"out.{form}", tmp_path / f"whole.{form}"
    kind = parquet.ResumableParquet if form == "parquet" else ResumableLines
    write, leave = kind.write, kind.suspend
    written = 0

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_some(self: Any, answer: Prediction) -> None:
        nonlocal written
        written += 1
        if written == 40 and ends == "in a row":
            full()
        write(self, answer)
        if form != "parquet":
            self._file.flush()

    def leave_and_fail(self: Any) -> None:
        if form != "parquet":
            leave(self)
        full()

    with monkeypatch.context() as patch:
        patch.setattr(kind, "write", write_some)
        patch.setattr(kind, "suspend", leave_and_fail)
        patch.setattr(kind, "finish", full)
        with pytest.raises(UsageError, match=os.strerror(errno.ENOSPC)) as raised:
            predict_files(opened, [photos], form, out=out)
    assert f"{out.name}.partial" in str(raised.value)
    assert not out.exists()
    predict_files(opened, [photos], form, out=out, resume=True)
    predict_files(opened, [photos], form, out=whole)
    assert content(out) == content(whole)


@pytest.mark.parametrize("form", FORMS)
def test_a_replaced_file_keeps_its_permissions(form: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{form}"
    out.touch(0o600)
    with open_resumable(out, form, CLASS_NAMES, MODEL, "m", resume=False) as (rows, _):
        rows.write(make_prediction("a.png", None))
    assert out.stat().st_size
    assert out.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_file_is_on_the_disk_before_its_parts_are_deleted(
    form: str, opened: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    sync = os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", note)
    out = tmp_path / f"out.{form}"
    predict_files(opened, [photos], form, out=out)
    assert synced.get(out.stat().st_ino) == out.stat().st_size


class RecordingProgress(Progress):
    """Records the calls of a task."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    @contextmanager
    def task(self, description: str, images: int, unit: str = "images") -> Iterator[Task]:
        calls = self.calls

        class RecordingTask(Task):
            def advance(self, images: int, figures: str = "") -> None:
                calls.append(("done", images))

            def resume_at(self, images: int) -> None:
                calls.append(("skipped", images))

        yield RecordingTask()


def test_earlier_predictions_are_reported_as_skipped(
    opened: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(opened, photos, "csv", tmp_path / "out.csv", 21, monkeypatch)
    progress = RecordingProgress()
    predict_files(opened, [photos], "csv", out=tmp_path / "out.csv", resume=True, progress=progress)
    assert progress.calls == [("skipped", 21), ("done", 16), ("done", 16), ("done", 7)]


def test_without_resume_it_starts_anew(
    opened: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    partial = cut_off(opened, photos, "csv", out, 20, monkeypatch)
    assert predict_files(opened, [photos / "red"], "csv", out=out).num_images == 20
    with out.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 20
    assert not partial.exists()


def test_what_is_not_the_same_job_is_not_gone_on_with(
    opened: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.csv"
    partial = cut_off(opened, photos, "csv", out, 20, monkeypatch)
    before = (partial / "rows.csv").read_bytes()
    other = tmp_path / "other.onnx"
    other.write_bytes(model_bytes(card_to_metadata(replace(CARD, provenance=replace(CARD.provenance, seed=8)))))
    with pytest.raises(UsageError, match="`model`"):
        predict_files(load_model(other), [photos], "csv", out=out, resume=True)
    with pytest.raises(UsageError, match="`format`"):
        predict_files(opened, [photos], "jsonl", out=out, resume=True)
    with pytest.raises(UsageError, match=r"blue.0\.png .* 1\. .*green.0\.png"):
        predict_files(opened, [photos / "green"], "csv", out=out, resume=True)
    (photos / "blue" / "0.png").unlink()
    with pytest.raises(UsageError, match=r"blue.0\.png .* 1\. .*blue.1\.png"):
        predict_files(opened, [photos], "csv", out=out, resume=True)
    assert (partial / "rows.csv").read_bytes() == before


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "out.csv"
    with open_resumable(out, "csv", CLASS_NAMES, MODEL, "m", resume=False) as (rows, _):
        rows.write(make_prediction("a.png", None))
        holder = (tmp_path / "out.csv.partial/.belvedere").open()
        with pytest.raises(BlockingIOError):
            fcntl.flock(holder.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.close()
        with (
            pytest.raises(OutputExistsError),
            open_resumable(out, "csv", CLASS_NAMES, MODEL, "m", resume=True),
        ):
            pass
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_the_marker_of_the_folder_is_deleted_last(
    is_interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill before that, the folder is still known as ours."""
    deleted, original = list[str](), os.unlink

    def unlink(path: Path | str, **options: Any) -> None:
        deleted.append(Path(path).name)
        original(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    with (
        suppress(Killed),
        open_resumable(tmp_path / "out.csv", "csv", CLASS_NAMES, MODEL, "m", resume=False) as (rows, _),
    ):
        if is_interrupted:
            raise Killed
        rows.write(make_prediction("a.png", None))
    assert deleted[-1] == MARKER_FILE
    assert not (tmp_path / "out.csv.partial").exists()


def test_a_folder_of_someone_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.csv.partial").mkdir()
    (tmp_path / "out.csv.partial/mine.txt").write_text("mine")
    with (
        pytest.raises(OutputExistsError) as raised,
        open_resumable(tmp_path / "out.csv", "csv", CLASS_NAMES, MODEL, "m", resume=True),
    ):
        pass
    assert (raised.value.path, raised.value.can_overwrite) == (tmp_path / "out.csv.partial", False)
    assert (tmp_path / "out.csv.partial/mine.txt").read_text() == "mine"


def test_resume_goes_with_files_that_can_be_gone_on_with(opened: Model, photos: Path, tmp_path: Path) -> None:
    for form, out in (("csv", None), ("json", tmp_path / "x.json"), ("table", None)):
        with pytest.raises(UsageError):
            predict_files(opened, [photos], form, out=out, resume=True)
    with pytest.raises(UsageError):
        predict_files(opened, [photos], "csv", out=tmp_path / "o.csv", sinks=sheets(tmp_path / "s.png"), resume=True)


def test_parquet_holds_what_the_others_hold(opened: Model, photos: Path, tmp_path: Path) -> None:
    for form in ("parquet", "jsonl"):
        predict_files(opened, [photos], form, out=tmp_path / f"out.{form}")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == len(lines) == 60
    for row, line in zip(rows, lines, strict=True):
        assert row["image"] == line["image"].encode(errors="backslashreplace").decode()
        for same in ("answer", "predicted_label", "error", "none_of_these", "warnings", "tags", "prediction_set"):
            assert row[same] == line[same]
        if line["error"] is None:
            assert [row[f"prob_{name}"] for name in CLASS_NAMES] == pytest.approx(list(line["probabilities"].values()))
