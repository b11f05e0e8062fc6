"""Measures the demo: processor time of its stages, and its last prediction over seeds and numbers of threads.

python benchmarks/demo.py FOLDER                      the stages of one demo, then ten seeds with 1 and 2 threads
python benchmarks/demo.py FOLDER --seeds 3 --avx2     as on a processor without AVX-512 and bfloat16
python benchmarks/demo.py FOLDER --seeds 0            the stages only

The seeds leave out the audit, which the model does not depend on. ONNX Runtime, which runs the audit's embeddings, the
evaluation and the predictions, cannot leave out AVX-512; `--avx2` is for the training.
"""

import argparse
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAGES = ("make_synthetic_dataset", "audit", "train_on", "predict_files")  # functions of belvedere.demo.demo


def cpu_seconds() -> float:
    """Return the processor time of this process, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print a row with the time of the block."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    yield
    print(f"| {name} | {cpu_seconds() - cpu:.1f} | {time.perf_counter() - wall:.1f} |", flush=True)


def without_avx512() -> None:
    """Let torch compute as on a processor that has AVX2 only."""
    os.environ |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    import torch

    torch.cpu.get_capabilities = dict  # type: ignore[assignment]


def measure_stages(folder: Path) -> None:
    """Print the time of each stage of one demo."""
    print("| stage | processor, s | elapsed, s |\n|---|--:|--:|")
    with timed("imports"):
        from belvedere.demo import demo
    for name in STAGES:
        function = getattr(demo, name)

        def stage(*args: object, name: str = name, function: object = function, **options: object) -> object:
            with timed(name):
                return function(*args, **options)  # type: ignore[operator]

        setattr(demo, name, stage)
    demo.run_demo(folder / "demo", overwrite=True, progress=False)
    print(f"| all | {cpu_seconds():.1f} | {time.clock_gettime(time.CLOCK_MONOTONIC) - STARTED:.1f} |\n")


def measure_seeds(folder: Path, seeds: int, threads: list[int]) -> None:
    """Print the prediction of the fjord for each seed and number of threads."""
    import torch

    from belvedere.demo.dataset import FJORD, make_synthetic_dataset
    from belvedere.demo.demo import EPOCHS, TEST_PER_CLASS, TRAIN_PER_CLASS, train_on

    print("| seed | threads | accuracy | answer | confidence | unusual | also contains | processor, s |")
    print("|--:|--:|--:|---|--:|--:|---|--:|")
    for seed in range(seeds):
        data = folder / "images"
        sizes = {"train_per_class": TRAIN_PER_CLASS, "test_per_class": TEST_PER_CLASS}
        make_synthetic_dataset(data, **sizes, seed=seed, overwrite=True, progress=False)
        for number in threads:
            torch.set_num_threads(number)
            shutil.rmtree(folder / "run", ignore_errors=True)
            cpu = cpu_seconds()
            run = train_on(data, folder / "run", epochs=EPOCHS, seed=seed, progress=False)
            [fjord] = run.model.predict(data / FJORD)
            also = ", ".join(f"{tag.name} {tag.area_fraction:.0%}" for tag in fjord.tags[1:])
            print(
                f"| {seed} | {number} | {run.evaluation.accuracy:.1%} | {fjord.answer} | {fjord.confidence:.1%} "
                f"| {fjord.none_of_these_score:.0%} | {also} | {cpu_seconds() - cpu:.0f} |",
                flush=True,
            )


STARTED = time.clock_gettime(time.CLOCK_MONOTONIC)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the files of the demo")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--no-stages", action="store_true")
    parser.add_argument("--avx2", action="store_true", help="without AVX-512 and bfloat16")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.avx2:
        without_avx512()
    if not options.no_stages:
        measure_stages(options.folder)
    if options.seeds:
        measure_seeds(options.folder, options.seeds, options.threads)
