"""Why keys are scaled by (D·S)^(-1/2): a small network trained 50 steps with each key scale, frames of 22x40.

The paper's ablation at the size of a CPU. Writes benchmarks/results/stability.json and .md and
docs/images/key_scale.svg: how the scan's state grows from frame to frame at the starting values. A frame
applies I - KᵀΛK to the state; where an eigenvalue of KᵀΛK is above 2 the state grows, frame by frame.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F

from benchmarks.measure import ROOT, machine, write
from model.config import DiTConfig, KeyScale
from model.dit import SanaWM
from model.flow import noise_index, pose_denoising, velocity_loss
from model.initialise import initialise

GRID = (22, 40)
FRAMES = 16
RATE = 1e-4
COLOURS = {"dim_spatial": "#1a7f5a", "dim": "#c9820a", "none": "#c0392b"}
VIEW = (640, 300)


@dataclass
class Course:
    """Loss at every step; at the starting values the largest `eigenvalue` of a frame's erasure of any head,
    and the norm of the normaliser's `state` after every frame, in the head where it is largest."""

    key_scale: str
    eigenvalue: float
    state: list[float]
    loss: list[float] = field(default_factory=list)

    @property
    def broke_at(self) -> int | None:
        """First step whose loss is no finite number."""
        return next((i for i, value in enumerate(self.loss) if not math.isfinite(value)), None)


def train(key_scale: KeyScale, steps: int, frames: int = FRAMES) -> Course:
    """`steps` of AdamW from the starting values of model.md section 13, on one fixed clip of smooth noise."""
    torch.manual_seed(0)
    config = DiTConfig(depth=3, width=64, heads=4, latent_channels=16, caption_channels=16, caption_length=8,
                       softmax_blocks=(), key_scale=key_scale)
    network = SanaWM(config)
    initialise(network)
    clean = F.interpolate(torch.randn(1, 16, 2, 4, 5), (frames, *GRID), mode="trilinear")
    clean = clean / clean.std()
    caption = torch.randn(1, 8, 16)
    course = Course(key_scale, *growth(network, clean, caption))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    for _ in range(steps):
        question = pose_denoising(clean, torch.randn_like(clean), noise_index(torch.randn(1)), True)
        predicted = network(question.latents, question.timesteps, caption)
        loss = velocity_loss(predicted, question.target, question.counts).mean()
        course.loss.append(loss.item())
        if not math.isfinite(course.loss[-1]):
            break
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimiser.step()
    return course


@torch.no_grad()
def growth(network: SanaWM, latents: torch.Tensor, caption: torch.Tensor) -> tuple[float, list[float]]:
    """What the scan of the first block does to its normaliser, in float64, where nothing overflows."""
    attention = network.blocks[0].attn
    seen: list[torch.Tensor] = []
    hook = attention.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    network(latents, torch.full((1, latents.shape[2]), 500.0), caption)
    hook.remove()
    u, config = seen[0], network.config                                              # (1, T, S, d)
    k = F.relu(F.rms_norm(attention.qkv(u).chunk(3, -1)[1], u.shape[-1:]))
    k = (k * config.scaled_key(u.shape[2])).unflatten(-1, (config.heads, -1)).double()[0]    # (T, S, h, D)
    beta, decay = (gate.double()[0] for gate in attention.gates(u, None))            # (T, S, h), (T, h)
    erase = torch.einsum("tshi,tsh,tshj->thij", k, beta, k)
    write = torch.einsum("tshi,tsh->thi", k, beta)
    state, norms = torch.zeros_like(write[0]), []
    for t in range(len(k)):
        kept = state - torch.einsum("hij,hj->hi", erase[t], state)
        state = decay[t, :, None] * kept + write[t]
        norms.append(state.norm(dim=-1).max().item())
    return torch.linalg.eigvalsh(erase).max().item(), norms


def plot(courses: Sequence[Course]) -> str:
    """Size of the state after every frame on a logarithmic axis, as SVG."""
    (width, height), left, top = VIEW, 60, 16
    right, bottom = width - 110, height - 40
    largest = math.ceil(math.log10(max(max(course.state) for course in courses)))
    lowest = math.floor(math.log10(min(min(course.state) for course in courses)))

    def place(frame: int, value: float) -> tuple[float, float]:
        share = (math.log10(value) - lowest) / (largest - lowest)
        return left + frame / (FRAMES - 1) * (right - left), bottom - share * (bottom - top)

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" '
             f'font-family="sans-serif"><rect width="{width}" height="{height}" fill="#fff"/>']
    for power in range(lowest, largest + 1, max(1, (largest - lowest) // 6)):
        x, y = place(0, 10.0**power)
        parts.append(f'<path d="M{x} {y:.1f}H{right}" stroke="#ddd"/>'
                     f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">1e{power}</text>')
    for course in courses:
        name, points = course.key_scale, [place(i, v) for i, v in enumerate(course.state)]
        colour, beside = COLOURS[name], points[-1][1] + 4
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{right + 8}" y="{beside:.1f}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{(left + right) / 2}" y="{height - 10}" text-anchor="middle">'
                 "frame; up: norm of the scan's state</text></svg>")
    return "".join(parts) + "\n"


def page(courses: Sequence[Course], about: dict[str, object]) -> str:
    """The table as Markdown."""
    lines = ["# Key scale and stability", "", *(f"- {key}: {value}" for key, value in about.items()), "",
             f"{FRAMES} latent frames of {GRID[0]}x{GRID[1]} cells, three scanning blocks of width 64, the "
             "same starting values and noise for all, float32. Erasure and state are those of the first "
             "block at the starting values: where an eigenvalue is above 2, a frame overshoots what it "
             "corrects and the state grows from frame to frame until float32 ends.", "",
             "| key scale | largest eigenvalue of the erasure | state after the last frame | first loss | "
             "last loss | loss not finite at |", "|---|---|---|---|---|---|"]
    for course in courses:
        numbers = (course.eigenvalue, course.state[-1], course.loss[0], course.loss[-1])
        until = "never" if course.broke_at is None else f"step {course.broke_at}"
        lines.append(" | ".join([f"| {course.key_scale}", *(f"{x:.3g}" for x in numbers), f"{until} |"]))
    return "\n".join([*lines, "", "![Norm of the state](../../docs/images/key_scale.svg)", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="of the report")
    arguments = parser.parse_args()
    courses = [train(key_scale, arguments.steps) for key_scale in get_args(KeyScale)]
    about = machine("stability")
    results = {"about": about, "courses": [
        {"key_scale": c.key_scale, "eigenvalue": c.eigenvalue, "state": c.state, "not_finite_at": c.broke_at,
         "loss": [value if math.isfinite(value) else None for value in c.loss]} for c in courses]}
    write(arguments.out, "stability", results, page(courses, about))
    (ROOT / "docs" / "images" / "key_scale.svg").write_text(plot(courses))


if __name__ == "__main__":
    main()
