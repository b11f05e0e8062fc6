"""Programs in processes of their own, which are killed whatever becomes of the test."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def run_python(program: str, *before: str) -> Iterator[None]:
    """Run a program that prints a line when it is ready; kill it, and what it started, at the end of the block.

    Args:
        program: What Python runs.
        before: Words of the command line before Python, such as those of `unshare`.
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
