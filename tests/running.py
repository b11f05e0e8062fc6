"""Programs in separate processes, which are killed at the end of a test in any case."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def run_python(program: str, *before: str) -> Iterator[None]:
    """Run a program that prints a line when it is ready; kill it and its child processes at the end of the block.

    Args:
        program: Python code.
        before: Command line before Python, such as that of `unshare`.
    """
    command = [*before, sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()
            process.stdout.read()  # until one that it started has ended too
