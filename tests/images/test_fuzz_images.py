"""Damaged pictures: none crashes, hangs or warns; the script of the benchmarks finds them in numbers."""

import subprocess
import sys
from pathlib import Path


def test_no_damaged_picture_does_more_than_be_refused() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "fuzz_images.py"
    command = [sys.executable, str(script), "--images", "1500", "--seed", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1,500 pictures" in done.stdout
