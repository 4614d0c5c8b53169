"""DOVER (Wu et al., ICCV 2023): technical quality of fragments, aesthetic quality of whole frames.

Of every whole chunk of five seconds, as the paper (arXiv 2605.15178) has it. The clip's own rate is used, not
its source's. Fragments, which the released code places at random, lie in the middle of their cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from annotate.batches import Batches
from annotate.learned import LearnedConfig
from annotate.scores.config import ScoresConfig
from annotate.scores.stage import ScoreStage
from annotate.stage import Clip
from annotate.weights import Needs, locate

CHUNK_S = 5.0
FRAMES = 32  # of a view
INTERVAL = 2  # frames between those of a technical view
VIEWS = 3  # technical views of a chunk
GRID, FRAGMENT = 7, 32  # cells a side of a frame, and pixels a side of what is taken of each
SIDE = GRID * FRAGMENT  # 224, the side of both views
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, RGB
_NORMAL = {"technical": (0.1107, 0.07355), "aesthetic": (-0.08285, 0.03774)}  # mean and spread of raw scores
_WEIGHTS = {"technical": 0.6104, "aesthetic": 0.3896}
_SHAPE = {
    "backbone": {"technical": {"type": "swin_tiny_grpb", "checkpoint": True, "pretrained": None},
                 "aesthetic": {"type": "conv_tiny"}},
    "backbone_preserve_keys": "technical,aesthetic", "divide_head": True,
    "vqa_head": {"in_channels": 768, "hidden_channels": 64},
}


class DoverStage(ScoreStage):
    """Scores `dover`, `dover_technical` and `dover_aesthetic`, each in 0..1."""

    name = "dover"

    def __init__(self, config: ScoresConfig, learned: LearnedConfig) -> None:
        super().__init__(config, learned)
        self._batches = Batches(min(VIEWS, learned.batch_size))

    def needs(self) -> list[Needs]:
        return [Needs("dover", "S-Lab License 1.0 (non-commercial)",
                      "run `pip install --no-deps git+https://github.com/VQAssessment/DOVER` and `pip "
                      "install torchvision==0.28.* timm einops decord scikit-video`",
                      ("dover", "torchvision", "timm", "einops", "decord", "skvideo"),
                      weights=self._config.dover_weights, file="DOVER.pth")]

    def settings(self) -> dict[str, Any]:
        return {"weights": self._config.dover_weights}

    def load(self) -> Any:
        import torch
        from dover.models import evaluator  # type: ignore[import-not-found]

        # Its constructor would fetch ImageNet weights, which those of DOVER replace.
        build = evaluator.convnext_3d_tiny
        evaluator.convnext_3d_tiny = lambda pretrained: build(pretrained=False)
        try:
            network = evaluator.DOVER(**_SHAPE)
        finally:
            evaluator.convnext_3d_tiny = build
        weights = locate(self._config.dover_weights, "DOVER.pth", "dover")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network.eval().to(self._learned.device)

    def score(self, clip: Clip) -> dict[str, Any]:
        raw = [self._raw(clip, chunk) for chunk in chunks(len(clip.frames), float(clip.frames.fps))]
        scores = [fused(technical, aesthetic) for technical, aesthetic in raw]
        return {name: float(np.mean([score[name] for score in scores])) if scores else None
                for name in ("dover", "dover_technical", "dover_aesthetic")}

    def _raw(self, clip: Clip, chunk: range) -> tuple[float, float]:
        """The network's two outputs for the frames of a chunk."""
        views = {"technical": technical_frames(chunk), "aesthetic": aesthetic_frames(chunk)}
        kept: dict[tuple[str, int], np.ndarray] = {}
        wanted = {name: set(indices) for name, indices in views.items()}
        for index in sorted(wanted["technical"] | wanted["aesthetic"]):
            frame = clip.frames.rgb(index)
            if index in wanted["technical"]:
                kept["technical", index] = fragments(frame)
            if index in wanted["aesthetic"]:
                kept["aesthetic", index] = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        outputs = {}
        for name, indices in views.items():
            video = normalised([kept[name, index] for index in indices])  # (3, n, 224, 224)
            clips = video.reshape(3, -1, FRAMES, SIDE, SIDE).transpose(1, 0, 2, 3, 4)
            outputs[name] = self._batches.run(partial(self._outputs, name), list(clips))
        return float(np.mean(outputs["technical"])), float(np.mean(outputs["aesthetic"]))

    def _outputs(self, name: str, clips: Sequence[np.ndarray]) -> list[float]:
        """The network's output for each view (3, 32, 224, 224) of one kind."""
        import torch

        views = torch.from_numpy(np.stack(clips)).to(self._learned.device)
        with torch.inference_mode():
            [found] = self._network({name: views})
        return found.float().flatten(1).mean(dim=1).tolist()


