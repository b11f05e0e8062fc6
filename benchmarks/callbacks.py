"""Measures what callbacks and logging add to a training: pairs of runs, without and with them, in turn.

python benchmarks/callbacks.py DATA [--pairs 8] [--epochs 3]

CPU time of the process is compared, since it depends less on other programs than the time on the clock. The time inside
the calls is measured too, in the runs that have them: three callbacks, and a log file of all records.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import belvedere
from belvedere.runtime.progress import LOGGER
from belvedere.training.callbacks import CallbackRunner


class Curve(belvedere.Callback):
    """Keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_epoch_end(self, metrics: belvedere.EpochMetrics) -> None:
        """Keep a loss."""
        self.losses.append(metrics.validation_loss)


class Stopwatch:
    """Adds up the time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return the function with its time added up."""

        def call(*arguments: object, **options: object) -> None:
            start = time.perf_counter()
            function(*arguments, **options)
            self.seconds += time.perf_counter() - start

        return call


def train(data: Path, epochs: int, folder: Path, watched: bool) -> tuple[float, float]:
    """Return the CPU time and the time on the clock of a training, seconds."""
    callbacks = [Curve(), belvedere.EarlyStopping(epochs), belvedere.Callback()] if watched else []
    handler = logging.FileHandler(folder / "messages.log") if watched else logging.NullHandler()
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO if watched else logging.WARNING)
    cpu, clock = time.process_time(), time.perf_counter()
    belvedere.train(
        data, out=folder / "run", recipe="quick", epochs=epochs, overwrite=True, callbacks=callbacks, progress=False
    )
    seconds = time.process_time() - cpu, time.perf_counter() - clock
    LOGGER.removeHandler(handler)
    handler.close()
    return seconds


def main() -> None:
    """Print the ratio of each pair, their median and range, and the time inside the calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    stopwatch, total, ratios = Stopwatch(), 0.0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(options.data, options.epochs, folder, watched=True)  # warm-up: imports, cached images
        CallbackRunner._call = stopwatch.timed(CallbackRunner._call)  # type: ignore[method-assign]
        LOGGER._log = stopwatch.timed(LOGGER._log)  # type: ignore[method-assign]
        for pair in range(options.pairs):
            found = {}
            for watched in (False, True) if pair % 2 else (True, False):
                found[watched], clock = train(options.data, options.epochs, folder, watched)
                total += clock if watched else 0.0
            ratios.append(found[True] / found[False])
            print(f"pair {pair + 1}: {found[False]:.2f} s without, {found[True]:.2f} s with, ratio {ratios[-1]:.4f}")
    print(f"ratio of CPU time: median {statistics.median(ratios):.4f}, from {min(ratios):.4f} to {max(ratios):.4f}")
    print(f"inside callbacks and logging: {stopwatch.seconds / total:.5%} of {total:.1f} s")


if __name__ == "__main__":
    main()
