"""Embedding speed of the curated networks, with random weights, and a check of each.

python benchmarks/backbones.py [--rounds 8] [--batch 32] [NAME ...]
python benchmarks/backbones.py --check [NAME ...]

Prints one row per network: parameters, image size, images per second on one core in the precision that training would
use. A round times one batch of each network in turn, after a warm-up, in seconds that the thread ran, so that
other processes count little; the best round counts. `--check` loads a whole checkpoint of the architecture into each
network, exports it to ONNX and compares the outputs of the file with torch's.
"""

import argparse
import platform
import time
import warnings

import numpy as np
import timm
import torch

from belvedere.training.device import choose_device
from belvedere.training.embedders import NetworkEmbedder
from belvedere.training.networks import BACKBONES, PretrainedNetwork, find_backbone
from belvedere.training.onnx_export import export_graph


def make_embedder(name: str) -> tuple[NetworkEmbedder, float]:
    """Return a network with random weights, as training would run it, and its parameters in millions."""
    entry, device = find_backbone(name), choose_device("auto")
    network = entry.create(2).eval()
    device.move_network(network)
    parameters = sum(weights.numel() for weights in network.features.parameters())
    return NetworkEmbedder(network, device, entry.preprocess, ""), parameters / 1e6


def time_batch(embedder: NetworkEmbedder, batch: int) -> float:
    """Return the seconds that the thread computes a batch."""
    size = embedder.preprocess.height
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8)
    start = time.thread_time()
    embedder.embed(images)
    return time.thread_time() - start


def measure(names: list[str], rounds: int, batch: int) -> None:
    """Print the speed of each network."""
    made = {name: make_embedder(name) for name in names}
    torch.set_num_threads(1)
    best = dict.fromkeys(names, float("inf"))
    for number in range(rounds + 1):
        for name, (embedder, _) in made.items():
            seconds = time_batch(embedder, batch)
            best[name] = min(best[name], seconds) if number else best[name]  # the first is the warm-up
    for name, (embedder, parameters) in made.items():
        size = embedder.preprocess.height
        print(f"{name:55} {parameters:6.1f} M  {size} px  {batch / best[name]:5.0f} images/s", flush=True)


def check(name: str) -> None:
    """Load a checkpoint of random weights, export the network and print the difference of the file's outputs."""
    entry = find_backbone(name)
    network = entry.create(2).eval()
    assert isinstance(network, PretrainedNetwork)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = timm.create_model(name).state_dict()
    removed = network.load_backbone_weights(checkpoint, name)
    size = entry.preprocess.height
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    exported = export_graph(network, entry.preprocess, images)
    maps = network.feature_map(torch.zeros(1, 3, size, size)).shape
    print(
        f"{name:55} embedding {maps[1]}, map {maps[2]} x {maps[3]}, {exported.graph.ByteSize() / 1e6:.0f} MB, "
        f"relative error {exported.max_relative_error:.1e}, layers removed: {', '.join(removed) or 'none'}",
        flush=True,
    )


def main() -> None:
    """Measure or check the named networks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    names = arguments.names or [backbone.name for backbone in BACKBONES]
    versions = f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}"
    print(f"{choose_device('auto').description}, {versions}")
    if arguments.check:
        for name in names:
            check(name)
    else:
        measure(names, arguments.rounds, arguments.batch)


if __name__ == "__main__":
    main()
