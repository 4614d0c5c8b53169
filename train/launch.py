"""Processes of a run: alone, under torchrun, or as workers of Ray Train; each works through the same code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from train.config import ParallelConfig, TrainConfig
from train.folder import RunFolder


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    mesh: all processes, over which parameters are shared.    context: the processes that share this one's
    clip, None where it has it alone; `group` of `groups` is their number.
    """

    rank: int
    world: int
    device: torch.device
    mesh: DeviceMesh
    context: dist.ProcessGroup | None
    group: int
    groups: int

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def leads(self) -> bool:
        """Whether this process speaks for its group."""
        return self.context is None or self.context.rank() == 0


@contextlib.contextmanager
def meet(config: ParallelConfig) -> Iterator[Ranks]:
    """Join the other processes, if there are any. Raises ValueError where the settings do not fit them."""
    device = choose_device(config)
    joined = not dist.is_initialized()  # Ray Train's workers have met before
    if joined:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        rank, world = dist.get_rank(), dist.get_world_size()
        if world % config.context:
            raise ValueError(f"parallel.context={config.context} with {world} processes, expected a divisor "
                             "of their number; start more processes with torchrun --nproc-per-node, or set "
                             "parallel.context=1")
        mesh = init_device_mesh(device.type, (world,))
        context = None
        if config.context > 1:
            pairs = init_device_mesh(device.type, (world // config.context, config.context),
                                     mesh_dim_names=("clip", "time"))
            context = pairs.get_group("time")
        yield Ranks(rank, world, device, mesh, context, rank // config.context, world // config.context)
    finally:
        if joined:
            dist.destroy_process_group()


def choose_device(config: ParallelConfig) -> torch.device:
    """The processor of this process. Raises ValueError where there is no GPU to be had."""
    wanted = config.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("parallel.device=cuda, and this machine shows torch no GPU; set parallel.device=cpu "
                         "or install torch for CUDA")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def run_on_ray(config: TrainConfig, work: Callable[[TrainConfig], Any]) -> None:
    """`work(config)` in each of ray.workers processes of a Ray cluster, which have met each other."""
    import ray
    from ray.train import RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = config.parallel.device == "cuda" or (
        config.parallel.device == "auto" and torch.cuda.is_available())
    started = not ray.is_initialized()
    if started:
        ray.init(address=config.ray.address, log_to_driver=True, include_dashboard=False)
    needs = {"CPU": config.ray.cpus, **({"GPU": 1} if gpu else {})}
    trainer = TorchTrainer(
        lambda: work(config),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=config.ray.workers, use_gpu=gpu, resources_per_worker=needs),
        run_config=RunConfig(name="ray", storage_path=str(RunFolder(config.out).path)),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise next(iter(error.worker_failures.values())) from error
    finally:
        if started:
            ray.shutdown()
