"""A rendered clip, and stand-ins of learned engines that know its cameras and depth up to stated errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from annotate.frames import ArrayFrames
from annotate.learned import EngineConfig, LearnedConfig
from annotate.synthetic import SyntheticSpec, render_sequence

STAND_INS = Path(__file__).parent / "stand_ins"
THUMB = (36, 64)


class KnownClip:
    """Frames, true cameras and true depth of a rendered scene."""

    def __init__(self, uri: str, frames: int, size: tuple[int, int]) -> None:
        images, self.track, self.depth = render_sequence(SyntheticSpec.parse(uri), frames, size[1], size[0])
        self.images = images
        self.frames = ArrayFrames(images)

    def write_truth(self, folder: Path, **errors: object) -> Path:
        """The "weights" of a stand-in; errors: see `stand_ins/truth.py`."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = torch.from_numpy(self.images).permute(0, 3, 1, 2).float() / 255
        thumbs = torch.nn.functional.interpolate(pictures.mean(1, keepdim=True), THUMB, mode="area")[:, 0]
        depth = np.stack([self.depth(k) for k in range(len(self.images))]).astype(np.float32)
        np.savez(folder / "truth.npz", thumbs=thumbs.numpy(), c2w=self.track.c2w.astype(np.float32),
                 intrinsics=self.track.intrinsics.astype(np.float32), depth=depth)
        (folder / "errors.json").write_text(json.dumps(errors))
        (folder / "model.pt").write_bytes(b"")
        return folder


def learned_config(weights: Path, **changes: object) -> LearnedConfig:
    """Settings under which every engine but DepthPro and ViPE is its stand-in."""
    names = ("pi3x", "vggt", "depth_anything3", "moge2")
    engines = {name: EngineConfig(None, str(weights)) for name in names}
    return LearnedConfig(**{"device": "cpu", "limit_s": 120.0, **engines, **changes})  # type: ignore[arg-type]
