"""Weights that live in the CPU's memory and are on the device only while they are used: whole parts of the
model, or one block at a time while the next is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Offload(Enum):
    """What leaves the device while it is not used."""

    none = "none"
    text = "text"
    model = "model"
    sequential = "sequential"

    @property
    def takes_turns(self) -> bool:
        """Whether stages of a video run one after the other, each alone on the device."""
        return self in (Offload.model, Offload.sequential)


class Parked:
    """Tensors of some modules, kept at home; `load` puts copies in their places, `drop` the originals back.
    What they hold must not be changed meanwhile."""

    def __init__(self, modules: Iterable[nn.Module], pin: bool = False) -> None:
        """pin: in memory that a GPU reads without the CPU's help."""
        self.places: list[tuple[dict[str, Any], str, Tensor]] = []
        homes: dict[int, Tensor] = {}
        for module in modules:
            tables: tuple[Any, ...] = (module._parameters, module._buffers)
            for held in tables:
                for name, tensor in held.items():
                    if tensor is None:
                        continue
                    if id(tensor) not in homes:
                        homes[id(tensor)] = _at_home(tensor, pin)
                    held[name] = homes[id(tensor)]
                    self.places.append((held, name, held[name]))
        self.loaded = False

    def load(self, device: torch.device) -> None:
        copies: dict[int, Tensor] = {}
        for held, name, home in self.places:
            if id(home) not in copies:
                copy = home.detach().to(device, non_blocking=True)
                copy = copy.clone() if device.type == "cpu" else copy
                copies[id(home)] = nn.Parameter(copy, False) if isinstance(home, nn.Parameter) else copy
            held[name] = copies[id(home)]
        self.loaded = True

    def drop(self) -> None:
        for held, name, home in self.places:
            held[name] = home
        self.loaded = False


class BlockStream:
    """Blocks that are used in their order, again and again: while one computes the next is loaded, and no
    other is on the device. `methods` of a block are what computes."""

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device,
                 methods: Sequence[str] = ("forward", "read_text")) -> None:
        self.device = device
        self.parked = [Parked(block.modules(), pin=device.type == "cuda") for block in blocks]
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.copied: dict[int, Any] = {}
        for number, block in enumerate(blocks):
            for name in methods:
                if hasattr(block, name):
                    setattr(block, name, partial(self._run, number, getattr(block, name)))

    def drop(self) -> None:
        for parked in self.parked:
            parked.drop()

    def _run(self, number: int, call: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        for wanted in (number, (number + 1) % len(self.parked)):
            if not self.parked[wanted].loaded:
                self._load(wanted)
        if self.copying is not None:
            torch.cuda.current_stream(self.device).wait_event(self.copied[number])
        try:
            return call(*inputs, **named)
        finally:
            if len(self.parked) > 2:
                self.parked[number].drop()

    def _load(self, number: int) -> None:
        if self.copying is None:
            return self.parked[number].load(self.device)
        # Behind all work given so far: the memory may be that of a block which is still computing.
        self.copying.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.copying):
            self.parked[number].load(self.device)
            self.copied[number] = torch.cuda.Event()
            self.copied[number].record()


@dataclass
class Placement:
    """Where the parts of a model are while they work, and while they wait."""

    device: torch.device
    offload: Offload = Offload.none
    parked: dict[int, tuple[Parked, BlockStream | None]] = field(default_factory=dict)

    def park(self, module: nn.Module, reads_prompt: bool, blocks: Sequence[nn.Module] = ()) -> None:
        """Bring a part to where it waits. blocks: those of its own that `sequential` streams."""
        if self.offload is Offload.none or (self.offload is Offload.text and not reads_prompt):
            module.to(self.device)
            return
        module.to("cpu")
        stream, streamed = None, set()
        if self.offload is Offload.sequential and blocks:
            stream = BlockStream(blocks, self.device)
            streamed = {inner for block in blocks for inner in block.modules()}
        rest = [inner for inner in module.modules() if inner not in streamed]
        self.parked[id(module)] = Parked(rest), stream

    @contextmanager
    def working(self, module: nn.Module) -> Iterator[None]:
        """The part is on the device, or as much of it as is there at a time."""
        if id(module) not in self.parked:
            yield
            return
        rest, stream = self.parked[id(module)]
        rest.load(self.device)
        try:
            yield
        finally:
            rest.drop()
            if stream is not None:
                stream.drop()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)


def _at_home(tensor: Tensor, pin: bool) -> Tensor:
    home = tensor.detach().to("cpu")
    if pin and type(home) in (Tensor, nn.Parameter):  # quantised weights are several tensors in one
        home = home.pin_memory()
    return nn.Parameter(home, False) if isinstance(tensor, nn.Parameter) else home
