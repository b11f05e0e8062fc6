"""Measure the recipes on a borrowed GPU, in one run of at most a quarter of an hour.

python benchmarks/gpu.py --pack DATA FILE.zip             at home: DATA with train/ and test/ as one file below 60 MiB
python benchmarks/gpu.py FILE.zip --out FOLDER [--device cuda] [--weights FILE] [--minutes 12]
python benchmarks/gpu.py FILE.zip --out FOLDER --device cpu --images 200 --smoke                the script itself
python benchmarks/gpu.py FILE.zip --out FOLDER --recipes best                             some of the recipes

FILE.zip may also be a folder. Each recipe is trained in a process of its own, which starts cold. It records the seconds
to each epoch and its validation accuracy, by which a level counts as reached, images per second in training, and those
from files to probabilities with the model. With `--weights` of vit_tiny_patch16_224.augreg_in21k_ft_in1k, `finetune` is
trained as well, before `best`, which takes longest. Where ONNX Runtime has CUDA, its probabilities must be those of the
CPU within 0.001. FOLDER gets gpu.json and gpu.md, anew after every step; steps for which no time is left are named
there.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from belvedere.data.dataset import load_dataset
from belvedere.types.data import Sample

MAX_BYTES = 60 * 2**20
SIZES, QUALITY = (150, 128, 112, 96, 80, 64), 75  # pixels and quality of the packed images, WebP
PACKED_SAMPLE = 200  # images, to choose the size
LEVELS = {"quick": 0.87, "standard": 0.91, "finetune": 0.95, "best": 0.93}  # validation accuracy; the longest last
SMALL = {"epochs": 1, "min_steps": 0, "image_size": 64, "cached_image_size": 64}
TOLERANCE = 1e-3


def encode(path: Path, size: int) -> bytes:
    """Return an image as WebP, its shorter side at most `size` pixels."""
    file = io.BytesIO()
    with Image.open(path) as image:
        scale = min(1.0, size / min(image.size))
        resized = image.convert("RGB").resize(
            (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
        )
    resized.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def pack(data: Path, out: Path) -> None:
    """Write a dataset with splits into one file, at the largest size that fits."""
    samples = load_dataset(data).samples
    sample = [samples[index] for index in np.random.default_rng(0).permutation(len(samples))[:PACKED_SAMPLE]]
    for size in SIZES:
        mean = sum(len(encode(each.path, size)) + 120 for each in sample) / len(sample)
        if mean * len(samples) < 0.97 * MAX_BYTES:
            break
    with zipfile.ZipFile(out, "w") as archive:
        for number, each in enumerate(samples):
            name = f"{each.split or 'train'}/{each.label}/{number:06d}.webp"
            archive.writestr(zipfile.ZipInfo(name), encode(each.path, size))
    print(f"{len(samples):,} images at {size} pixels: {out.stat().st_size / 2**20:.1f} MiB")
    assert out.stat().st_size <= MAX_BYTES, "the file is too large"


def unpack(data: Path, folder: Path, limit: int | None) -> Path:
    """Return a folder with train/ and test/, of at most `limit` images of each, evenly from the classes."""
    if data.is_dir() and limit is None:
        return data
    target = folder / "images"
    if data.is_file():
        with zipfile.ZipFile(data) as archive:
            archive.extractall(target)
    if limit is None:
        return target
    return choose(load_dataset(target if data.is_file() else data).samples, folder / "some", limit)


def choose(samples: Sequence[Sample], folder: Path, limit: int) -> Path:
    """Link at most `limit` images of each split into a folder."""
    for split in ("train", "test"):
        classes: dict[str, list[Path]] = {}
        for sample in samples:
            if (sample.split or "train") == split:
                classes.setdefault(sample.label, []).append(sample.path)
        for label, paths in classes.items():
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for path in paths[: max(4, limit // len(classes))]:
                link = folder / split / label / path.name
                link.unlink(missing_ok=True)
                link.symlink_to(path.resolve())
    return folder


def train(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Train a recipe, and predict the test images with its model."""
    started = time.perf_counter()
    import belvedere

    class Clock(belvedere.Callback):
        def __init__(self) -> None:
            self.epochs: list[dict[str, float]] = []

        def on_epoch_end(self, metrics: belvedere.EpochMetrics) -> None:
            row = {"seconds": time.perf_counter() - started, "accuracy": metrics.validation_accuracy}
            self.epochs.append(row | {"images_per_second": metrics.images_per_second})

    clock = Clock()
    changes: dict[str, Any] = dict(SMALL) if options.smoke else {}
    if options.step == "finetune":
        changes["weights"] = str(options.weights)
    elif options.smoke:
        changes["image_size_schedule"] = ((0.0, 48), (1.0, 48))
    run = belvedere.train(
        options.data, out=out / "run", recipe=options.step, device=options.device, callbacks=[clock], **changes
    )
    found: dict[str, Any] = {
        "test_accuracy": run.evaluation.accuracy,
        "seconds": time.perf_counter() - started,
        "epochs": clock.epochs,
        "training_images_per_second": median(row["images_per_second"] for row in clock.epochs),
        "device": run.metrics["device"],
        "precision": run.metrics["precision"],
    }
    files = [sample.path for sample in load_dataset(options.data).split("test")]
    device = options.device if has_cuda() else "cpu"
    model = belvedere.load_model(run.folder, device=device)
    model.predict(files[:32])  # compiles kernels
    start = time.perf_counter()
    predictions = model.predict(files)
    found |= {"prediction_device": device, "predicted_images_per_second": len(files) / (time.perf_counter() - start)}
    if device == "cuda":
        own = np.array([prediction.probabilities for prediction in predictions])
        cpu = np.array([each.probabilities for each in belvedere.load_model(run.folder, device="cpu").predict(files)])
        found["largest_difference_of_probabilities"] = float(np.abs(own - cpu).max())
        assert found["largest_difference_of_probabilities"] <= TOLERANCE, "CUDA and CPU predict other probabilities"
    return found


