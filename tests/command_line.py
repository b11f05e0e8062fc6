"""The command line in a separate process."""

import subprocess
import sys
from pathlib import Path

Completed = subprocess.CompletedProcess[str]


def belvedere(*arguments: object, cwd: Path | None = None) -> Completed:
    command = [sys.executable, "-m", "belvedere", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def assert_one_line(done: Completed, code: int, *words: str) -> None:
    """Check for one line on stderr, the exit code, no traceback, and nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last
