"""A scan over stretches of frames: what each passes on, the state each starts from, and the whole result."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Barrier, Thread

import torch
from torch import Tensor

from model.gdn import frame_gdn
from model.time_shard import starting_states
from tests.golden.fixture import Comparison, Fixture

TOLERANCE = 1e-5


def check(fixture: Fixture) -> list[Comparison]:
    comparisons = []
    for case in fixture.cases("in.k_rot"):
        inputs = fixture.under(f"{case}in.")
        bounds = fixture.metadata["rank_frame_bounds"]
        table = Table(len(bounds) - 1)
        outputs: dict[int, Tensor] = {}
        resets = fixture.metadata.get("chunk_starts", [0])[1:]
        threads = [Thread(target=run_rank, args=(rank, table, bounds, resets, inputs, outputs))
                   for rank in range(len(bounds) - 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = {f"{case}out.y": torch.cat([outputs[rank] for rank in sorted(outputs)], 1)}
        for name, records in table.scans.items():
            for part, what in zip(("transition", "local_state", "start_state"), zip(*records, strict=True)):
                key = f"{case}out.{name}_{part}"
                stacked = torch.stack(what)
                found[key] = stacked.view(fixture[key].shape) if key in fixture else stacked
        comparisons += [Comparison(key, value, fixture[key], TOLERANCE) for key, value in found.items()
                        if key in fixture]
    return comparisons


@dataclass
class Table:
    """What all ranks, here threads, exchange in each scan: (transition, local state, start state) by rank."""

    ranks: int
    scans: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = field(default_factory=dict)
    pairs: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = Barrier(self.ranks, timeout=60)


@dataclass
class ThreadLink:
    rank: int
    table: Table

    def carry(self, transition: Tensor, local: Tensor, reverse: bool) -> Tensor:
        table = self.table
        table.pairs[self.rank] = (transition, local)
        table.barrier.wait()
        pairs = [table.pairs[rank] for rank in range(table.ranks)]
        starts = starting_states(pairs, reverse)
        if self.rank == 0:
            stream = "z" if local.shape[-1] == 1 else "kv"
            table.scans[f"{stream}.{'rev' if reverse else 'fwd'}"] = [
                (*pair, start) for pair, start in zip(pairs, starts, strict=True)]
        table.barrier.wait()
        return starts[self.rank]


def run_rank(
    rank: int, table: Table, bounds: list[int], resets: list[int], inputs: dict[str, Tensor],
    outputs: dict[int, Tensor],
) -> None:
    x = {name: value[:, bounds[rank] : bounds[rank + 1]] for name, value in inputs.items()}
    with torch.no_grad():
        outputs[rank], _ = frame_gdn(
            x["q_rot"], x["k_rot"], x["v"], x["beta"], x["decay"], q_plain=x["q"], k_plain=x["k"],
            chunk_starts=[t - bounds[rank] for t in resets], link=ThreadLink(rank, table))