def has_cuda() -> bool:
    """Return whether ONNX Runtime can use a GPU."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def seconds_to(epochs: Sequence[dict[str, float]], level: float) -> float | None:
    """Return the seconds to the first epoch that reaches a validation accuracy."""
    return next((row["seconds"] for row in epochs if row["accuracy"] >= level), None)


def markdown(results: dict[str, Any]) -> str:
    """Return the report."""
    lines = [f"# On a GPU\n\n{results['machine']}\n\nA level is an accuracy on the validation images.\n"]
    lines.append(
        "| recipe | level | reached after | test accuracy | in all | images/s in training | images/s from files |"
    )
    lines.append("|---|---|---|---|---|---|---|")
    for recipe, found in results["recipes"].items():
        if "reason" in found:
            lines.append(f"| `{recipe}` | {LEVELS[recipe]:.0%} | {found['reason']} | | | | |")
            continue
        reached = seconds_to(found["epochs"], LEVELS[recipe])
        lines.append(
            f"| `{recipe}` | {LEVELS[recipe]:.0%} | {'not' if reached is None else f'{reached:.1f} s'} "
            f"| {found['test_accuracy']:.2%} | {found['seconds']:.1f} s | {found['training_images_per_second']:,.0f} "
            f"| {found['predicted_images_per_second']:,.0f} ({found['prediction_device']}) |"
        )
    differences = [each.get("largest_difference_of_probabilities") for each in results["recipes"].values()]
    found = [each for each in differences if each is not None]
    lines.append(f"\nCUDA of ONNX Runtime beside its CPU: {f'at most {max(found):.1e}' if found else 'not available'}.")
    return "\n".join(lines) + "\n"


def describe_machine(device: str) -> str:
    """Return processor, GPU and versions."""
    import onnxruntime
    import torch

    gpu = torch.cuda.get_device_name() if device != "cpu" and torch.cuda.is_available() else "no GPU"
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    return f"{gpu}, {os.cpu_count()} CPUs ({platform.machine()}), Python {platform.python_version()}, {versions}."


def run_step(recipe: str, options: argparse.Namespace, data: Path, seconds: float) -> dict[str, Any]:
    """Train a recipe in a process of its own, which is stopped after some seconds."""
    if seconds <= 0:
        return {"reason": "no time was left"}
    file = options.out / f"{recipe}.json"
    command = [sys.executable, __file__, str(data), "--out", str(options.out), "--device", options.device]
    command += ["--step", recipe, *(["--smoke"] if options.smoke else [])]
    command += ["--weights", str(options.weights)] if options.weights else []
    environment = os.environ | {"BELVEDERE_CACHE": str(options.out / f"cache-{recipe}")}
    try:
        done = subprocess.run(command, timeout=seconds, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"reason": f"stopped after {seconds:.0f} s"}
    if done.returncode:
        return {"reason": f"failed with exit code {done.returncode}: see the output"}
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def main() -> None:
    """Pack the images, or train and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--pack", type=Path, nargs=2, metavar=("DATA", "FILE"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--images", type=int, help="of each split, at most")
    parser.add_argument("--smoke", action="store_true", help="one short epoch of each recipe")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--recipes", nargs="+", choices=tuple(LEVELS), default=tuple(LEVELS))
    parser.add_argument("--step", choices=tuple(LEVELS), help="train this recipe in this process")
    options = parser.parse_args()
    if options.pack:
        pack(*options.pack)
        return
    if options.data is None or options.out is None:
        parser.error("give the images, and --out")
    if options.step:
        (options.out / options.step).mkdir(exist_ok=True)
        (options.out / f"{options.step}.json").write_text(json.dumps(train(options, options.out / options.step)))
        return
    end = time.perf_counter() + 60 * options.minutes
    options.out.mkdir(parents=True)
    data = unpack(options.data, options.out, options.images)
    results: dict[str, Any] = {"machine": describe_machine(options.device), "recipes": {}}
    for recipe in LEVELS:
        if recipe not in options.recipes or (recipe == "finetune" and not options.weights):
            continue
        results["recipes"][recipe] = run_step(recipe, options, data, end - time.perf_counter())
        (options.out / "gpu.json").write_text(json.dumps(results, indent=1))
        (options.out / "gpu.md").write_text(markdown(results))
    print(markdown(results))
    if any("failed" in each.get("reason", "") for each in results["recipes"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
