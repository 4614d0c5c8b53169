"""The Triton steps beside the torch ones, on a GPU or, run as a program, through Triton's interpreter; and
whether the kernels compile for a GPU that is not here.

`TRITON_INTERPRET=1 python -m tests.model.kernels compare` and `python -m tests.model.kernels build` print it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import Tensor

from model.camera import Rays, invert_rigid, ray_from_world
from model.gdn import GDNState, frame_gdn, prepare_and_scan
from model.gdn_prepare import RawTokens
from model.rope import Rotary, camera_turns, rotary_turns

CASES: dict[str, dict[str, Any]] = {
    "ready": {"batch": 2, "grid": (3, 1, 5), "heads": 2, "width": 6, "values": 9, "chunk_starts": (0, 1)},
    "ready, many tokens": {"batch": 1, "grid": (2, 7, 10), "heads": 1, "width": 20},
    "ready, numerator": {"batch": 1, "grid": (3, 1, 7), "heads": 2, "width": 16, "plain": False},
    "rotary": {"batch": 1, "grid": (3, 2, 3), "heads": 2, "width": 24, "chunk_starts": (0, 2)},
    "rays": {"batch": 1, "grid": (2, 2, 3), "heads": 2, "width": 16, "step": 0.1},
    "rays, long keys": {"batch": 1, "grid": (2, 5, 8), "heads": 1, "width": 16, "step": 4.0},
}
RUNS = [(name, "float32") for name in CASES]
RUNS += [(name, "bfloat16") for name in ("ready, many tokens", "rotary", "rays")]


def compare(name: str, dtype: str, device: str) -> dict[str, float]:
    """Largest difference of each result and gradient from torch's, over its largest value; and whether the
    kernels' are equal twice, bit for bit (1) or not (0)."""
    run = ready if name.startswith("ready") else raw
    kernels = "torch", "triton", "triton"
    expected, found, again = (run(CASES[name], getattr(torch, dtype), device, kernel) for kernel in kernels)
    differences = {}
    for key, value in expected.items():
        scale = value.float().abs().max().clamp(min=1e-30)
        differences[key] = float((found[key].float() - value.float()).abs().max() / scale)
    differences["equal twice"] = float(all(torch.equal(found[key], again[key]) for key in found))
    return differences


def ready(case: dict[str, Any], dtype: torch.dtype, device: str, kernel: str) -> dict[str, Tensor]:
    """Tokens as the scan takes them, a state to start from, chunks."""
    (batch, frames, number, heads, width), values = shape_of(case), case.get("values", case["width"])
    draw, scale = torch.Generator().manual_seed(0), 2 * (number * width) ** -0.5

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw)

    x = {"q": uniform(*shape_of(case)), "k": scale * uniform(*shape_of(case)),
         "v": uniform(batch, frames, number, heads, values) - 0.5,
         "beta": uniform(batch, frames, number, heads),
         "q_plain": uniform(*shape_of(case)), "k_plain": scale * uniform(*shape_of(case))}
    x = {name: value.to(dtype) for name, value in x.items()} | {
        "decay": uniform(batch, frames, heads), "matrix": uniform(batch, heads, width, values),
        "normaliser": uniform(batch, heads, width)}
    if not case.get("plain", True):
        x = {name: x[name] for name in ("q", "k", "v", "beta", "decay", "matrix")}
    x = {name: value.to(device).requires_grad_() for name, value in x.items()}
    state = GDNState(x["matrix"], x.get("normaliser"))
    given = {name: x[name] for name in x if name not in ("matrix", "normaliser")}
    return with_gradients(x, *frame_gdn(**given, state=state, kernel=kernel,
                                        chunk_starts=case.get("chunk_starts", (0,))))


