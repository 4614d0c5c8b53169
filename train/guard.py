"""A loss or gradient that is not finite changes no weight: its update is skipped. Too many end the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


class Diverged(RuntimeError):
    """Too many updates in a row were skipped."""


@dataclass
class Guard:
    """skipped: updates so far; in_a_row: of those, the last ones without one between."""

    limit: int
    skipped: int = 0
    in_a_row: int = 0

    def skip(self) -> bool:
        """Count a skipped update; whether it is one too many."""
        self.skipped += 1
        self.in_a_row += 1
        return self.in_a_row >= self.limit

    def passed(self) -> None:
        self.in_a_row = 0


def agree(values: Sequence[float], group: dist.ProcessGroup) -> list[float]:
    """Sums of numbers over all processes, in double precision."""
    together = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(together, group=group)
    return together.tolist()


def gather(value: object, group: dist.ProcessGroup) -> list[object]:
    """What each process has, in all of them."""
    found: list[object] = [None] * group.size()
    dist.all_gather_object(found, value, group=group)
    return found
