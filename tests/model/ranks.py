"""Runs a function on several gloo processes and brings back what each returned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(work: Callable[..., Any], ranks: int, folder: Path, *inputs: Any) -> list[Any]:
    """[work(group, *inputs) of each rank]; `work` and its result must be picklable."""
    mp.spawn(_run, (ranks, str(folder), work, inputs), nprocs=ranks)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _run(rank: int, ranks: int, folder: str, work: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
    try:
        torch.save(work(dist.group.WORLD, *inputs), Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
