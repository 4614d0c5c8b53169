"""Work of the network in floating-point operations, a multiplication with an addition counted as two."""

from __future__ import annotations

from dataclasses import dataclass

from model.config import DiTConfig
from model.mask import Mask

PEAKS = {
    "A100": 312.0, "H100": 989.0, "H200": 989.0, "L40S": 362.0, "B200": 2250.0, "GB300": 2500.0,
    "RTX4090": 165.0, "RTX5090": 209.5,
}
"""TFLOP/s of vendors' dense bfloat16 with float32 accumulation."""


def forward_flops(
    config: DiTConfig, grid: tuple[int, int, int], tokens: int, mask: Mask, camera: bool = True,
) -> float:
    """One evaluation of the network for one clip of `grid` (T, h, w) latents and a caption of `tokens`.

    The products with weights, attention over tokens, scans and text; elementwise work is left out.
    """
    frames, height, width = grid
    space, d = height * width, config.width
    total = frames * space
    scans = config.depth - len(config.softmax_blocks)
    # q k v o gate; their camera twins and the Plücker map; text q o; FFN in, out and over time
    weights = 5 + 5 * camera + 2 + 3 * config.mlp_ratio + 3
    products = 2 * weights * d**2 * total * config.depth
    pairs = sum((end - start) * end for start, end in mask.bounds(frames)) * space**2
    softmax = len(config.softmax_blocks) * (1 + camera) * 4 * pairs * d
    head = config.head_width
    scan = 8 * head**2 * space + 4 * head**3 + camera * (6 * head**2 * space + 4 * head**3)
    text = 4 * total * tokens * d * config.depth
    return products + softmax + scans * frames * config.heads * scan + text


@dataclass(frozen=True)
class RefinerSizes:
    """Of the video half of an LTX-2 transformer with an adapter; `adapter` counts its parameters."""

    depth: int
    width: int
    caption_length: int
    adapter: int


def refiner_flops(sizes: RefinerSizes, grid: tuple[int, int, int], sink: int) -> float:
    """One evaluation for one clip of `grid` (T, h, w) latents, whose first `sink` frames, the reference, see
    themselves alone."""
    frames, space, d = grid[0], grid[1] * grid[2], sizes.width
    total = frames * space
    products = 2 * (14 * d**2 * sizes.depth + sizes.adapter) * total  # q k v o, q o of text, FFN of 4 d
    pairs = (sink**2 + (frames - sink) * frames) * space**2
    text = sizes.depth * sizes.caption_length * (2 * 2 * d**2 + 4 * d * total)
    return products + 4 * pairs * d * sizes.depth + text


def training_flops(forward: float) -> float:
    """Of an update for one clip: the gradient costs two forward passes. Recomputation is not counted."""
    return 3 * forward


def peak_flops(gpu: str) -> float | None:
    """FLOP/s of a GPU by its name, as torch or a user gives it; None where it is not known."""
    name = gpu.upper().replace(" ", "")
    return next((peak * 1e12 for known, peak in PEAKS.items() if known in name), None)
