"""A background thread that ends at its next step, or with the process."""

import subprocess
import sys
import threading

import pytest

from belvedere.reviewing.stoppable_thread import StoppableThread
from belvedere.runtime.progress import Progress
from serve_process import PATIENCE

LEFT_RUNNING = """
import atexit
import threading
from belvedere.reviewing.stoppable_thread import StoppableThread
from belvedere.runtime.parallel import parallel_map
from belvedere.runtime.progress import Progress

started = threading.Event()

def compute(progress):
    while True:
        list(parallel_map(str, range(100)))
        started.set()

thread = StoppableThread("left", compute, Progress())
thread.start()
atexit.register(thread.stop)  # after thread pools are shut down
assert started.wait(60)
"""


@pytest.mark.parametrize("in_task", [True, False])
def test_it_ends_at_the_next_step(in_task: bool) -> None:
    started = threading.Event()

    def compute(progress: Progress) -> None:
        started.set()
        if in_task:
            with progress.task("Computing", 9) as task:
                while True:
                    task.advance(1)
        while True:
            with progress.task("Computing", 9):
                pass

    thread = StoppableThread("computing", compute, Progress())
    thread.start()
    assert started.wait(PATIENCE)
    thread.stop()
    assert "computing" not in [each.name for each in threading.enumerate()]


def test_a_process_ends_without_a_message_while_it_runs() -> None:
    """Thread pools take no more tasks then."""
    ended = subprocess.run([sys.executable, "-c", LEFT_RUNNING], capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stderr) == (0, "")
