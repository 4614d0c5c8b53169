import threading
from collections.abc import Generator, Iterator

import pytest

from annotate.ahead import Ahead


def test_items_come_in_order_and_once():
    assert list(Ahead((i for i in range(1000)), 3)) == list(range(1000))


def test_no_more_than_depth_items_wait_for_their_taker():
    made, room = [], threading.Semaphore(0)

    def items() -> Generator[int, None, None]:
        for i in range(20):
            made.append(i)
            room.release()
            yield i

    ahead = Ahead(items(), 4)
    for _ in range(4):
        assert room.acquire(timeout=30)
    assert next(ahead) == 0
    assert room.acquire(timeout=30), "a place that has become free is filled"
    assert not room.acquire(timeout=0.2) and made == [0, 1, 2, 3, 4]
    ahead.close()


def test_an_error_is_raised_behind_the_items_before_it():
    def items() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise OSError("gone")

    ahead, taken = Ahead(items(), 8), []
    with pytest.raises(OSError, match="gone"):
        for item in ahead:
            taken.append(item)
    assert taken == [1, 2]
    assert list(ahead) == []


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_ends_the_thread_and_the_generator(taken):
    ended = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            yield from iter(int, 1)
        finally:
            ended.set()

    before = threading.active_count()
    ahead: Iterator[int] = Ahead(items(), 2)
    for _ in range(taken):
        next(ahead)
    ahead.close()  # type: ignore[attr-defined]
    assert ended.is_set() and threading.active_count() == before
