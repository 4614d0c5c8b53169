"""Networks on their devices: recomputed, compiled, shared out over processes, and cut along time."""

from __future__ import annotations

from dataclasses import replace

import torch

from model.dit import SanaWM
from model.parallel import ContextParallel, compile_blocks, recompute_blocks, shard_parameters
from train.config import ParallelConfig
from train.launch import Ranks
from train.objectives import Member


def compute_type(config: ParallelConfig, device: torch.device) -> torch.dtype:
    """Of activations; parameters that are trained are float32 whatever it is."""
    if config.compute == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if config.compute == "bfloat16" else torch.float32


def place(member: Member, ranks: Ranks, config: ParallelConfig) -> Member:
    """The same network, ready for training by all processes."""
    module, compute = member.module, compute_type(config, ranks.device)
    if not member.trained:
        module.to(compute)
    elif config.recompute:
        recompute_blocks(module, config.recompute)  # type: ignore[arg-type]
    if config.compile:
        compile_blocks(module)  # type: ignore[arg-type]
    if ranks.world > 1 or compute is not torch.float32:
        shard_parameters(module, ranks.mesh, compute=compute)  # type: ignore[arg-type]
    module.to(ranks.device)
    if ranks.context is None:
        return replace(member, module=module, call=module)
    assert isinstance(module, SanaWM)
    return replace(member, module=module, call=ContextParallel(module, ranks.context))