def raw(case: dict[str, Any], dtype: torch.dtype, device: str, kernel: str) -> dict[str, Tensor]:
    """Projections, norms that flip signs, v a part of a wider tensor as in the network."""
    draw, (batch, frames, number, heads, width) = torch.Generator().manual_seed(0), shape_of(case)
    x = {name: torch.randn(shape_of(case), generator=draw) for name in "qk"}
    x["qkv"] = torch.randn(batch, frames, number, 3 * heads * width, generator=draw)
    x["beta"] = torch.rand(batch, frames, number, heads, generator=draw)
    x |= {name: torch.rand(heads * width, generator=draw) + 0.5 for name in ("q_weight", "k_weight")}
    x["q_weight"][1] *= -1
    x = {name: value.to(dtype) for name, value in x.items()} | {
        "decay": torch.rand(batch, frames, heads, generator=draw)}
    x = {name: value.to(device).requires_grad_() for name, value in x.items()}
    v = x["qkv"][..., 2 * heads * width :].unflatten(-1, (heads, width))
    tokens = RawTokens(x["q"], x["k"], v, x["beta"], x["q_weight"], x["k_weight"], encoding_of(case, device),
                       (number * width) ** -0.5, 1e-5)
    return with_gradients(x, *prepare_and_scan(tokens, x["decay"], kernel=kernel,
                                               chunk_starts=case.get("chunk_starts", (0,))))


def encoding_of(case: dict[str, Any], device: str) -> Rotary | Rays:
    """Rays of cameras `step` apart where the case has a step."""
    grid, width = case["grid"], case["width"]
    if "step" not in case:
        return Rotary(rotary_turns(grid, width).to(device, torch.complex64))
    conditions = torch.zeros(case["batch"], grid[0], 20)
    conditions[..., :16] = torch.eye(4).flatten()
    conditions[..., 3] = conditions[..., 7] = case["step"] * torch.arange(grid[0])
    conditions[..., 16:] = torch.tensor([2.0, 2.0, 1.0, 1.0])
    from_world = ray_from_world(conditions, *grid[1:]).unflatten(1, (grid[0], -1))
    matrices = [x.to(device, torch.float32) for x in (from_world, invert_rigid(from_world))]
    return Rays(*matrices, camera_turns(grid, width).to(device, torch.complex64))


def with_gradients(x: dict[str, Tensor], out: Tensor, end: GDNState) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
    loss = (out * weights).sum() + end.matrix.sin().sum()
    found = {"out": out.detach(), "matrix": end.matrix.detach()}
    if end.normaliser is not None:
        loss, found["normaliser"] = loss + end.normaliser.sin().sum(), end.normaliser.detach()
    gradients = torch.autograd.grad(loss, list(x.values()), allow_unused=True)
    return found | {f"by {name}": gradient for name, gradient in zip(x, gradients) if gradient is not None}


def shape_of(case: dict[str, Any]) -> tuple[int, int, int, int, int]:
    frames, height, width = case["grid"]
    return case["batch"], frames, height * width, case["heads"], case["width"]


def build() -> dict[str, int]:
    """Compiles every kernel as the released sizes launch it, for a GPU of compute capability 9.0, which need
    not be here: bytes of shared memory that each takes."""
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    class AbsentHopper(DriverBase):
        is_active = get_current_device = get_current_stream = staticmethod(lambda *_: 0)
        map_python_to_cpp_type = get_active_torch_device = get_benchmarker = staticmethod(lambda *_: None)

        def __init__(self) -> None:
            pass

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

    shared: dict[str, int] = {}
    launch = JITFunction.run

    def compile_only(kernel: Any, *values: Any, grid: Any, warmup: bool, **named: Any) -> None:
        compiled = launch(kernel, *values, grid=grid, warmup=True, **named)
        shared[f"{kernel.__name__} {named}"] = compiled.metadata.shared

    driver.set_active(AbsentHopper())
    JITFunction.run = compile_only
    for case in ({"step": 0.1}, {}):
        raw(case | {"batch": 1, "grid": (2, 4, 8), "heads": 2, "width": 112}, torch.bfloat16, "cpu", "triton")
    return shared


if __name__ == "__main__":
    if sys.argv[1] == "build":
        print(json.dumps(build()))
    else:
        print(json.dumps({", ".join(run): compare(*run, "cpu") for run in RUNS}))
