"""Work in threads, ahead of whoever takes the results."""

import threading
from collections.abc import Iterator

import pytest

from belvedere.runtime.parallel import chunks_of, parallel_map


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
    assert list(chunks_of(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(chunks_of([], 3)) == []


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

    results = parallel_map(invert, [1, 2, 0, 4], together=1)
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
