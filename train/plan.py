"""What a run would take, without running it: parameters by group, memory, work and days (dry_run=true)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from dataset.rays import latent_frames
from model.config import DiTConfig
from train.config import TrainConfig
from train.flops import forward_flops, peak_flops, training_flops
from train.objectives import Member

GROUPS = (
    ("embeddings", r"(x_embedder|t_embedder|t_block|y_embedder|attention_y_norm|raymap_embedder)\."),
    ("Plücker", r"plucker_embedder\.|.*\.plucker_proj\."),
    ("camera branch", r".*_cam\."),
    ("self-attention", r".*\.attn\."),
    ("cross-attention", r".*\.cross_attn\."),
    ("feed-forward", r".*\.mlp\."),
    ("modulation and output", r".*"),
)
"""The first pattern that fits a parameter's name counts."""
BLOCK_TENSORS = 59
"""(N, d) maps that the gradient of a block needs: so many were counted in float32 on a CPU for a block that
scans, and 50 for one with softmax attention."""
_MASTER, _GRADIENT, _ADAM, _MEAN = 4, 4, 8, 4


@dataclass(frozen=True)
class Memory:
    """Bytes in one process."""

    states: float  # its part of masters, gradients, AdamW's means, the mean of the weights
    frozen: float  # its part of parameters that are not trained
    gathered: float  # two blocks and what is outside of blocks, whole, as they are computed with
    activations: float

    @property
    def total(self) -> float:
        return self.states + self.frozen + self.gathered + self.activations


def parameter_groups(named: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
    """Number of parameters in each of `GROUPS`."""
    found = {group: 0 for group, _ in GROUPS}
    for name, p in named:
        found[next(group for group, pattern in GROUPS if re.match(pattern, name))] += p.numel()
    return found


def estimate_memory(
    member: Member, model: DiTConfig, tokens: int, config: TrainConfig, ranks: int, width: int,
) -> Memory:
    """tokens: of all clips of a batch in one process.    ranks: that share parameters.
    width: bytes of an activation."""
    trained = sum(p.numel() for p in member.module.parameters() if p.requires_grad)
    every = sum(p.numel() for p in member.module.parameters())
    per = _MASTER + _GRADIENT + _ADAM + (_MEAN if config.ema.decay else 0)
    blocks = sum(p.numel() for name, p in member.module.named_parameters() if name.startswith("blocks."))
    block = blocks / model.depth
    size = tokens * model.width * width
    every_so_many = config.parallel.recompute
    kept = model.depth / every_so_many if every_so_many else 0
    whole = model.depth - kept
    activations = size * (kept + (whole or 1) * BLOCK_TENSORS)
    return Memory(trained * per / ranks, (every - trained) * (width if config.lora.rank else 4) / ranks,
                  (2 * block + every - blocks) * width, activations)


def describe_plan(config: TrainConfig, member: Member, model: DiTConfig, objective: object) -> str:
    """The text that dry_run=true prints."""
    plan, parallel = config.plan, config.parallel
    if plan.gpus % parallel.context:
        raise ValueError(f"plan.gpus={plan.gpus} with parallel.context={parallel.context}, expected a "
                         "multiple of it; set parallel.context=1 for a plan of one GPU")
    frames = latent_frames(plan.frames)
    grid = (frames, plan.size[0] // config.data.cell, plan.size[1] // config.data.cell)
    mask = objective.mask(frames)  # type: ignore[attr-defined]
    camera = config.flow.camera
    clips = plan.gpus // parallel.context * config.data.batch_size * config.accumulate
    tokens = config.data.batch_size * -(-frames // parallel.context) * grid[1] * grid[2]
    width = 4 if parallel.compute == "float32" else 2
    memory = estimate_memory(member, model, tokens, config, plan.gpus, width)
    forward = forward_flops(model, grid, model.caption_length, mask, camera)
    update = clips * training_flops(forward)
    lines = [f"stage {config.stage.name}: {config.steps:,} updates of {clips} clips of {plan.frames} frames, "
             f"{plan.size[1]}x{plan.size[0]}, {frames} x {grid[1]} x {grid[2]} latents", "", "parameters"]
    every = dict(member.module.named_parameters())
    trained = parameter_groups((name, p) for name, p in every.items() if p.requires_grad)
    for group, number in parameter_groups(every.items()).items():
        note = "" if trained[group] == number else f"   {trained[group] / 1e6:,.2f} M of them trained"
        lines.append(f"  {group:<22} {number / 1e6:>10,.2f} M{note}")
    lines += [
        f"  {'all':<22} {sum(p.numel() for p in every.values()) / 1e6:>10,.2f} M", "",
        f"memory of one of {plan.gpus} processes, estimated",
        f"  {'optimiser states':<22} {memory.states / 1e9:>10,.2f} GB",
        f"  {'frozen parameters':<22} {memory.frozen / 1e9:>10,.2f} GB",
        f"  {'gathered parameters':<22} {memory.gathered / 1e9:>10,.2f} GB",
        f"  {'activations':<22} {memory.activations / 1e9:>10,.2f} GB"
        f"   {'recomputed every ' + str(parallel.recompute) if parallel.recompute else 'all kept'}",
        f"  {'all':<22} {memory.total / 1e9:>10,.2f} GB", "",
        f"work: {forward / 1e12:,.1f} TFLOP a forward of one clip, {update / 1e15:,.2f} PFLOP an update",
    ]
    peak = peak_flops(plan.gpu)
    if peak is None:
        raise ValueError(f"plan.gpu={plan.gpu}, its peak is not known; allowed are the names in --help")
    seconds = update / (plan.gpus * peak * plan.mfu)
    lines.append(f"time: {seconds:,.2f} s an update and {seconds * config.steps / 86400:,.1f} days in all on "
                 f"{plan.gpus} {plan.gpu} at {plan.mfu:.0%} of their peak (plan.gpus, plan.gpu, plan.mfu)")
    return "\n".join(lines)
