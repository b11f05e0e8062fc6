"""CPU time of small files made to keep a decoder busy, decoded or rejected.

python benchmarks/slow_images.py [--megabytes 0.25 1 4 8 16 30] [--kind NAME] [--limit 1.0]

Writes a file of each kind in each size: excessive segments, chunks, blocks, pages, directories, comments, scans and
fill bytes. A process of its own reads each file; its CPU time counts, less that of an ordinary image. Exits with 1 if
a file exceeds the limit, or ends in anything but pixels or an `InvalidImageError`.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import PIL

sys.path.insert(0, str(Path(__file__).parent))

import slow_heif  # noqa: F401 - registers kinds
import slow_tables  # noqa: F401
from slow_kinds import JPEG, KINDS

READ = """

import json, resource, sys
from belvedere.errors import InvalidImageError
from belvedere.images.decode import read_image
read_image(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    outcome = "read, %d x %d" % read_image(sys.argv[2]).shape[1::-1]
except InvalidImageError as error:
    outcome = "refused: " + error.reason
after = resource.getrusage(resource.RUSAGE_SELF)
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"seconds": seconds, "outcome": outcome, "megabytes": after.ru_maxrss / 1000}))
"""
PATIENCE_SECONDS = 120


def read_in_child(plain: Path, file: Path) -> dict[str, object]:
    """Read a file in a child process; return its CPU time and outcome."""
    command = [sys.executable, "-c", READ, str(plain), str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"seconds": float(PATIENCE_SECONDS), "outcome": "not finished", "megabytes": 0.0}
    if done.returncode:
        return {"seconds": 0.0, "outcome": f"FAILED: {(done.stderr or str(done.returncode)).strip()[-200:]}"}
    return dict(json.loads(done.stdout))


def main() -> int:
    """Print a line per kind; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.25, 2.0, 8.0, 30.0])
    parser.add_argument("--kind", action="append")
    parser.add_argument("--limit", type=float, default=1.0, help="Seconds of processor time.")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, Pillow {PIL.__version__}; {len(KINDS)} kinds\n")
    print("| kind | s of processor, largest | at MB | outcome there |\n|---|---|---|---|")
    files = slow = failed = 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as place:
        plain, file = Path(place, "plain.jpg"), Path(place, "slow")
        plain.write_bytes(JPEG)
        for name in options.kind or KINDS:
            rows = []
            for megabytes in options.megabytes:
                file.write_bytes(KINDS[name](int(megabytes * 1e6)))
                found = read_in_child(plain, file)
                rows.append((float(str(found["seconds"])), file.stat().st_size / 1e6, str(found["outcome"])))
            files += len(rows)
            slow += sum(seconds > options.limit for seconds, _, _ in rows)
            failed += sum(outcome.startswith("FAILED") for _, _, outcome in rows)
            seconds, size, outcome = max(rows)
            worst = max(worst, seconds)
            print(f"| {name} | {seconds:.2f} | {size:.1f} | {outcome[:90]} |", flush=True)
    print(f"\n{files} images: {slow} over {options.limit:g} s, {failed} failed; the slowest {worst:.2f} s")
    return 1 if slow or failed else 0


if __name__ == "__main__":
    sys.exit(main())
