"""What a run needs of a card's memory, part by part, from its settings alone: computed, not measured.

Sizes of released parts are those of docs/model.md; of other networks they are read from their config.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dataset.rays import latent_frames, snap_frames
from infer.camera import DEFAULT_FRAMES, find_path
from infer.config import InferConfig
from infer.sampler import Kind
from model.config import DiTConfig

CARDS_GB = (24, 32, 80)
_BILLIONS = {"text encoder": 2.61, "autoencoder": 1.22, "refiner": 11.3, "refiner's text encoder": 12.2}
"""Parameters of the released parts; the audio half of LTX-2 is never loaded."""
_STREAMS = 12
"""Tensors as wide as the tokens that a block holds at its fullest, beside the inner maps of its FFN."""
_INNER_ELEMENTS = 3 << 27
"""Of the inner maps, which are made a part at a time, and what is made of them."""
_REFINER = {"width": 4096, "layers": 48, "window": 11}


@dataclass(frozen=True)
class Part:
    """A part of a run, the gigabytes (10^9 bytes) it needs, and whether only while the prompt is read."""

    name: str
    gb: float
    reads_prompt: bool = False


def parts(config: InferConfig, network: DiTConfig, parameters: int, frames: int) -> list[Part]:
    """What a run of `frames` latent frames holds."""
    whole = 4 if config.dtype == "float32" or config.device == "cpu" else 2
    stride = 32 if not (config.codec or "").startswith("dct") else int((config.codec or "")[3:])
    cells = (config.size[0] // stride) * (config.size[1] // stride)
    sampler, found = config.sampler, [Part("network", parameters * whole / 1e9)]
    if config.text != "hash":
        found.append(Part("text encoder", _BILLIONS["text encoder"] * whole, reads_prompt=True))
    if not (config.codec or sampler.codec).startswith("dct"):
        found.append(Part("autoencoder", _BILLIONS["autoencoder"] * whole))
    at_once = frames
    if sampler.kind is Kind.distilled:
        at_once = sampler.chunk + frames % sampler.chunk
        kept = frames if sampler.window is None else min(frames, (sampler.window + 1) * sampler.chunk + 2)
        keys = 4 * len(network.softmax_blocks) * kept * cells * network.width * whole
        states = 2 * (network.depth - len(network.softmax_blocks)) * network.heads * network.head_width**2 * 4
        found.append(Part("what the stream remembers", (keys + states) / 1e9))
    tokens = at_once * cells * network.width * whole
    inner = min(_INNER_ELEMENTS, 6 * round(network.mlp_ratio) * at_once * cells * network.width) * whole
    found.append(Part("denoising", (_STREAMS * tokens + inner) / 1e9))
    if config.refiner != "none":
        seen = (_REFINER["window"] + 3) * cells * _REFINER["width"] * whole
        found += [Part("refiner", _BILLIONS["refiner"] * whole),
                  Part("refiner's window", (2 * _REFINER["layers"] + 16) * seen / 1e9),
                  Part("refiner's text encoder", _BILLIONS["refiner's text encoder"] * whole,
                       reads_prompt=True)]
    return found


def peak(found: list[Part], offload: bool) -> float:
    """Gigabytes at most: everything, or with `offload` the prompt's readers one at a time before the rest
    begins to work."""
    stays = sum(part.gb for part in found if not part.reads_prompt)
    readers = [part.gb for part in found if part.reads_prompt]
    if not offload:
        return stays + sum(readers)
    working = sum(part.gb for part in found if part.name in ("denoising", "what the stream remembers",
                                                             "refiner's window"))
    return max(stays, stays - working + max(readers, default=0.0))


def describe_plan(config: InferConfig) -> str:
    """A table of parts, the peak, and which cards hold it. Raises ValueError for a path it cannot read."""
    streaming = config.sampler.streams
    camera = config.camera or config.action
    if camera is None:
        count = snap_frames(config.frames or DEFAULT_FRAMES, 1 << 30, streaming)
    else:
        count = len(find_path(camera, config.path, config.frames, streaming))
    network = _sizes(config.model or config.sampler.model)
    found = parts(config, network, _parameters(network), latent_frames(count))
    lines = [f"{count} frames of {config.size[1]} x {config.size[0]}, {config.sampler.kind.name}; "
             "computed, not measured", ""]
    lines += [f"  {part.name:28} {part.gb:7.1f} GB{'  while it reads the prompt' * part.reads_prompt}"
              for part in found]
    both = {False: peak(found, False), True: peak(found, True)}
    lines += ["", f"  {'all on the card':28} {both[False]:7.1f} GB",
              f"  {'offload=true':28} {both[True]:7.1f} GB", ""]
    for card in CARDS_GB:
        room = card * 0.92
        if both[False] <= room:
            says = "fits"
        elif both[True] <= room:
            says = "fits with offload=true"
        else:
            says = _advice(config, both[True] - room)
        lines.append(f"  a card of {card} GB: {says}")
    return "\n".join(lines)


def _advice(config: InferConfig, over: float) -> str:
    ways = []
    if config.refiner != "none":
        ways.append("refiner=none")
    if config.sampler.kind is not Kind.distilled:
        ways.append("sampler=distilled")
    ways.append("a smaller size or fewer frames")
    return f"too small by {over:.1f} GB even with offload=true; try {', '.join(ways)}"


def _sizes(source: str) -> DiTConfig:
    """Of a folder with a config.json, else the released ones."""
    about = Path(source).expanduser() / "config.json"
    return DiTConfig.from_json(json.loads(about.read_text()), str(about)) if about.is_file() else DiTConfig()


def _parameters(config: DiTConfig) -> int:
    import torch

    from model.dit import SanaWM

    with torch.device("meta"):
        return sum(p.numel() for p in SanaWM(config).parameters())
