"""Embedding speed of the curated networks, with random weights.

python benchmarks/backbones.py [NAME ...]

Prints one row per network: parameters, image size, images per second (best of three batches of 32 after a warm-up),
in the precision that training would use.
"""

import argparse
import platform
import time

import numpy as np
import timm
import torch

from belvedere.training.device import choose_device
from belvedere.training.embedders import NetworkEmbedder
from belvedere.training.networks import BACKBONES, find_backbone

BATCH = 32


def measure(name: str) -> tuple[float, int, int]:
    """Return parameters in millions, image size in pixels, and images per second."""
    entry, device = find_backbone(name), choose_device("auto")
    network = entry.create(2).eval().to(device=device.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    embedder = NetworkEmbedder(network, device, entry.preprocess, "")
    size = entry.preprocess.height
    images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3)).astype(np.uint8)
    embedder.embed(images)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        embedder.embed(images)
        times.append(time.perf_counter() - start)
    parameters = sum(weights.numel() for weights in network.features.parameters())
    return parameters / 1e6, size, round(BATCH / min(times))


def main() -> None:
    """Measure the named networks, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    names = parser.parse_args().names or [backbone.name for backbone in BACKBONES]
    versions = f"torch {torch.__version__}, timm {timm.__version__}, Python {platform.python_version()}"
    print(f"{choose_device('auto').description}, {versions}")
    for name in names:
        parameters, size, speed = measure(name)
        print(f"{name:55} {parameters:6.1f} M  {size} px  {speed:5d} images/s", flush=True)


if __name__ == "__main__":
    main()
