"""Ray on several machines, as processes of this one: a machine is lost, and no prediction with it."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belvedere.inference.batch import PredictionSummary, predict_files
from belvedere.inference.model import load_model
from conftest import write_classes

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'belvedere[ray]'")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own

NODES = 2


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes that compute, beside that of the driver, which only holds the lists of images."""
    from ray.cluster_utils import Cluster

    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))  # of the workers, which inherit it
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(NODES):
        started.add_node(num_cpus=2)
    ray.init(address=started.address, log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()


def rows_of(place: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(place).to_pylist()
    return sorted(rows, key=lambda row: str(row["image"]))


def test_the_loss_of_a_machine_loses_no_prediction_and_repeats_none(
    cluster: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from belvedere.inference import ray_backend

    photos, at_work, ended = write_classes(tmp_path / "photos", 200), tmp_path / "nodes", list[str]()
    at_work.mkdir()

    class Slow(ray_backend.Predictor):
        """Says which node it is on, and takes its time."""

        def __call__(self, names: object) -> object:
            (at_work / ray.get_runtime_context().get_node_id()).touch()
            time.sleep(0.5)
            return super().__call__(names)

    def kill() -> None:
        while not (found := [path.name for path in at_work.iterdir()]):
            time.sleep(0.01)
        time.sleep(0.2)  # it is in the middle of its batch
        node = next(each for each in cluster.worker_nodes if each.node_id == found[0])
        cluster.remove_node(node, allow_graceful=False)
        ended.append(found[0])

    monkeypatch.setattr(ray_backend, "Predictor", Slow)
    monkeypatch.setattr(ray_backend, "ROWS_PER_TASK", 64)
    monkeypatch.setattr(ray_backend, "PATHS_PER_TABLE", 200)
    predict_files(load_model(tiny_model), [photos], "parquet", out=tmp_path / "local.parquet")
    killer = threading.Thread(target=kill)
    killer.start()
    assert ray_backend.predict_at_scale(tiny_model, [photos], tmp_path / "ray.parquet") == PredictionSummary(600, 0)
    killer.join()
    assert ended
    assert {path.name for path in at_work.iterdir()} > set(ended)  # another node went on
    assert sum(each["Alive"] for each in ray.nodes()) == NODES  # the driver's, and the other one
    assert rows_of(tmp_path / "ray.parquet") == rows_of(tmp_path / "local.parquet")
