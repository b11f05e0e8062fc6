"""Time, memory and disk of the steps of Belvedere by the number of images, extrapolated to a million.

python benchmarks/scale.py DATA --folder FOLDER [--counts 5000,10000,20000] [--steps folder,table,predict,audit,probe]
    [--variations 4000] [--out FILE.md]

FOLDER gets variations of the images of DATA (random crops of 30 to 80% of the sides, mirrored at times, with other
brightness and contrast; all files differ), and for each count a folder of class folders with links to them. With fewer
variations than images, several links lead to one file: enough for load_dataset and predict, which compare no files.
Each step runs in a process of its own with an empty cache. A straight line is fitted to the counts by least squares.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from belvedere.data.dataset import load_dataset
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import LineProgress
from belvedere.types.data import Sample

PER_FOLDER = 10_000
MILLION = 1_000_000
SIZE = 96  # pixels of a variation
NETWORK = "test_resnet.r160_in1k"  # the smallest networks of timm
TRAINED_ON = 600  # images, for the model of `predict`
SMALL = ("image_size=48", "cached_image_size=48", "image_size_schedule=[[0, 32]]", "epochs=1", "min_steps=0")
STEPS = {
    "folder": "load_dataset, a folder",
    "table": "load_dataset, a CSV table",
    "predict": "belvedere predict",
    "audit": "belvedere audit --skip-label-issues",
    "probe": "belvedere train --recipe probe",
}
# The peak of a process includes that of the process that it was forked from, so a small one measures it.
LAUNCHER = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(status != 0)
"""


@dataclass(frozen=True)
class Measured:
    """One step with one number of images."""

    count: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    disk_bytes: int  # of cache and results afterwards


@dataclass(frozen=True)
class Line:
    """A straight line and its standard errors."""

    slope: float  # per image
    slope_error: float
    at_million: float
    error_at_million: float


def make_variation(sample: Sample, number: int, file: Path) -> None:
    """Write a variation of an image."""
    random = np.random.default_rng((5, number))
    with Image.open(sample.path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    fraction = random.uniform(0.3, 0.8)
    wide, high = max(16, round(width * fraction)), max(16, round(height * fraction * random.uniform(0.8, 1.2)))
    left, top = int(random.integers(max(1, width - wide))), int(random.integers(max(1, height - high)))
    image = image.crop((left, top, min(left + wide, width), min(top + high, height)))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.6, 1.4))
    image = ImageEnhance.Contrast(image).enhance(random.uniform(0.7, 1.3)).resize((SIZE, SIZE))
    image.save(file, quality=85, comment=f"variation {number}".encode())


def make_all(data: Path, folder: Path, count: int) -> list[tuple[Path, str]]:
    """Write missing variations; return all with their labels."""
    samples = load_dataset(data).samples
    chosen = [samples[index] for index in np.random.default_rng(6).integers(0, len(samples), count)]
    files = [folder / "images" / f"{number // PER_FOLDER:03d}" / f"{number:07d}.jpg" for number in range(count)]
    for parent in dict.fromkeys(file.parent for file in files):
        parent.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not files[number].exists()]
    with LineProgress().task("Making", len(missing)) as task:
        for _ in parallel_map(lambda each: make_variation(chosen[each], each, files[each]), missing, chunk_size=16):
            task.advance(1)
    return [(file, sample.label) for file, sample in zip(files, chosen, strict=True)]


def link(images: Sequence[tuple[Path, str]], count: int, folder: Path) -> Path:
    """Link images into class folders, in turn, and list them in a table; return the folder."""
    if not (folder.parent / f"{folder.name}.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for label in {label for _, label in images}:
            (folder / label).mkdir(parents=True)
        links = [(images[each % len(images)], f"{each:07d}.jpg") for each in range(count)]
        for (file, label), name in links:
            (folder / label / name).hardlink_to(file)
        with (folder.parent / f"{folder.name}.csv").open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(["image", "label"])
            writer.writerows((folder / label / name, label) for (_, label), name in links)
    return folder


def train_model(folder: Path, images: Sequence[tuple[Path, str]]) -> Path:
    """Train a small model for `predict`."""
    run = folder / "model"
    if not run.exists():
        data = link(images, TRAINED_ON, folder / "training")
        changes = [text for change in SMALL for text in ("--set", change)]
        subprocess.run(
            [sys.executable, "-m", "belvedere", "train", data, "--recipe", "quick", *changes, "--out", run], check=True
        )
    return run


def write_weights(file: Path) -> Path:
    """Write random weights of the network of `probe`."""
    import safetensors.torch
    import timm
    import torch

    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model(NETWORK, pretrained=False).state_dict(), file)
    return file


