"""Records of served predictions: contents, privacy, size, and what a killed server leaves."""

import io
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from belvedere.errors import UsageError
from belvedere.evaluation.monitoring.records import read_records
from belvedere.inference.model import load_model
from belvedere.serving import recorder as recording
from belvedere.serving.batcher import PredictionResult
from belvedere.serving.metrics import Metrics
from belvedere.serving.model_watch import LoadedModel
from belvedere.serving.recorder import Recorder
from conftest import make_prediction
from serve_process import png, serve, wait_until

RESULT = PredictionResult(make_prediction("a.png", None, 0.7, 0.2, 0.1), embedding=np.zeros(300, np.float32))


def write(recorder: Recorder, loaded: LoadedModel) -> bool:
    """Write a record in this thread, and return whether it is written."""
    recorder.record(loaded, [RESULT])
    waiting = recorder._queue.get_nowait()
    assert waiting is not None
    return recorder._write(waiting)


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    model = load_model(tiny_model)
    return LoadedModel(model, "run/model.onnx", model.sha256, "", RESULT.prediction)


def count(metrics: Metrics, outcome: str) -> float:
    return (
        metrics.registry.get_sample_value("belvedere_monitor_records_total", {"model": "default", "outcome": outcome})
        or 0.0
    )


def test_served_predictions_are_recorded(model_file: Path, tmp_path: Path) -> None:
    """Also if the server is killed; two models write into one folder, and an unreadable image is left out."""
    folder = tmp_path / "served"
    arguments = (model_file, "--model", f"second={model_file}", "--monitor", folder)
    with serve(*arguments) as server:
        said = server.post_raw(png("red")).json["predictions"][0]
        assert server.post_form([("name.png", png("blue")), ("bad.png", b"no image")]).status == 200
        assert server.post_form([("x.png", png("green"))], "/models/second/predict").status == 200
        wait_until(lambda: server.metric("belvedere_monitor_records_total") == 3)
        server.process.kill()
    with serve(*arguments) as server:
        assert server.post_raw(png("red")).status == 200
        assert server.end() == 0
    records = [each for each in read_records(folder) if each is not None]
    assert len(records) == 4
    assert records[0].probabilities == pytest.approx(list(said["probabilities"].values()), abs=1e-6)
    files = sorted(folder.iterdir())
    assert len(files) == 2
    content = b"".join(path.read_bytes() for path in files)
    assert b"name.png" not in content
    keys = {"time", "model", "predicted_label", "probabilities", "none_of_these", "none_of_these_score"}
    assert set(json.loads(content.splitlines()[0])) == keys | {"prediction_set_size", "embedding"}


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes")
def test_only_the_owner_reads_records(tmp_path: Path, loaded: LoadedModel) -> None:
    recorder = Recorder(tmp_path / "served", Metrics(), 10**6)
    assert write(recorder, loaded)
    recorder._close()
    assert [path.stat().st_mode & 0o77 for path in (tmp_path / "served", *(tmp_path / "served").iterdir())] == [0, 0]


def test_size_is_limited(tmp_path: Path, loaded: LoadedModel) -> None:
    """The oldest files are deleted, so that the last records stay."""
    metrics, limit = Metrics(), recording.MIN_BYTES
    recorder = Recorder(tmp_path, metrics, limit)
    recorder.start()
    for _ in range(300):
        recorder.record(loaded, [RESULT])
    recorder.stop()
    assert count(metrics, "written") == 300
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert limit / 2 < sum(sizes) <= limit
    assert all(each is not None for each in read_records(tmp_path))


def test_a_full_queue_drops_records(tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_WAITING", 2)
    metrics = Metrics()
    recorder = Recorder(tmp_path, metrics, 10**6)  # whose thread does not run yet
    unreadable = PredictionResult(RESULT.prediction)
    recorder.record(loaded, [RESULT, unreadable])
    recorder.record(loaded, [RESULT, unreadable, RESULT, RESULT])
    assert count(metrics, "dropped") == 2
    recorder.start()
    recorder.stop()
    assert count(metrics, "written") == 2


def test_a_failing_disk_stops_nothing(tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    recorder = Recorder(tmp_path, metrics, 10**6)
    failed = threading.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "_append", fail)
        recorder.start()
        recorder.record(loaded, [RESULT])
        assert failed.wait(10)
        while not count(metrics, "failed"):
            pass
    monkeypatch.setattr(recorder, "_retry", 0.0)
    recorder.record(loaded, [RESULT])
    recorder.stop()
    assert (count(metrics, "failed"), count(metrics, "written")) == (1, 1)


def test_a_record_that_is_cut_off_is_alone(
    tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes of a disk take a part of a record; the next one begins a new file."""
    metrics = Metrics()
    recorder = Recorder(tmp_path, metrics, 10**6)
    monkeypatch.setattr(recording, "RETRY_SECONDS", 0.0)

    def open_nearly_full(path: Path, *_: object, **__: object) -> "NearlyFull":
        return NearlyFull(io.FileIO(path, "ab"))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_nearly_full)
        assert write(recorder, loaded) is False
    assert write(recorder, loaded) is True
    recorder._close()
    assert [each is not None for each in read_records(tmp_path)] == [False, True]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_without_records_does_not_stay(
    tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at a start without predictions, nor after a failure."""
    recorder = Recorder(tmp_path, Metrics(), 10**6)
    monkeypatch.setattr(recording, "RETRY_SECONDS", 0.0)
    assert list(tmp_path.iterdir()) == []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "_delete_oldest", fail)  # once the file is open
        assert [write(recorder, loaded) for _ in range(3)] == [False] * 3
    assert list(tmp_path.iterdir()) == []
    assert write(recorder, loaded) is True
    recorder._close()
    assert len(list(tmp_path.iterdir())) == 1


class NearlyFull:
    """A file that takes half of what is written."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.fileno, self.close = file.fileno, file.close

    def write(self, content: bytes) -> int:
        return self._file.write(content[: len(content) // 2])


@pytest.mark.skipif(sys.platform == "win32", reason="does not delete open files")
def test_a_deleted_file_is_replaced(tmp_path: Path, loaded: LoadedModel) -> None:
    """Another server has deleted it as the oldest."""
    recorder = Recorder(tmp_path, Metrics(), 10**6)
    assert write(recorder, loaded)
    for path in tmp_path.iterdir():
        path.unlink()
    assert write(recorder, loaded)
    recorder._close()
    assert len(list(read_records(tmp_path))) == 1


def test_an_unexpected_error_loses_one_record(
    tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, calls = Metrics(), iter([True, False])

    def fail_once(*_: object) -> bytes:
        if next(calls):
            raise ValueError("not expected")
        return b"{}\n"

    monkeypatch.setattr(recording, "to_line", fail_once)
    recorder = Recorder(tmp_path, metrics, 10**6)
    recorder.record(loaded, [RESULT, RESULT])
    recorder.start()
    recorder.stop()
    assert (count(metrics, "failed"), count(metrics, "written")) == (1, 1)


def test_bad_arguments(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file"):
        Recorder(tmp_path / "file", Metrics(), 10**6)
    with pytest.raises(UsageError, match="max_monitor_bytes"):
        Recorder(tmp_path, Metrics(), 0)
