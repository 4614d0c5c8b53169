"""Making the items of an iterator in a thread, some ahead of whoever takes them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Iterator[Item], Generic[Item]):
    """The items of a generator, in its order, made by a thread that keeps at most `depth` of them waiting.

    What the generator raises is raised where the item would have come. Nobody else may touch the generator;
    `close` waits for the thread and closes it.
    """

    def __init__(self, items: Generator[Item, None, None], depth: int) -> None:
        self._items, self._depth = items, depth
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._make, name="ahead", daemon=True)
        self._thread.start()

    def __next__(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if self._waiting:
                item = self._waiting.popleft()
                self._changed.notify()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread; items not taken are lost."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._waiting.clear()
        self._items.close()

    def _make(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                with self._changed:
                    self._waiting.append(item)
                    self._changed.notify()
                    self._changed.wait_for(lambda: len(self._waiting) < self._depth or self._closed)
                    if self._closed:
                        break
        except BaseException as caught:
            error = caught
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify()
