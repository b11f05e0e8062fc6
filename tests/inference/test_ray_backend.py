"""Ray: the same rows as the local engine, also where a worker is lost on the way."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from belvedere.errors import OutputExistsError, UsageError
from belvedere.images.limits import MAX_MEGAPIXELS_VARIABLE, MAX_PIXELS
from belvedere.inference.batch import PredictionSummary, predict_files
from belvedere.inference.model import load_model
from conftest import MODEL, write_classes

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'belvedere[ray]'")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own

WORKERS = 2


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    """A local cluster that takes two workers, with a processor for reading and writing."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's 15 would let workers starve beside other tests
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # of the workers, which inherit it
    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = write_classes(tmp_path / "photos", 200)
    (folder / "red/broken.png").write_text("no image")
    (folder / "blue/caf\udce9.png").write_bytes((folder / "green/0.png").read_bytes())
    return folder


def rows_of(place: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(place).to_pylist()
    return sorted(rows, key=lambda row: str(row["image"]))


@pytest.mark.usefixtures("_cluster")
def test_the_rows_are_those_of_the_local_engine(tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    from belvedere.inference.ray_backend import predict_at_scale

    expected = predict_files(load_model(tiny_model), [photos], "parquet", out=tmp_path / "local.parquet")
    out = tmp_path / "ray.parquet"
    assert predict_at_scale(tiny_model, [photos], out) == expected == PredictionSummary(602, 1)
    assert rows_of(out) == rows_of(tmp_path / "local.parquet")
    named = {str(pq.read_schema(file).metadata) for file in (*out.glob("*.parquet"), tmp_path / "local.parquet")}
    assert len(named) == 1
    assert load_model(tiny_model).sha256 in named.pop()
    assert {path.suffix for path in out.iterdir() if path.name != ".belvedere"} == {".parquet"}
    with pytest.raises(OutputExistsError):
        predict_at_scale(tiny_model, [photos], out)
    assert predict_at_scale(tiny_model, [photos / "red"], out, overwrite=True) == PredictionSummary(201, 1)


def test_a_worker_keeps_to_its_core(tiny_model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows are answered for in the thread that is asked, without a pool of more."""
    from belvedere.inference.ray_backend import Predictor
    from belvedere.runtime import thread_pool

    monkeypatch.setattr(thread_pool, "ThreadPoolExecutor", None)
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "")  # set by workers
    names = sorted(str(file) for file in photos.glob("*/*"))[:100]
    answers = Predictor(tiny_model.read_bytes(), MODEL, MAX_PIXELS)(
        pa.table({"name": [os.fsencode(name) for name in names]})
    )
    assert answers["image"].to_pylist() == names


@pytest.mark.usefixtures("_cluster")
def test_workers_have_the_limit_of_pixels(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from belvedere.inference.ray_backend import predict_at_scale

    photos = write_classes(tmp_path / "photos", 1)
    with monkeypatch.context() as patch:
        patch.setattr("belvedere.inference.ray_backend.default_max_pixels", lambda: 1)
        assert predict_at_scale(tiny_model, [photos], tmp_path / "out.parquet") == PredictionSummary(3, 3)


@pytest.mark.usefixtures("_cluster")
def test_nothing_to_answer_for_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    from belvedere.inference.ray_backend import predict_at_scale

    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / "empty"))):
        predict_at_scale(tiny_model, [tmp_path / "empty"], tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.usefixtures("_cluster")
def test_the_loss_of_a_worker_loses_no_row(
    tiny_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed while it is at work: its process is gone, its rows come from another."""
    from belvedere.inference import ray_backend

    pids, killed = tmp_path / "pids", threading.Event()
    pids.mkdir()

    class Slow(ray_backend.Predictor):
        """Says which process it is in, and takes its time."""

        def __call__(self, names: object) -> object:
            (pids / str(os.getpid())).touch()
            time.sleep(0.5)
            return super().__call__(names)

    def kill() -> None:
        while not (found := [int(path.name) for path in pids.iterdir()]):
            time.sleep(0.01)
        time.sleep(0.2)  # it is in the middle of its batch
        os.kill(found[0], signal.SIGKILL)
        killed.set()

    monkeypatch.setattr(ray_backend, "Predictor", Slow)
    monkeypatch.setattr(ray_backend, "ROWS_PER_TASK", 64)
    monkeypatch.setattr(ray_backend, "PATHS_PER_TABLE", 200)
    predict_files(load_model(tiny_model), [photos], "parquet", out=tmp_path / "local.parquet")
    killer = threading.Thread(target=kill)
    killer.start()
    assert ray_backend.predict_at_scale(tiny_model, [photos], tmp_path / "ray.parquet") == PredictionSummary(602, 1)
    killer.join()
    assert killed.is_set()
    assert len(list(pids.iterdir())) >= 2  # another process went on
    assert rows_of(tmp_path / "ray.parquet") == rows_of(tmp_path / "local.parquet")


def test_ray_reports_no_usage() -> None:
    program = "import belvedere.inference.ray_backend\nfrom ray._common.usage import usage_lib\n"
    program += "print(usage_lib.usage_stats_enabled())"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_USAGE_STATS_ENABLED"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
