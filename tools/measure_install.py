"""Measure the size of Belvedere without extras: `python tools/measure_install.py [REQUIREMENT...]`.

Installs this checkout into a fresh environment and prints the size of each package. Exits with 1 if the sum exceeds
the limit, or if a deep-learning or GPU package is installed. With requirements, those are installed instead, without
limits.
"""

import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MEGABYTES = 200
UNWANTED = ("torch", "tensorflow", "nvidia", "cuda", "triton", "jax")
PRESENT_ANYWAY = ("pip", "setuptools")


def size_of(distribution: metadata.Distribution) -> int:
    """Return the size of an installed package in bytes."""
    paths = (Path(str(distribution.locate_file(file))) for file in distribution.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> int:
    """Print the table; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        what = sys.argv[1:] or ["-c", str(ROOT / "constraints.txt"), str(ROOT)]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-compile", *what], check=True)
        [packages] = Path(folder).glob("lib/python*/site-packages")
        installed = {
            each.metadata["Name"]: (each.version, size_of(each))
            for each in metadata.distributions(path=[str(packages)])
            if each.metadata["Name"] not in PRESENT_ANYWAY
        }
    print("| package | version | MB |\n|---|---|---|")
    for name, (version, size) in sorted(installed.items(), key=lambda item: -item[1][1]):
        print(f"| {name} | {version} | {size / 1e6:.1f} |")
    whole = sum(size for _, size in installed.values()) / 1e6
    print(f"| **all** | | **{whole:.0f}** |")
    if sys.argv[1:]:
        return 0
    unwanted = [name for name in installed if name.lower().startswith(UNWANTED)]
    if unwanted:
        print(f"Not wanted: {', '.join(unwanted)}")
    return 1 if unwanted or whole > MAX_MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
