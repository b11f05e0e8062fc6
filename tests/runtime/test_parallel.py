"""Threads: a parallel map, and calls with a time limit."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from belvedere.runtime.parallel import batched, call_with_timeout, parallel_map, running_threads


def test_results_come_in_the_order_of_the_items() -> None:
    gate = threading.Event()

    def double(item: int) -> int:
        if item == 0:
            gate.wait(2)  # the first is ready last, but on a machine with a single core
        if item == 5:
            gate.set()
        return 2 * item

    assert list(parallel_map(double, range(20), 8, 1)) == [2 * item for item in range(20)]


@pytest.mark.parametrize("together", [1, 3, 8, 100])
def test_however_many_a_thread_takes_at_once(together: int) -> None:
    assert list(parallel_map(str, range(20), 8, together)) == [str(item) for item in range(20)]


def test_chunks() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []


def test_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = parallel_map(str, endless(), 4)
    assert [next(results) for _ in range(10)] == [str(number) for number in range(10)]
    assert len(taken) <= 10 + 4


def test_an_error_stands_where_its_result_would() -> None:
    def invert(item: int) -> float:
        return 1 / item

    results = parallel_map(invert, [1, 2, 0, 4], chunk_size=1)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_what_nobody_takes_is_not_begun() -> None:
    begun: list[int] = []
    go = threading.Event()

    def note(item: int) -> int:
        begun.append(item)
        if item:
            go.wait(60)
        return item

    results = parallel_map(note, range(1000), 1000)
    assert next(results) == 0
    threading.Timer(0.05, go.set).start()
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 1000


def test_nothing_gives_nothing_and_no_thread_stays() -> None:
    before = threading.active_count()
    assert list(parallel_map(str, [])) == []
    results = parallel_map(str, range(100))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


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
from belvedere.runtime.parallel import BackgroundThread


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
