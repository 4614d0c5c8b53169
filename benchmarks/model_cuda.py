"""The released size on an NVIDIA GPU: one forward of a minute of 720p, T = 121 of 22 x 40, in bfloat16.

Beside diffusers' model, an all-softmax twin and, for the scan alone, the token-wise gated delta rule of
flash-linear-attention (another function of the same inputs: a lower bound of what its kernels could do here).
Efficiency is against data-sheet limits and against what this GPU does with one large product and one copy.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import Measured, compare, machine, write
from benchmarks.model_cases import random_inputs, their_arguments
from model.config import DiTConfig
from model.diffusers import to_diffusers
from model.dit import SanaWM

GRID = (121, 22, 40)
SUSTAINED = {"H100": 790e12, "H200": 790e12, "GB300": 2000e12}
"""Dense bfloat16 FLOP/s a GPU is assumed to sustain."""
DELTA_RULE = "flash-linear-attention, token-wise, two passes"


@dataclass(frozen=True)
class Case:
    """One contender. `tflop`, `gigabytes`: of the work it stands for, its inputs and output moved once.
    `measured`: None with the reason in `absent`."""

    name: str
    tflop: float
    gigabytes: float
    measured: Measured | None
    cold_s: float | None = None
    absent: str = ""


def run_cuda(out: Path, repetitions: int) -> None:
    """Measure, print one table, write one JSON."""
    config = DiTConfig.sana_wm_2b6()
    peaks = {"product_flops": _product_peak(), "copy_bytes": _copy_peak(),
             "difference_from_diffusers": _difference(config)}
    cases = [*_forwards(config, repetitions), *_scans(config, repetitions)]
    about = {**machine("model"), "grid": list(GRID), "dtype": "bfloat16", "repetitions": repetitions, **peaks}
    write(out, "model_cuda", {"machine": about, "cases": [asdict(case) for case in cases]},
          _report(about, cases))


def flops(config: DiTConfig, grid: tuple[int, int, int]) -> float:
    """Floating-point operations of one forward with camera and Plücker inputs."""
    frames, tokens = grid[0], grid[1] * grid[2]
    width, heads, head = config.width, config.heads, config.head_width
    softmax = len(config.softmax_blocks)
    products = 2 * (15 + 3 * config.mlp_ratio) * width**2 * frames * tokens * config.depth
    attention = 2 * 4 * (frames * tokens) ** 2 * width * softmax
    caption = 4 * frames * tokens * config.caption_length * width * config.depth
    scans = scan_flops(frames, tokens, heads, head) + 2 * head**2 * tokens * frames * heads
    scans += scan_flops(frames, tokens, heads, head)
    return products + attention + caption + scans * (config.depth - softmax)


def scan_flops(frames: int, tokens: int, heads: int, head: int) -> float:
    """Of the numerator of one branch, both directions: sums over tokens, recurrence, read-out."""
    return frames * heads * (6 * head**2 * tokens + 4 * head**3)


def _forwards(config: DiTConfig, repetitions: int) -> list[Case]:
    """The whole network, one contender on the device at a time where two do not fit."""
    inputs = [x.cuda() for x in random_inputs(config, GRID)]
    positional, named = their_arguments([x.bfloat16() for x in inputs])
    twin = replace(config, softmax_blocks=tuple(range(config.depth)))
    builders: list[tuple[str, DiTConfig, Callable[[], Callable[[], object]]]] = [
        ("ours", config, lambda: _call(_network(config), inputs)),
        ("ours, compiled", config, lambda: _call(torch.compile(_network(config)), inputs)),
        ("diffusers", config, lambda: _call(to_diffusers(_network(config)), positional, named)),
        ("ours, softmax in every block", twin, lambda: _call(_network(twin), inputs)),
    ]
    found = []
    for name, its_config, build in builders:
        weights = sum(p.numel() for p in _on_meta(its_config).parameters()) * 2 / 1e9
        found.append(_measure(name, flops(its_config, GRID) / 1e12, weights, build, repetitions))
        print(_line(found[-1]), flush=True)
    return found


def _scans(config: DiTConfig, repetitions: int) -> list[Case]:
    """One scanning branch alone on inputs as the network makes them: q and k after ReLU, k scaled."""
    frames, tokens = GRID[0], GRID[1] * GRID[2]
    shape = (1, frames, tokens, config.heads, config.head_width)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    q, k = q.relu(), k.relu() * config.scaled_key(tokens)
    beta = torch.rand(shape[:-1], device="cuda", dtype=torch.bfloat16)
    decay = 0.9 + 0.1 * torch.rand(1, frames, config.heads, device="cuda")
    tflop = scan_flops(frames, tokens, config.heads, config.head_width) / 1e12

    def ours(kernel: str) -> Callable[[], object]:
        from model.gdn import frame_gdn

        return lambda: frame_gdn(q, k, v, beta, decay, kernel=kernel)

    def token_wise() -> Callable[[], object]:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule

        flat = [x.flatten(1, 2).contiguous() for x in (q, k, v)]
        gate = torch.zeros(1, frames, tokens, config.heads, device="cuda")
        gate[:, :, 0] = decay.log()
        strength = beta.flatten(1, 2).contiguous()

        def both() -> None:
            for direction in (flat, [x.flip(1) for x in flat]):
                chunk_gated_delta_rule(*direction, g=gate.flatten(1, 2), beta=strength, scale=1.0)
        return both

    builders = [("scan, Triton", lambda: ours("triton")), ("scan, torch", lambda: ours("torch")),
                (DELTA_RULE, token_wise)]
    found = []
    for name, build in builders:
        found.append(_measure(name, tflop, 4 * q.numel() * 2 / 1e9, build, repetitions))
        print(_line(found[-1]), flush=True)
    return found


@torch.no_grad()
def _measure(
    name: str, tflop: float, gigabytes: float, build: Callable[[], Callable[[], object]], repetitions: int,
) -> Case:
    """Cold: the first call, which compiles. A contender that is not installed or does not fit says so."""
    try:
        run = build()
        torch.cuda.synchronize()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        cold_s = start.elapsed_time(end) / 1e3
        return Case(name, tflop, gigabytes, compare([run], repetitions, "cuda")[0], cold_s)
    except (ImportError, torch.cuda.OutOfMemoryError) as error:
        return Case(name, tflop, gigabytes, None, absent=str(error).splitlines()[0])
    finally:
        run = None  # type: ignore[assignment]
        gc.collect()
        torch.cuda.empty_cache()


def _on_meta(config: DiTConfig) -> SanaWM:
    with torch.device("meta"):
        return SanaWM(config)


def _network(config: DiTConfig) -> SanaWM:
    """On the device from the start, with weights of the size training has."""
    with torch.device("cuda"):
        network = SanaWM(config).bfloat16()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return network.requires_grad_(False)


@torch.no_grad()
def _difference(config: DiTConfig) -> float:
    """RMS of the difference between our output and diffusers' on the same weights, over theirs, T = 11."""
    network = _network(config)
    inputs = [x.cuda() for x in random_inputs(config, (11, *GRID[1:]))]
    positional, named = their_arguments([x.bfloat16() for x in inputs])
    theirs = to_diffusers(network)(*positional, **named)[0].float()
    return float((network(*inputs).float() - theirs).norm() / theirs.norm())


