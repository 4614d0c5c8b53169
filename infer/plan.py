"""What a run needs of a card's memory, part by part, from its settings alone: computed, not measured.

Sizes of released parts are those of docs/model.md; of other networks they are read from their config.json.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from dataset.rays import latent_frames, snap_frames
from infer.camera import DEFAULT_FRAMES, find_path
from infer.config import InferConfig
from infer.load import Sources, find_sources
from infer.offload import Offload
from infer.precision import Precision, PrecisionConfig, transformer_linears
from infer.refine import RefineMode
from infer.sampler import Kind, SamplerConfig
from model.config import DiTConfig

CARDS_GB = (24, 32, 80)
_ROOM = 0.92
"""Of a card, what its driver and torch's own leave."""
_BILLIONS = {"text encoder": (2.61, 2.02, 26), "refiner": (13.04, 12.88, 48),
             "refiner's text encoder": (12.9, 11.2, 48)}
"""Parameters of the released parts, those of them in linear layers of blocks, and the number of blocks. The
audio half of LTX-2 and the eyes of Gemma-3 are never loaded."""
_AUTOENCODER = 1.22
_STREAMS = 12
"""Tensors as wide as the tokens that a block holds at its fullest, beside the inner maps of its FFN."""
_INNER_ELEMENTS = 3 << 27
"""Of the inner maps, which are made a part at a time, and what is made of them."""
_REFINER_WIDTH, _REFINER_STREAMS = 4096, 16
_DECODER = {"channels": 128, "cell": 4, "tensors": 4, "tile": 96, "chunk": 24}
"""The autoencoder's last maps: channels, pixels of a cell, how many at once, and their frames."""


@dataclass(frozen=True)
class Part:
    """A part of a run. gb: of weights (10^9 bytes); block_gb: of what `sequential` holds of them; works_gb:
    what it needs while it works; reads_prompt: whether it is used only before the video begins."""

    name: str
    gb: float
    block_gb: float
    works_gb: float = 0.0
    reads_prompt: bool = False


