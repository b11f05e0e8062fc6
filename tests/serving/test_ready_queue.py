"""The queue before the models: groups take turns, and no thread misses an item."""

import threading
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from belvedere.serving.ready_queue import ReadyQueue


def never() -> bool:
    return False


def test_batches_hold_one_group_and_groups_take_turns() -> None:
    queue: ReadyQueue[str, int] = ReadyQueue()
    for item, key in enumerate("aaaabba"):
        queue.put(key, item)
    assert [queue.take(2, 0.0, never) for _ in range(4)] == [[0, 1], [4, 5], [2, 3], [6]]


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 5))
def test_every_item_is_taken_once_in_the_order_of_its_group(keys: list[str], size: int) -> None:
    queue: ReadyQueue[str, tuple[str, int]] = ReadyQueue()
    for item, key in enumerate(keys):
        queue.put(key, (key, item))
    queue.stop_one()
    taken = []
    while batch := queue.take(size, 0.0, never):
        assert len(batch) <= size
        assert len({key for key, _ in batch}) == 1
        taken += batch
    assert sorted(item for _, item in taken) == list(range(len(keys)))
    for key in "abc":
        assert all(first < second for first, second in pairwise(item for group, item in taken if group == key))


def test_a_batch_waits_for_items_of_its_group_only() -> None:
    """Another thread takes those of other groups in the meantime."""
    queue: ReadyQueue[str, int] = ReadyQueue()
    queue.put("a", 0)
    taken: dict[str, list[int]] = {}
    waits = threading.Event()

    def grows() -> bool:
        waits.set()
        return True

    first = threading.Thread(target=lambda: taken.update(a=queue.take(2, 60.0, grows)))
    first.start()
    waits.wait(60)
    second = threading.Thread(target=lambda: taken.update(b=queue.take(1, 0.0, never)))
    second.start()
    queue.put("b", 1)
    second.join(60)
    assert taken == {"b": [1]}
    queue.put("a", 2)
    first.join(60)
    assert taken == {"b": [1], "a": [0, 2]}


def test_a_stop_lets_one_thread_go_after_the_last_item() -> None:
    queue: ReadyQueue[str, int] = ReadyQueue()
    queue.put("a", 0)
    queue.stop_one()
    assert queue.take(1, 0.0, never) == [0]
    assert queue.take(1, 0.0, never) == []
    waiting = threading.Thread(target=queue.take, args=(1, 0.0, never))
    waiting.start()
    queue.stop_one()
    waiting.join(60)
    assert not waiting.is_alive()
