"""JPEG decoders: images per second on one core, and pixel differences from simplejpeg.

Run as `python benchmarks/decoders.py FOLDER`. Missing decoders are listed and skipped. Files are read into memory
first. Decoders take turns: one warm-up round, three timed rounds, best counts.
"""

import argparse
import io
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # also without Belvedere installed

Decoder = Callable[[bytes], NDArray[np.uint8]]
ROUNDS = 3
MOST_FILES = 2000
PACKAGES = ("simplejpeg", "pillow", "opencv-python-headless", "opencv-python", "torch", "torchvision", "numpy")


def create_simplejpeg() -> Decoder:
    """Decode with simplejpeg at its accurate settings."""
    simplejpeg = import_module("simplejpeg")
    return lambda content: simplejpeg.decode_jpeg(content, colorspace="RGB")


def create_pillow() -> Decoder:
    """Decode with Pillow, and copy to a NumPy array."""
    image = import_module("PIL.Image")
    return lambda content: np.array(image.open(io.BytesIO(content)).convert("RGB"))


def create_opencv() -> Decoder:
    """Decode with OpenCV, and convert BGR to RGB."""
    cv2 = import_module("cv2")
    cv2.setNumThreads(1)

    def decode(content: bytes) -> NDArray[np.uint8]:
        stored = np.frombuffer(content, np.uint8)
        pixels: NDArray[np.uint8] = cv2.cvtColor(cv2.imdecode(stored, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return pixels

    return decode


def create_torchvision() -> Decoder:
    """Decode with torchvision.io, in (height, width, channels) order."""
    torch, io_module = import_module("torch"), import_module("torchvision.io")
    torch.set_num_threads(1)

    def decode(content: bytes) -> NDArray[np.uint8]:
        stored = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        pixels: NDArray[np.uint8] = io_module.decode_jpeg(stored, io_module.ImageReadMode.RGB).permute(1, 2, 0).numpy()
        return pixels

    return decode


def create_belvedere() -> Decoder:
    """Decode with Belvedere."""
    read: Decoder = import_module("belvedere.images.decode").read_image
    return read


DECODERS: dict[str, Callable[[], Decoder]] = {
    "simplejpeg": create_simplejpeg,
    "Pillow": create_pillow,
    "OpenCV": create_opencv,
    "torchvision.io": create_torchvision,
    "belvedere.images.decode.read_image": create_belvedere,
}


def read_files(folder: Path) -> list[bytes]:
    """Read up to `MOST_FILES` JPEGs of a folder, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        sys.exit(f"There is no JPEG in {folder}.")
    return [path.read_bytes() for path in paths[:MOST_FILES]]


def measure_speeds(decoders: dict[str, Decoder], files: Sequence[bytes]) -> dict[str, float]:
    """Return images per second, best of `ROUNDS`; decoders take turns to share background load."""
    best = dict.fromkeys(decoders, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, decode in decoders.items():
            started = time.perf_counter()
            for content in files:
                decode(content)
            if turn > 0:
                best[name] = min(best[name], time.perf_counter() - started)
    return {name: len(files) / seconds for name, seconds in best.items()}


def load_decoders(content: bytes) -> tuple[dict[str, Decoder], dict[str, str]]:
    """Return the decoders that decode a first file, and the errors of the others."""
    loaded, failed = {}, {}
    for name, create in DECODERS.items():
        try:
            loaded[name] = create()
            loaded[name](content)
        except Exception as error:  # noqa: BLE001 - whatever a library raises that cannot load
            loaded.pop(name, None)
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return loaded, failed


def find_difference(decode: Decoder, reference: Decoder, files: Sequence[bytes]) -> tuple[int, float]:
    """Return the largest channel difference in levels, and the fraction of images with any."""
    largest, different = 0, 0
    for content in files:
        step = int(np.abs(decode(content).astype(np.int16) - reference(content).astype(np.int16)).max())
        largest, different = max(largest, step), different + (step > 0)
    return largest, different / len(files)


def describe_machine() -> str:
    """Return CPU, cores, system, Python and package versions."""
    processor = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        lines = described.read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}\n"
        + ", ".join(versions)
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compares decoders of JPEGs.")
    parser.add_argument("folder", type=Path, help="folder of images")
    files = read_files(parser.parse_args().folder)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    size = sum(map(len, files)) / len(files) / 1000
    print(f"{len(files)} JPEGs of {size:.1f} kB on average; one core; best of {ROUNDS}; {time.strftime('%Y-%m-%d')}")
    print(describe_machine() + "\n")
    print("| decoder | images/s | largest difference to simplejpeg | fraction of images that differ |")
    print("|---|---|---|---|")
    decoders, failed = load_decoders(files[0])
    speeds = measure_speeds(decoders, files)
    for name, decode in decoders.items():
        largest, fraction = find_difference(decode, decoders["simplejpeg"], files)
        print(f"| {name} | {speeds[name]:,.0f} | {largest} levels | {fraction:.1%} |")
    for name, reason in failed.items():
        print(f"| {name} | does not load | {reason} | - |")


if __name__ == "__main__":
    main()