def _call(
    network: Callable[..., object], positional: list[Tensor], named: dict[str, Any] | None = None,
) -> Callable[[], object]:
    return lambda: network(*positional, **(named or {}))


def _product_peak(size: int = 8192) -> float:
    """FLOP/s of one large bfloat16 product."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / compare([lambda: a @ b], 20, "cuda")[0].seconds


def _copy_peak(size: int = 2**30) -> float:
    """Bytes read and written a second by one large copy."""
    a = torch.empty(size, device="cuda", dtype=torch.uint8)
    b = torch.empty_like(a)
    return 2 * size / compare([lambda: b.copy_(a)], 20, "cuda")[0].seconds


def _report(about: dict[str, Any], cases: Sequence[Case]) -> str:
    gpu = about.get("gpu", "")
    planned = next((value for name, value in SUSTAINED.items() if name in gpu), None)
    lines = ["# The released size on a GPU", "", *(f"- {key}: {value}" for key, value in about.items()), "",
             f"One forward at T = {GRID[0]} of {GRID[1]} x {GRID[2]} tokens. Of the limit: of the time the "
             "operations would take at the sustained rate assumed for this GPU, and at the rate of one large "
             "product measured in this run; of the copy: of the time its bytes would take at the rate of one "
             "large copy, which bounds the scan. The first call is apart: it compiles.", "",
             "| contender | TFLOP | GB | first call s | s | spread | peak MB | of the assumed limit "
             "| of the measured one | of the copy |", "|---|---|---|---|---|---|---|---|---|---|"]
    for case in cases:
        if case.measured is None:
            lines.append(f"| {case.name} | {case.tflop:.2f} | | not measured: {case.absent} | | | | | | |")
            continue
        rate = case.tflop * 1e12 / case.measured.seconds
        limit = "–" if planned is None else f"{rate / planned:.0%}"
        copied = case.gigabytes * 1e9 / case.measured.seconds / about["copy_bytes"]
        lines.append(f"| {case.name} | {case.tflop:.2f} | {case.gigabytes:.2f} | {case.cold_s:.2f} "
                     f"| {case.measured.seconds:.4f} "
                     f"| {case.measured.spread:.0%} | {case.measured.peak_mb:.0f} | {limit} "
                     f"| {rate / about['product_flops']:.0%} | {copied:.0%} |")
    return "\n".join(lines) + "\n"


def _line(case: Case) -> str:
    if case.measured is None:
        return f"{case.name:50} not measured: {case.absent}"
    return (f"{case.name:50} {case.measured.seconds:9.4f} s   peak {case.measured.peak_mb:9.0f} MB   "
            f"{case.tflop / case.measured.seconds:7.1f} TFLOP/s")
