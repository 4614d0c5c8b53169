"""What a stream of chunks carries from one to the next: scan states, convolution tails, key/value windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.gdn import GDNState
from model.mask import Mask


@dataclass
class ScanState:
    """One branch of a block that scans: all of its history in a state of fixed size."""

    gdn: GDNState | None = None
    conv_tail: Tensor | None = None  # (B, ≤3, S, d): last input frames of the short convolution


@dataclass
class KVState:
    """One branch of a softmax block: keys and values (B, t, S, h, D) of each chunk still to be seen."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def extended(self, k: Tensor, v: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """A chunk's keys and values behind those of the earlier chunks it sees."""
        seen = mask.kept(len(self.keys))
        return (torch.cat([*(self.keys[i] for i in seen), k], 1),
                torch.cat([*(self.values[i] for i in seen), v], 1))

    def store(self, k: Tensor, v: Tensor, mask: Mask) -> None:
        """Add a chunk; drop what no later chunk will see."""
        keys, values = [*self.keys, k.clone()], [*self.values, v.clone()]
        kept = mask.kept(len(keys))
        self.keys, self.values = [keys[i] for i in kept], [values[i] for i in kept]


@dataclass
class LayerState:
    """One block: both branches of its attention, and the temporal convolution."""

    main: ScanState | KVState
    camera: ScanState | KVState
    ffn_tail: Tensor | None = None  # (B, 1, S, d): last input frame of the temporal convolution


@dataclass
class ModelState:
    """All blocks, and the number of latent frames written so far. The size is constant in that number once
    softmax blocks have filled their window; `Mask(window=None)` keeps all their keys."""

    layers: list[LayerState]
    frame: int = 0

    @classmethod
    def empty(cls, depth: int, softmax_blocks: tuple[int, ...]) -> ModelState:
        kinds = [KVState if i in softmax_blocks else ScanState for i in range(depth)]
        return cls([LayerState(kind(), kind()) for kind in kinds])

    def nbytes(self) -> int:
        """Memory held."""
        return sum(x.numel() * x.element_size() for _, x in self.tensors())

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors with names such as `0.main.matrix`, `3.camera.keys.1`, `3.ffn_tail`."""
        for i, layer in enumerate(self.layers):
            for branch in ("main", "camera"):
                yield from _named(f"{i}.{branch}", getattr(layer, branch))
            if layer.ffn_tail is not None:
                yield f"{i}.ffn_tail", layer.ffn_tail

    def map(self, change: Callable[[Tensor], Tensor]) -> ModelState:
        """A copy with every tensor changed."""
        layers = [LayerState(type(layer.main)(), type(layer.camera)()) for layer in self.layers]
        copy = ModelState(layers, self.frame)
        for name, tensor in self.tensors():
            copy._put(name, change(tensor))
        return copy

    def detach(self) -> ModelState:
        return self.map(Tensor.detach)

    def clone(self) -> ModelState:
        return self.map(Tensor.clone)

    def to(self, *args: Any, **kwargs: Any) -> ModelState:
        """As `Tensor.to`. A change to bf16 rounds the scan states too, which lose history by it."""
        return self.map(lambda x: x.to(*args, **kwargs))

    def save(self, path: Path | str) -> None:
        """One safetensors file, which appears complete or not at all."""
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.partial")
        kinds = "".join("s" if isinstance(layer.main, KVState) else "g" for layer in self.layers)
        save_file({name: x.detach().contiguous() for name, x in self.tensors()}, unfinished,
                  {"frame": str(self.frame), "kinds": kinds})
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> ModelState:
        """What `save` wrote."""
        with safe_open(path, "pt", device=device) as file:
            about = file.metadata() or {}
            if "kinds" not in about:
                raise ValueError(f"{path}: not a saved stream: its header names no kinds of blocks")
            kinds = about["kinds"]
            state = cls.empty(len(kinds), tuple(i for i, kind in enumerate(kinds) if kind == "s"))
            for name in sorted(file.keys(), key=_place):
                state._put(name, file.get_tensor(name))
        state.frame = int(about["frame"])
        return state

    def _put(self, name: str, tensor: Tensor) -> None:
        layer, part, *rest = name.split(".")
        owner = self.layers[int(layer)]
        if not rest:
            owner.ffn_tail = tensor
            return
        branch = getattr(owner, part)
        if isinstance(branch, KVState):
            getattr(branch, rest[0]).append(tensor)
        elif rest[0] == "conv_tail":
            branch.conv_tail = tensor
        else:
            branch.gdn = branch.gdn or GDNState(tensor, None)
            setattr(branch.gdn, rest[0], tensor)


def _named(prefix: str, branch: ScanState | KVState) -> Iterator[tuple[str, Tensor]]:
    if isinstance(branch, KVState):
        for i, (k, v) in enumerate(zip(branch.keys, branch.values)):
            yield f"{prefix}.keys.{i}", k
            yield f"{prefix}.values.{i}", v
        return
    if branch.gdn is not None:
        yield f"{prefix}.matrix", branch.gdn.matrix
        if branch.gdn.normaliser is not None:
            yield f"{prefix}.normaliser", branch.gdn.normaliser
    if branch.conv_tail is not None:
        yield f"{prefix}.conv_tail", branch.conv_tail


def _place(name: str) -> tuple[int, str, int]:
    """Sorts chunks of a window by number, not as text; a matrix comes before its normaliser."""
    layer, *middle, last = name.split(".")
    return int(layer), ".".join([*middle, "" if last.isdigit() else last]), int(last) if last.isdigit() else 0
