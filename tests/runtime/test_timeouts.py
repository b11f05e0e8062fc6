"""Calls that may never return."""

import subprocess
import sys
import threading

import pytest

from belvedere.runtime.timeouts import call_with_timeout, running_threads


def test_what_returns_in_time_is_returned_and_errors_are_raised() -> None:
    assert call_with_timeout(lambda: 7, 60, "call") == 7
    assert call_with_timeout(lambda: None, 60, "call") is None
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(lambda: 1 / 0, 60, "call")
    with pytest.raises(SystemExit):
        call_with_timeout(sys.exit, 60, "call")


def test_what_does_not_is_left_behind_and_known() -> None:
    free = threading.Event()
    with pytest.raises(TimeoutError):
        call_with_timeout(lambda: free.wait(60), 0.05, "hangs")
    assert [thread.name for thread in running_threads(0)] == ["hangs"]
    free.set()
    assert running_threads(60) == []


LEAVES = """

import sys, threading
from belvedere import cli
from belvedere.runtime.timeouts import BackgroundThread


cli.END_SECONDS = 0.05
BackgroundThread(threading.Event().wait, "hangs").start()
sys.argv = ["belvedere", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("--nonsense", 2)])
def test_the_command_line_ends_with_its_exit_code_in_spite_of_them(argument: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES, argument], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code
    assert done.stdout.strip() or code
