"""The network's sizes and options as one dataclass, with the released sizes and two small ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

KeyScale = Literal["dim_spatial", "dim", "none"]
CameraClamp = Literal["none", "softmax", "all"]


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of `SanaWM`. The defaults are the released ones, 2.66 B parameters."""

    depth: int = 20
    width: int = 2240
    heads: int = 20
    latent_channels: int = 128
    caption_channels: int = 2304
    caption_length: int = 300
    """Tokens of the null caption; captions given may have another length."""
    mlp_ratio: float = 3.0
    softmax_blocks: tuple[int, ...] = (3, 7, 11, 15, 19)
    """Blocks whose token mixer is softmax attention; the others scan frames."""
    plucker_channels: int = 48
    key_scale: KeyScale = "dim_spatial"
    """What keys of the scan are multiplied by: (D·S)^(-1/2) as released, D^(-1/2), or nothing."""
    camera_clamp: CameraClamp = "none"
    """Where camera q, k, v are scaled back to their RMS before the ray transform. The maintained release does
    so nowhere; others do in softmax blocks, or in all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "softmax_blocks", tuple(self.softmax_blocks))
        sizes = ("depth", "width", "heads", "latent_channels", "caption_channels", "caption_length",
                 "plucker_channels")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, expected at least 1")
        if self.width % (8 * self.heads):
            raise ValueError(f"width: {self.width} with {self.heads} heads, expected a multiple of "
                             f"{8 * self.heads}: half of a head is grouped in fours by the camera branch")
        outside = [i for i in self.softmax_blocks if not 0 <= i < self.depth]
        if outside or len(set(self.softmax_blocks)) < len(self.softmax_blocks):
            raise ValueError(f"softmax_blocks: {self.softmax_blocks}, expected different numbers from 0 to "
                             f"{self.depth - 1}")
        for name, allowed in (("key_scale", KeyScale), ("camera_clamp", CameraClamp)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name}: {getattr(self, name)!r}, expected one of {get_args(allowed)}")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def ffn_width(self) -> int:
        return int(self.width * self.mlp_ratio)

    def scaled_key(self, tokens: int) -> float:
        """Factor of the scan's keys for frames of `tokens` tokens."""
        if self.key_scale == "none":
            return 1.0
        return (self.head_width * (tokens if self.key_scale == "dim_spatial" else 1)) ** -0.5

    @classmethod
    def sana_wm_2b6(cls) -> DiTConfig:
        """The released network."""
        return cls()

    @classmethod
    def small(cls) -> DiTConfig:
        """For a CPU or a first run on one GPU: 7.6 M parameters."""
        return cls(depth=4, width=256, heads=4, latent_channels=48, caption_channels=256, caption_length=77,
                   softmax_blocks=(3,))

    @classmethod
    def tiny(cls) -> DiTConfig:
        """For tests: one block of either kind."""
        return cls(depth=2, width=24, heads=3, latent_channels=8, caption_channels=16, caption_length=10,
                   softmax_blocks=(1,))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "softmax_blocks": list(self.softmax_blocks)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> DiTConfig:
        """`values` of a file called `source` in messages. Unknown keys are an error."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"{source}: unknown keys {unknown}, expected some of {sorted(known)}")
        return cls(**values)

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Iterable[int]]) -> DiTConfig:
        """The configuration that has tensors of these names and shapes; options they cannot tell keep their
        defaults. Raises ValueError naming the tensor that is needed and absent."""
        blocks = {int(found[1]) for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))}

        def shape(name: str) -> tuple[int, ...]:
            if name not in shapes:
                raise ValueError(f"the sizes of the network cannot be told: no tensor {name!r} among "
                                 f"{len(shapes)}; this is not a checkpoint of the network")
            return tuple(shapes[name])

        width, latent_channels = shape("x_embedder.proj.weight")[:2]
        caption_length, caption_channels = shape("y_embedder.y_embedding")
        depth = max(blocks, default=-1) + 1
        return cls(
            depth=depth, width=width, heads=shape("blocks.0.attn.A_log")[0], latent_channels=latent_channels,
            caption_channels=caption_channels, caption_length=caption_length,
            mlp_ratio=shape("blocks.0.mlp.point_conv.conv.weight")[1] / width,
            softmax_blocks=tuple(i for i in range(depth) if f"blocks.{i}.attn.conv_k.weight" not in shapes),
            plucker_channels=shape("plucker_embedder.proj.weight")[1],
        )