def command_of(step: str, data: Path, out: Path, folder: Path) -> list[str]:
    """Return the command line of a step."""
    program = [sys.executable, "-m", "belvedere"]
    probe = ["--recipe", "probe", "--network", NETWORK, "--weights", str(folder / "weights.safetensors")]
    load = f"from belvedere.data.dataset import load_dataset; load_dataset({str(data)!r})"
    commands = {
        "folder": [sys.executable, "-c", load],
        "table": [sys.executable, "-c", load.replace(str(data), f"{data}.csv")],
        "predict": [*program, "predict", str(folder / "model"), str(data), "--out", f"{out}.csv"],
        "audit": [*program, "audit", str(data), "--skip-label-issues", "--out", str(out)],
        "probe": [*program, "train", str(data), *probe, "--set", "image_size=64", "--out", str(out)],
    }
    return commands[step]


def measure(step: str, count: int, data: Path, folder: Path) -> Measured:
    """Run a step in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        environment = os.environ | {"BELVEDERE_CACHE": f"{work}/cache"}
        command = command_of(step, data, Path(work) / "out", folder)
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{step} with {count:,} images failed: {done.stderr[-2000:]}")
        disk = sum(file.stat().st_size for file in Path(work).rglob("*") if file.is_file())
    seconds, cpu_seconds, peak = map(float, done.stdout.split())
    found = Measured(count, seconds, cpu_seconds, int(peak) * 1024, disk)
    print(
        f"{step:8} {count:9,}  {found.seconds:8.1f} s  {found.cpu_seconds:8.1f} CPU s  {found.peak_bytes / 1e6:7.0f} MB"
        f"  {found.disk_bytes / 1e6:7.0f} MB on disk",
        flush=True,
    )
    return found


def fit_line(counts: Sequence[int], values: Sequence[float]) -> Line:
    """Fit a line by least squares; its errors are NaN for two points."""
    x: NDArray[np.float64] = np.array(counts, float)
    design = np.stack([np.ones_like(x), x], 1)
    coefficients = np.linalg.lstsq(design, np.array(values), rcond=None)[0]
    left = np.array(values) - design @ coefficients
    freedom = len(x) - 2
    variance = float(left @ left) / freedom if freedom > 0 else float("nan")
    covariance = variance * np.linalg.inv(design.T @ design)
    million = np.array([1.0, MILLION])
    return Line(
        float(coefficients[1]),
        float(np.sqrt(covariance[1, 1])),
        float(million @ coefficients),
        float(np.sqrt(million @ covariance @ million)),
    )


def markdown(results: dict[str, list[Measured]]) -> Iterator[str]:
    """Yield the lines of the report."""
    for step, rows in results.items():
        yield from (
            f"### {STEPS[step]}",
            "",
            "| images | elapsed | CPU time | peak memory | disk |",
            "|---|---|---|---|---|",
        )
        for row in rows:
            yield (
                f"| {row.count:,} | {row.seconds:,.0f} s | {row.cpu_seconds:,.1f} s | {row.peak_bytes / 1e6:,.0f} MB "
                f"| {row.disk_bytes / 1e6:,.1f} MB |"
            )
        yield ""
    yield from ("### The lines", "", "| | CPU s per 1,000 images | bytes of memory per image | at 1,000,000 images |")
    yield "|---|---|---|---|"
    for step, rows in results.items():
        counts = [row.count for row in rows]
        cpu_time = fit_line(counts, [row.cpu_seconds for row in rows])
        memory = fit_line(counts, [float(row.peak_bytes) for row in rows])
        yield (
            f"| {STEPS[step]} | {cpu_time.slope * 1e3:.2f} ± {cpu_time.slope_error * 1e3:.2f} "
            f"| {memory.slope:,.0f} ± {memory.slope_error:,.0f} "
            f"| {cpu_time.at_million / 60:,.1f} ± {cpu_time.error_at_million / 60:,.1f} CPU min, "
            f"{memory.at_million / 1e9:.2f} ± {memory.error_at_million / 1e9:.2f} GB |"
        )


def main() -> None:
    """Make the images, and measure every step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--counts", default="5000,10000,20000")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--variations", type=int, help="different files; default: as many as images")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    counts, steps = [int(count) for count in options.counts.split(",")], options.steps.split(",")
    folder: Path = options.folder.resolve()
    images = make_all(options.data, folder, options.variations or max(*counts, TRAINED_ON))
    train_model(folder, images)
    write_weights(folder / "weights.safetensors")
    results: dict[str, list[Measured]] = {step: [] for step in steps}
    for count in counts:
        data = link(images, count, folder / f"{count}")
        for step in steps:
            results[step].append(measure(step, count, data, folder))
    report = "\n".join(markdown(results)) + "\n"
    if options.out:
        options.out.write_text(report, encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
