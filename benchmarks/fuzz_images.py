"""Fuzz `read_image` with mutated images: no crash, no hang over a second, no memory growth.

Run as `python benchmarks/fuzz_images.py [--images 100000] [--seed 0] [--megabytes 2000]`. Images of all formats and
many kinds are damaged by flipped bits, truncation, foreign headers and pieces, duplicated and missing pieces, and
extreme field values. A child process with limited memory reads them, so that a crash is detected; its seed is printed
and the next one is taken. Exits with 1 if anything was found. HEIF is among them if pillow-heif is installed.
"""

import argparse
import io
import multiprocessing
import os
import platform
import random
import resource
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # also without Belvedere installed

from belvedere.errors import InvalidImageError
from belvedere.images.decode import read_image

HAS_HEIF = find_spec("pillow_heif") is not None
LONGEST_SECONDS = 1.0  # of the processor
EXTREMES = (b"\x00\x00", b"\xff\xff", b"\x7f\xff", b"\x27\x10", b"\x10\x27", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f")


def make_images() -> dict[str, bytes]:
    """Write small images of all formats and many kinds."""
    noise = np.random.default_rng(0)
    soft = Image.fromarray(noise.integers(0, 255, (9, 12, 3), np.uint8)).resize((96, 72), Image.Resampling.BICUBIC)
    gray = soft.convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(noise.integers(0, 65535, (40, 50), np.uint16))
    made: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (soft, "JPEG", {"quality": 90}),
        "jpeg progressive": (soft, "JPEG", {"progressive": True}),
        "jpeg turned": (soft, "JPEG", {"exif": exif}),
        "jpeg cmyk": (soft.convert("CMYK"), "JPEG", {}),
        "jpeg gray": (gray, "JPEG", {}),
        "png": (soft, "PNG", {}),
        "png palette": (soft.quantize(16), "PNG", {}),
        "png alpha": (soft.convert("RGBA"), "PNG", {}),
        "png wide": (wide, "PNG", {}),
        "apng": (soft, "PNG", {"save_all": True, "append_images": [soft.rotate(9)]}),
        "gif": (soft, "GIF", {"save_all": True, "append_images": [soft.rotate(9), soft.rotate(20)]}),
        "bmp": (soft, "BMP", {}),
        "tiff": (soft, "TIFF", {}),
        "tiff deflate": (soft, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff lzw": (soft, "TIFF", {"compression": "tiff_lzw"}),
        "tiff pages": (gray, "TIFF", {"save_all": True, "append_images": [gray, gray]}),
        "webp": (soft, "WEBP", {}),
        "webp lossless": (soft.convert("RGBA"), "WEBP", {"lossless": True}),
        "webp moving": (soft, "WEBP", {"save_all": True, "append_images": [soft.rotate(9)]}),
        "avif": (soft, "AVIF", {"speed": 10}),
        "avif alpha": (soft.convert("RGBA"), "AVIF", {"speed": 10, "exif": exif}),
        "ppm": (soft, "PPM", {}),
        "pgm": (gray, "PPM", {}),
        "jpeg restarts": (soft, "JPEG", {"restart_marker_blocks": 2, "progressive": True}),
        "png profile": (soft, "PNG", {"icc_profile": noise.bytes(3000), "exif": exif}),
        "tiff planes": (soft, "TIFF", {"tiffinfo": {284: 2}}),
        "tiff raw": (soft, "TIFF", {"tiffinfo": {271: "NIKON", 330: 8, 50706: b"\1\4\0\0"}}),
    }
    if HAS_HEIF:
        import pillow_heif

        pillow_heif.register_heif_opener()
        made |= {
            "heif": (soft, "HEIF", {"exif": exif.tobytes()}),
            "heif alpha": (soft.convert("RGBA"), "HEIF", {}),
            "heif gray": (gray, "HEIF", {"quality": -1}),
            "heif tiles": (soft, "HEIF", {"tile_size": 64}),
            "heif images": (soft, "HEIF", {"save_all": True, "append_images": [gray, soft]}),
        }
    written = {name: encode(*each) for name, each in made.items()}
    written["png texts"] = with_texts(written["png"])
    written["bmp alpha"] = encode(soft.convert("RGBA"), "BMP", {})
    return written


def encode(image: Image.Image, form: str, options: dict[str, object]) -> bytes:
    """Write an image file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def with_texts(png: bytes) -> bytes:
    """Return a PNG with texts that may hold an orientation."""
    exif = b"\n\nexif\n8\n" + b"MM\0*\0\0\0\x08".hex().encode()
    texts = {
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'tiff:Orientation="3"'),
        b"zTXt": b"Raw profile type exif\0\0" + zlib.compress(exif),
        b"tEXt": b"Raw profile type exif\0" + exif,
    }
    for kind, text in texts.items():
        png = (
            png[:33]
            + len(text).to_bytes(4, "big")
            + kind
            + text
            + zlib.crc32(kind + text).to_bytes(4, "big")
            + png[33:]
        )
    return png


def mutate(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to three ways."""
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        if damaged:
            _damage(damaged, other, chance)
    return bytes(damaged)


def _damage(damaged: bytearray, other: bytes, chance: random.Random) -> None:
    # Heads decide how the rest is read: every second time the damage is there.
    position = chance.randrange(min(len(damaged), 64) if chance.random() < 0.5 else len(damaged))
    length = chance.randint(1, 200)
    match chance.randrange(9):
        case 0:
            damaged[position] ^= 1 << chance.randrange(8)
        case 1:
            for _ in range(chance.randint(2, 64)):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        case 2:
            del damaged[chance.randrange(len(damaged)) :]
        case 3:
            damaged[: length // 6] = other[: length // 6]
        case 4:
            extreme = chance.choice(EXTREMES)
            damaged[position : position + len(extreme)] = extreme
        case 5:
            damaged[position:position] = damaged[position : position + length] * chance.randint(1, 20)
        case 6:
            del damaged[position : position + length]
        case 7:
            damaged[position:position] = chance.randbytes(length)
        case _:
            start = chance.randrange(len(other))
            damaged[position : position + length] = other[start : start + length]


def bomb(chance: random.Random) -> bytes:
    """Return a small file that is expensive to decode: many pixels, scans, or plain-text numbers."""
    if (form := chance.choice(("pixels", "scans", "text"))) == "scans":
        return many_scans(chance.choice((100, 1500, 4400)), chance.choice((10, 100, 3000)))
    if form == "text":
        size = chance.choice((500, 1000, 4000))
        return b"P3 %d %d 255\n" % (size, size) + b"7 " * (3 * size * size)
    size = chance.choice((3000, 7000, 9999, 10_001, 20_000, 60_000, 1_000_000))
    form = chance.choice(("ppm", "bmp", "gif"))
    if form == "ppm":
        return b"P6 %d %d 255\n" % (size, size) + bytes(100)
    if form == "bmp":
        head = (14 + 40).to_bytes(4, "little")
        sizes = (40).to_bytes(4, "little") + size.to_bytes(4, "little") * 2
        return b"BM" + bytes(8) + head + sizes + b"\x01\x00\x18\x00" + bytes(24 + 50)
    dimensions = min(size, 65_535).to_bytes(2, "little") * 2
    return (
        b"GIF89a"
        + dimensions
        + b"\x80\x00\x00"
        + bytes(6)
        + b"\x2c"
        + bytes(4)
        + dimensions
        + b"\x00\x02\x02\x4c\x01\x00\x3b"
    )


def many_scans(size: int, scans: int) -> bytes:
    """Return a grayscale JPEG with many scans."""
    file = io.BytesIO()
    Image.new("L", (size, size)).save(file, "JPEG", progressive=True)
    again = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + bytes(5)  # bits of every coefficient, a little better
    return file.getvalue()[:-2] + again * scans + b"\xff\xd9"


def image_of(seed: int, made: dict[str, bytes]) -> tuple[str, bytes]:
    """Return the damaged image of a seed, and its description."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    if chance.random() < 0.002:
        return "bomb", bomb(chance)
    name = chance.choice(sorted(made))
    return name, mutate(made[name], made[chance.choice(sorted(made))], chance)


def work(first: int, last: int, megabytes: int, sender: Connection) -> None:
    """Read the images of the seeds; report before and after each."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    warnings.simplefilter("error")  # a warning that comes through would be one that users see
    made = make_images()
    for seed in range(first, last):
        name, content = image_of(seed, made)
        sender.send(seed)
        start = time.process_time()
        try:
            read_image(content)
            outcome = "read"
        except InvalidImageError as error:
            outcome = error.reason if "not enough memory" in error.reason else "refused"
        except BaseException as error:  # noqa: BLE001 - this is what is looked for
            outcome = f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sender.send((name, outcome, time.process_time() - start, peak, _resident()))
    sender.close()


def _resident() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def run(num_images: int, seed: int, megabytes: int, report: Callable[[str], None]) -> int:
    """Read images in child processes; return the number of findings."""
    found, longest, peak, resident = 0, 0.0, 0.0, []
    outcomes: Counter[str] = Counter()
    first, last = seed, seed + num_images
    while first < last:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("spawn").Process(target=work, args=(first, last, megabytes, sender))
        child.start()
        sender.close()
        try:
            while True:
                first = receiver.recv() + 1
                if not receiver.poll(60):
                    child.kill()
                name, outcome, seconds, peak_here, now = receiver.recv()
                outcomes[outcome if outcome in ("read", "refused") else "error"] += 1
                longest, peak = max(longest, seconds), max(peak, peak_here)
                resident.append(now)
                if outcome not in ("read", "refused") or seconds > LONGEST_SECONDS:
                    found += 1
                    report(f"seed {first - 1} ({name}): {outcome}, {seconds:.2f} s")
        except EOFError:
            child.join()
            if child.exitcode:
                found += 1
                report(f"seed {first - 1}: the process ended with {child.exitcode}")
    tenth = max(1, len(resident) // 10)
    begin, end = (float(np.median(values)) for values in (resident[tenth : 2 * tenth], resident[-tenth:]))
    report(f"{sum(outcomes.values()):,} images, seeds {seed} to {last - 1}: {dict(outcomes)}; {found} found")
    report(
        f"longest {longest:.2f} s of the processor; memory {begin:.0f} MB early, {end:.0f} MB late, peak {peak:.0f} MB"
    )
    return found


def main() -> int:
    """Print the findings; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=int, default=2000, help="Address space of the process that reads.")
    options = parser.parse_args()
    heif = f", pillow-heif {version('pillow-heif')}" if HAS_HEIF else ""
    print(f"{platform.system()}, Python {platform.python_version()}, Pillow {PIL.__version__}{heif}")
    return 1 if run(options.images, options.seed, options.megabytes, lambda line: print(line, flush=True)) else 0


if __name__ == "__main__":
    sys.exit(main())
