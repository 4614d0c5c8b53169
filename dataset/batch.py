"""A batch of clips as training sees it: latents or video, cameras, captions, and which frames count."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_GEOMETRY = ("c2w", "intrinsics")
"""Stay float64 whatever type the rest gets: they are for the eye and for evaluation."""


@dataclass
class Batch:
    """B clips of T latent frames (F = 8 (T - 1) + 1 video frames) on a latent grid h x w. All in one size.

    clip_ids, sources, captions: of the clips, B each; sources are the addresses of their data sets.
    latents:           (B, C, T, h, w) normalised as the codec left them, in the type they are stored in
                       (float16) until `to` makes them float32; None of video
    video:             (B, 3, F, H, W) uint8; None of latents
    camera_conditions: (B, T, 20) float32    plucker: (B, 48, T, h, w) float32: `dataset.rays.model_camera`
    frame_valid:       (B, T) bool. False: padding at the end (poses repeat the last one), and every frame of
                       a clip that could not be read, whose latents are zeros. Such frames belong in no loss.
    caption_states:    (B, L, channels), likewise    caption_mask: (B, L) bool; None of video
    c2w:               (B, F, 4, 4) float64, relative to frame 0; metres, unless data.scale=any let others in
    intrinsics:        (B, F, 4) float64, pixels of `size`, the (height, width) of the video
    skipped:           why clips could not be read, one sentence each; only with data.on_error=skip
    """

    clip_ids: list[str]
    sources: list[str]
    captions: list[str]
    size: tuple[int, int]
    camera_conditions: Tensor
    plucker: Tensor
    frame_valid: Tensor
    c2w: Tensor
    intrinsics: Tensor
    latents: Tensor | None = None
    video: Tensor | None = None
    caption_states: Tensor | None = None
    caption_mask: Tensor | None = None
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The batch on a device. Latents, captions and camera inputs become float32 there, or `dtype`."""
        moved = {}
        for name, tensor in self._tensors().items():
            moved[name] = tensor.to(device, non_blocking=True)
            if tensor.is_floating_point() and name not in _GEOMETRY:
                moved[name] = moved[name].to(dtype or torch.float32)
        return replace(self, **moved)  # type: ignore[arg-type]

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU reads by itself; torch's loader calls this by its name."""
        pinned = {name: tensor.pin_memory() for name, tensor in self._tensors().items()}
        return replace(self, **pinned)  # type: ignore[arg-type]

    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def _tensors(self) -> dict[str, Tensor]:
        values = ((item.name, getattr(self, item.name)) for item in fields(self))
        return {name: value for name, value in values if isinstance(value, torch.Tensor)}
