"""Accuracy of bfloat16 training: the article's recipe in both precisions, on the same images.

python benchmarks/precision.py DATA [--epochs 6] [--seeds 1]

Prints validation metrics after each epoch. The validation images are held out from the training split; test images
are not used.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from unittest import mock

import torch

from belvedere.data.dataset import Dataset, load_dataset
from belvedere.runtime.progress import LineProgress
from belvedere.training import train as training
from belvedere.training.device import Device


def train(dataset: Dataset, precision: torch.dtype, epochs: int, seed: int) -> list[float]:
    """Train once; return the validation accuracy after each epoch."""
    device = Device(torch.device("cpu"), precision)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(training, "choose_device", lambda _: device):
        out = Path(folder) / "run"
        training.train(dataset, out=out, recipe="article", epochs=epochs, seed=seed, progress=LineProgress())
        rows = (out / "history.csv").read_text(encoding="utf-8").splitlines()[1:]
    return [float(row.rsplit(",", 1)[1]) for row in rows]


def main() -> None:
    """Train in both precisions, seed by seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    dataset = load_dataset(options.data)
    print("| seed | precision | validation accuracy after each epoch | mean of the last three |\n|---|---|---|---|")
    for seed in range(options.seeds):
        for precision in (torch.bfloat16, torch.float32):
            accuracies = train(dataset, precision, options.epochs, seed)
            shown = " ".join(f"{accuracy:.3f}" for accuracy in accuracies)
            print(f"| {seed} | {precision} | {shown} | {statistics.mean(accuracies[-3:]):.4f} |", flush=True)


if __name__ == "__main__":
    main()