def parts(config: InferConfig, sources: Sources, network: DiTConfig, frames: int) -> list[Part]:
    """What a run of `frames` latent frames holds."""
    whole = 4 if config.dtype == "float32" or (config.dtype == "auto" and config.device == "cpu") else 2
    cosine = sources.codec.startswith("dct")
    stride = int(sources.codec[3:]) if cosine else 32
    cells = (config.size[0] // stride) * (config.size[1] // stride)
    parameters, linears = _parameters(network)
    precision, found = config.precision, []

    def add(name: str, counts: tuple[float, float, int], bits: Precision, works: float = 0.0,
            reads: bool = False) -> None:
        total, in_linears, blocks = counts
        bytes_of = whole if bits is Precision.bf16 else bits.bits / 8
        gb, rest = in_linears * bytes_of, (total - in_linears) * whole
        found.append(Part(name, gb + rest, 2 * gb / blocks + rest, works, reads))

    if sources.text != "hash":
        add("text encoder", _BILLIONS["text encoder"], precision.text, reads=True)
    if sources.refiner is not None:
        add("refiner's text encoder", _BILLIONS["refiner's text encoder"], precision.text, reads=True)
    add("network", (parameters / 1e9, linears / 1e9, network.depth), precision.network,
        _denoising_gb(config.sampler, network, frames, cells, whole))
    if sources.refiner is not None:
        mode = config.refine.mode
        at_once = frames if mode is RefineMode.whole else config.refine.window + config.refine.block
        kept = 0 if mode is RefineMode.whole else 2 * _BILLIONS["refiner"][2]
        works = (kept + _REFINER_STREAMS) * at_once * cells * _REFINER_WIDTH * whole / 1e9
        add("refiner", _BILLIONS["refiner"], precision.refiner, works)
    video = (8 * (frames - 1) + 1) * config.size[0] * config.size[1] * 3 * (4 + whole) / 1e9
    if cosine:
        found.append(Part("codec", 0.0, 0.0))
    else:
        streams = config.sampler.kind is not Kind.bidirectional
        at_once = _DECODER["chunk"] if streams else min(_DECODER["tile"], 8 * frames)
        maps = _DECODER["tensors"] * _DECODER["channels"] * at_once * whole
        works = maps * (config.size[0] // _DECODER["cell"]) * (config.size[1] // _DECODER["cell"]) / 1e9
        weights = _AUTOENCODER * whole
        found.append(Part("autoencoder", weights, weights, works + (0.0 if streams else video)))
    return found


def peak(found: Sequence[Part], offload: Offload) -> float:
    """Gigabytes at most. `text`: the prompt's readers one at a time before the rest begins to work; `model`:
    each part alone; `sequential`: alone, and two of its blocks at a time."""
    readers = [part for part in found if part.reads_prompt]
    workers = [part for part in found if not part.reads_prompt]
    stays, works = sum(part.gb for part in workers), sum(part.works_gb for part in workers)
    if offload is Offload.none:
        return stays + works + sum(part.gb for part in readers)
    if offload is Offload.text:
        return stays + max(works, max((part.gb for part in readers), default=0.0))
    if offload is Offload.model:
        return max(part.gb + part.works_gb for part in found)
    return max(part.block_gb + part.works_gb for part in found)


def describe_plan(config: InferConfig) -> str:
    """A table of parts, the peak, and what to switch on for which card. Raises ValueError for a path or a
    network it cannot read."""
    streaming = config.sampler.streams
    camera = config.camera or config.action
    if camera is None:
        count = snap_frames(config.frames or DEFAULT_FRAMES, 1 << 30, streaming)
    else:
        count = len(find_path(camera, config.path, config.frames, streaming))
    sources = find_sources(config.sampler, config.model, config.codec, config.text, config.refiner)
    network, frames = _sizes(sources.network), latent_frames(count)
    found = parts(config, sources, network, frames)
    lines = [f"{count} frames of {config.size[1]} x {config.size[0]}, {config.sampler.kind.name}; "
             "computed, not measured", "", f"  {'':28} {'weights':>10} {'at work':>10}"]
    lines += [f"  {part.name:28} {part.gb:7.1f} GB {part.works_gb:7.1f} GB"
              f"{'  while it reads the prompt' * part.reads_prompt}" for part in found]
    lines += ["", "  peak"]
    lines += [f"  {f'offload={offload.value}':28} {peak(found, offload):7.1f} GB"
              f"{'  as asked' * (offload is config.offload)}" for offload in Offload]
    lines.append("")
    for card in CARDS_GB:
        lines.append(f"  a card of {card} GB: {_advice(config, sources, network, frames, card * _ROOM)}")
    return "\n".join(lines)


def _advice(config: InferConfig, sources: Sources, network: DiTConfig, frames: int, room: float) -> str:
    """The least that has to be switched on, in the order of what it costs in time and likeness."""
    rounded = PrecisionConfig(Precision.int8, Precision.int8, Precision.int8)
    lowest = float("inf")
    for says, offload, precision in (
        ("", config.offload, config.precision),
        ("offload=text", Offload.text, config.precision),
        ("offload=text precision=int8", Offload.text, rounded),
        ("offload=model", Offload.model, config.precision),
        ("offload=model precision=int8", Offload.model, rounded),
        ("offload=sequential", Offload.sequential, config.precision),
        ("offload=sequential precision=int8", Offload.sequential, rounded),
    ):
        changed = replace(copy.copy(config), precision=precision)
        needed = peak(parts(changed, sources, network, frames), offload)
        lowest = min(lowest, needed)
        if needed <= room:
            return f"fits{f' with {says}' * bool(says)}, {needed:.1f} GB"
    ways = ["refine.mode=blocks"] * (config.refine.mode is not RefineMode.blocks) if sources.refiner else []
    if config.sampler.kind is not Kind.distilled:
        ways.append("sampler=distilled")
    ways.append("a smaller size or fewer frames")
    return f"too small by {lowest - room:.1f} GB whatever is switched on; try {', '.join(ways)}"


def _denoising_gb(
    sampler: SamplerConfig, network: DiTConfig, frames: int, cells: int, whole: int,
) -> float:
    """While the network works: tokens, inner maps, and what a stream remembers."""
    remembered, at_once = 0.0, frames
    if sampler.kind is Kind.distilled:
        at_once = sampler.chunk + frames % sampler.chunk
        kept = frames if sampler.window is None else min(frames, (sampler.window + 1) * sampler.chunk + 2)
        keys = 4 * len(network.softmax_blocks) * kept * cells * network.width * whole
        states = 2 * (network.depth - len(network.softmax_blocks)) * network.heads * network.head_width**2 * 4
        remembered = keys + states
    tokens = at_once * cells * network.width * whole
    inner = min(_INNER_ELEMENTS, 6 * round(network.mlp_ratio) * at_once * cells * network.width) * whole
    return (_STREAMS * tokens + inner + remembered) / 1e9


def _sizes(source: str) -> DiTConfig:
    """Of a folder with a config.json, else the released ones."""
    about = Path(source).expanduser() / "config.json"
    return DiTConfig.from_json(json.loads(about.read_text()), str(about)) if about.is_file() else DiTConfig()


@lru_cache(maxsize=4)
def _parameters(config: DiTConfig) -> tuple[int, int]:
    """Of the network, and of its linear layers in blocks."""
    import torch

    from model.dit import SanaWM

    with torch.device("meta"):
        network = SanaWM(config)
    linears = sum(network.get_parameter(f"{name}.weight").numel() for name in transformer_linears(network))
    return sum(p.numel() for p in network.parameters()), linears
