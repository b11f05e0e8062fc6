"""`predict --backend ray` on three nodes of one machine, of which one is killed: are all rows there?

python benchmarks/ray_nodes.py IMAGES [--model FILE] [--seconds 25]

Needs the extras ray and parquet. The driver has a node of one core, two workers have two each; one of them is killed
after some seconds, without notice. The rows are compared with those of the local engine.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

import belvedere
from belvedere.inference.batch import predict_files
from belvedere.inference.ray_backend import predict_at_scale

BUNDLED = Path(belvedere.__file__).parent / "inference/assets/scenes.onnx"


def read_rows(place: Path) -> list[dict[str, object]]:
    """Return the rows in the order of the images."""
    rows: list[dict[str, object]] = pq.read_table(place).to_pylist()
    return sorted(rows, key=lambda row: str(row["image"]))


def predict_and_kill(model: Path, images: Path, out: Path, seconds: float) -> None:
    """Predict on three nodes, and kill one meanwhile."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    killer = threading.Timer(seconds, cluster.remove_node, [nodes[1]], {"allow_graceful": False})
    start = time.perf_counter()
    killer.start()
    try:
        summary = predict_at_scale(model, [images], out, progress=False)
    finally:
        killer.cancel()
    alive = sum(node["Alive"] for node in ray.nodes())
    print(f"{summary}, {time.perf_counter() - start:.0f} s, {alive} of 3 nodes left")
    ray.shutdown()
    cluster.shutdown()


def main() -> None:
    """Run both engines and compare their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--seconds", type=float, default=25, help="until a node is killed")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as temporary:
        spread, local = Path(temporary) / "ray", Path(temporary) / "local.parquet"
        predict_and_kill(options.model, options.images.resolve(), spread, options.seconds)
        model = belvedere.load_model(options.model)
        predict_files(model, [options.images.resolve()], "parquet", out=local)
        print(f"equal to the local engine: {read_rows(spread) == read_rows(local)}")


if __name__ == "__main__":
    main()
