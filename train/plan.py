"""What a run would take, without running it: parameters by group, memory, work and days (dry_run=true)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from dataset.rays import latent_frames
from model.config import DiTConfig
from model.mask import Mask
from train.config import TrainConfig
from train.flops import RefinerSizes, forward_flops, peak_flops, refiner_flops, training_flops
from train.objectives import FlowMatching, Member

Grid = tuple[int, int, int]

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
REFINER_GROUPS = (
    ("adapter", r".*\.lora_[AB]\."),
    ("self-attention", r".*\.attn1\."),
    ("text", r".*(\.attn2\.|caption_projection\.)"),
    ("feed-forward", r".*\.ff\."),
    ("embeddings and output", r".*"),
)
"""The same of the refiner."""
BLOCK_TENSORS = 59
"""(N, d) maps that the gradient of a block needs: so many were counted in float32 on a CPU for a block that
scans, and 50 for one with softmax attention."""
REFINER_TENSORS = 24
"""The same of a block of the refiner, whose weights are frozen."""
_BLOCKS = re.compile(r"(transformer\.transformer_)?blocks\.")
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


def parameter_groups(
    named: Iterable[tuple[str, Tensor]], groups: Sequence[tuple[str, str]] = GROUPS,
) -> dict[str, int]:
    """Number of parameters in each of `groups`."""
    found = {group: 0 for group, _ in groups}
    for name, p in named:
        found[next(group for group, pattern in groups if re.match(pattern, name))] += p.numel()
    return found


def estimate_memory(
    member: Member, model: DiTConfig | RefinerSizes, tokens: int, config: TrainConfig, ranks: int,
    width: int,
) -> Memory:
    """tokens: of all clips of a batch in one process. ranks: that share parameters.
    width: bytes of an activation."""
    is_refiner = isinstance(model, RefinerSizes)
    trained = sum(p.numel() for p in member.module.parameters() if p.requires_grad)
    every = sum(p.numel() for p in member.module.parameters())
    per = _MASTER + _GRADIENT + _ADAM + (_MEAN if config.ema.decay else 0)
    blocks = sum(p.numel() for name, p in member.module.named_parameters() if _BLOCKS.match(name))
    block = blocks / model.depth
    size = tokens * model.width * width
    every_so_many = config.parallel.recompute
    kept = model.depth / every_so_many if every_so_many else 0
    whole = model.depth - kept
    tensors = REFINER_TENSORS if is_refiner else BLOCK_TENSORS
    activations = size * (kept + (whole or 1) * tensors)
    frozen = (every - trained) * (width if config.lora.rank or is_refiner else 4)
    return Memory(trained * per / ranks, frozen / ranks, (2 * block + every - blocks) * width, activations)


@dataclass(frozen=True)
class Planned:
    """One network of a stage, by names and shapes alone."""

    name: str
    member: Member
    model: DiTConfig | RefinerSizes


@dataclass(frozen=True)
class Work:
    """FLOPs of one clip: of a forward as most are made, of an update on average, and of what is done once."""

    forward: float
    update: float
    once: float = 0.0


def describe_plan(config: TrainConfig, networks: Sequence[Planned], objective: str) -> str:
    """The text that dry_run=true prints. objective: "flow", "ode", "self_forcing" or "refiner"."""
    plan, parallel = config.plan, config.parallel
    if plan.gpus % parallel.context:
        raise ValueError(f"plan.gpus={plan.gpus} with parallel.context={parallel.context}, expected a "
                         "multiple of it; set parallel.context=1 for a plan of one GPU")
    peak = peak_flops(plan.gpu)
    if peak is None:
        raise ValueError(f"plan.gpu={plan.gpu}, its peak is not known; allowed are the names in --help")
    pictures = plan.frames or max(config.data.frames)
    frames = latent_frames(pictures)
    grid = (frames, plan.size[0] // config.data.cell, plan.size[1] // config.data.cell)
    clips = plan.gpus // parallel.context * config.data.batch_size * config.accumulate
    tokens = config.data.batch_size * -(-frames // parallel.context) * grid[1] * grid[2]
    lines = [f"stage {config.stage.name}: {config.steps:,} updates of {clips} clips of {pictures} frames, "
             f"{plan.size[1]}x{plan.size[0]}, {frames} x {grid[1]} x {grid[2]} latents"]
    for network in networks:
        lines += ["", "parameters" if len(networks) == 1 else f"parameters of the {network.name}",
                  *_parameters(network)]
    lines += ["", f"memory of one of {plan.gpus} processes, estimated", *_memory(config, networks, tokens)]
    work = _WORK[objective](config, networks, grid)
    lines += ["", f"work: {work.forward / 1e12:,.1f} TFLOP a forward of one clip, "
                  f"{clips * work.update / 1e15:,.2f} PFLOP an update"]
    if work.once:
        lines.append(f"      and {work.once / 1e15:,.2f} PFLOP for each clip when it is first met")
    seconds = clips * work.update / (plan.gpus * peak * plan.mfu)
    lines.append(f"time: {seconds:,.2f} s an update and {seconds * config.steps / 86400:,.1f} days in all on "
                 f"{plan.gpus} {plan.gpu} at {plan.mfu:.0%} of their peak (plan.gpus, plan.gpu, plan.mfu)")
    return "\n".join(lines)


def _parameters(network: Planned) -> list[str]:
    every = dict(network.member.module.named_parameters())
    groups = REFINER_GROUPS if isinstance(network.model, RefinerSizes) else GROUPS
    trained = parameter_groups(((name, p) for name, p in every.items() if p.requires_grad), groups)
    lines = []
    for group, number in parameter_groups(every.items(), groups).items():
        note = "" if trained[group] == number else f"   {trained[group] / 1e6:,.2f} M of them trained"
        lines.append(f"  {group:<22} {number / 1e6:>10,.2f} M{note}")
    return [*lines, f"  {'all':<22} {sum(p.numel() for p in every.values()) / 1e6:>10,.2f} M"]


def _memory(config: TrainConfig, networks: Sequence[Planned], tokens: int) -> list[str]:
    """States of all networks lie there at once; whole blocks and activations are one network's at a time."""
    parallel = config.parallel
    width = 4 if parallel.compute == "float32" else 2
    each = [estimate_memory(network.member, network.model, tokens, config, config.plan.gpus, width)
            for network in networks]
    trained = [memory for network, memory in zip(networks, each) if network.member.trained]
    memory = Memory(sum(one.states for one in each), sum(one.frozen for one in each),
                    max(one.gathered for one in each), max(one.activations for one in trained))
    recomputed = f"recomputed every {parallel.recompute}" if parallel.recompute else "all kept"
    return [f"  {'optimiser states':<22} {memory.states / 1e9:>10,.2f} GB",
            f"  {'frozen parameters':<22} {memory.frozen / 1e9:>10,.2f} GB",
            f"  {'gathered parameters':<22} {memory.gathered / 1e9:>10,.2f} GB",
            f"  {'activations':<22} {memory.activations / 1e9:>10,.2f} GB   {recomputed}",
            f"  {'all':<22} {memory.total / 1e9:>10,.2f} GB"]


