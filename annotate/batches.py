"""Running a model on many items in batches that fit its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """A batch that needs more memory than there is is halved and tried again; the size found stays.

    So a worker runs out of memory a few times at its beginning and not again.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"batch size {size}, allowed 1 or more")
        self.size = size

    def run(self, function: Callable[[Sequence[Item]], Sequence[Result]],
            items: Sequence[Item]) -> list[Result]:
        """`function` of all items, in order. Raises torch.OutOfMemoryError when a single one is too much."""
        import torch

        results: list[Result] = []
        while len(results) < len(items):
            batch = items[len(results):len(results) + self.size]
            try:
                found = function(batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self.size = len(batch) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            if len(found) != len(batch):
                raise ValueError(f"{len(found)} results for a batch of {len(batch)}")
            results += found
        return results