def chunks(frames: int, fps: float) -> list[range]:
    """Whole chunks of five seconds; the rest is left out unless it is all there is."""
    length = round(CHUNK_S * fps)
    whole = [range(first, first + length) for first in range(0, frames - length + 1, length)]
    return whole or ([range(frames)] if frames else [])


def technical_frames(chunk: range) -> list[int]:
    """Three runs of 32 frames, every second one, from the beginning, the middle and the end of a chunk.

    Where a chunk is too short the runs begin anew, as in the released sampler.
    """
    spare = max(0, len(chunk) - FRAMES * INTERVAL)
    starts = [round(spare * k / (VIEWS - 1)) for k in range(VIEWS)]
    return [chunk[(start + INTERVAL * k) % len(chunk)] for start in starts for k in range(FRAMES)]


def aesthetic_frames(chunk: range) -> list[int]:
    """32 frames, one from each of as many equal pieces of a chunk."""
    piece = len(chunk) // FRAMES
    return [chunk[(piece * k + piece // 2) % len(chunk)] for k in range(FRAMES)]


def fragments(frame: np.ndarray) -> np.ndarray:
    """(224, 224, 3): 7 x 7 patches of 32 pixels at their own resolution, each from the middle of its cell.

    A frame (H, W, 3) that is smaller is enlarged first.
    """
    ratio = min(frame.shape[0] / SIDE, frame.shape[1] / SIDE)
    if ratio < 1:
        size = max(SIDE, math.ceil(frame.shape[1] / ratio)), max(SIDE, math.ceil(frame.shape[0] / ratio))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    rows, columns = (_starts(side) for side in frame.shape[:2])
    return np.concatenate([np.concatenate(
        [frame[top:top + FRAGMENT, left:left + FRAGMENT] for left in columns], axis=1) for top in rows])


def _starts(side: int) -> list[int]:
    cell = side // GRID
    return [min(cell * k, side - FRAGMENT) + max(0, cell - FRAGMENT) // 2 for k in range(GRID)]


def normalised(frames: Sequence[np.ndarray]) -> np.ndarray:
    """(3, n, h, w) float32 of RGB frames, as networks trained on ImageNet take them."""
    mean, std = np.array(_MEAN, np.float32), np.array(_STD, np.float32)
    return ((np.stack(frames).astype(np.float32) - mean) / std).transpose(3, 0, 1, 2)


def fused(technical: float, aesthetic: float) -> dict[str, float]:
    """Scores in 0..1 of the two raw outputs: sigmoids of what is normal, and of their weighted sum."""
    raw = {"technical": technical, "aesthetic": aesthetic}
    normal = {name: (raw[name] - mean) / spread for name, (mean, spread) in _NORMAL.items()}
    overall = sum(weight * normal[name] for name, weight in _WEIGHTS.items())
    return {"dover": _sigmoid(overall)} | {f"dover_{name}": _sigmoid(value) for name, value in normal.items()}


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, value)))