def _flow_work(config: TrainConfig, networks: Sequence[Planned], grid: Grid) -> Work:
    [network] = networks
    forward = _forward(network, grid, FlowMatching(config.flow).mask(grid[0]), config.flow.camera)
    return Work(forward, training_flops(forward))


def _ode_work(config: TrainConfig, networks: Sequence[Planned], grid: Grid) -> Work:
    """Once, the teacher's path: its chunks begin one `interval` of the schedule after another, and what is
    behind the last one begun is not evaluated, which is reckoned as half."""
    student, teacher = networks
    mask = Mask.chunk_causal(grid[0], config.ode.chunk)
    chunks = len(mask.chunk_starts)
    interval = config.ode.interval or 1 / chunks
    levels = config.ode.steps + len(config.ode.timesteps) - 2
    waiting = levels * interval * (chunks - 1)
    evaluations = (levels + waiting / 2) * (1 + (config.ode.guidance > 1))
    forward = _forward(student, grid, mask)
    return Work(forward, training_flops(forward), evaluations * _forward(teacher, grid, mask))


def _self_forcing_work(config: TrainConfig, networks: Sequence[Planned], grid: Grid) -> Work:
    """A rollout evaluates each chunk up to a level drawn for all, and once more for the cache; one evaluation
    has a gradient, when it is the generator's turn."""
    generator, critic, teacher = networks
    own = config.self_forcing
    streamed = _forward(generator, grid, Mask.chunk_causal(grid[0], own.chunk))
    whole = {name: _forward(network, grid, Mask.bidirectional())
             for name, network in (("critic", critic), ("teacher", teacher))}
    rollout = (len(own.timesteps) / 2 + 1) * streamed
    of_critic = rollout + training_flops(whole["critic"])
    score = (1 + (own.guidance > 1)) * whole["teacher"] + whole["critic"]
    of_generator = rollout + training_flops(streamed) - streamed + score
    return Work(streamed, of_critic + of_generator / own.generator_every)


def _refiner_work(config: TrainConfig, networks: Sequence[Planned], grid: Grid) -> Work:
    """The gradient passes the frozen weights once; only those of the adapter need a second product."""
    [network] = networks
    assert isinstance(network.model, RefinerSizes)
    forward = refiner_flops(network.model, grid, config.refiner.sink)
    return Work(forward, 2 * forward + 2 * network.model.adapter * grid[0] * grid[1] * grid[2])


_WORK = {"flow": _flow_work, "ode": _ode_work, "self_forcing": _self_forcing_work, "refiner": _refiner_work}


def _forward(network: Planned, grid: Grid, mask: Mask, camera: bool = True) -> float:
    assert isinstance(network.model, DiTConfig)
    return forward_flops(network.model, grid, network.model.caption_length, mask, camera)
