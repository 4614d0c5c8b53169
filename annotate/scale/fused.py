"""Depth in metres from two engines: consistent structure, and the unit of a metric one (paper, App. B)."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import cv2
import numpy as np

from annotate.scale.fusion import EMA_DECAY, FrameScale, Smoothing, frame_scale, fusion_mask, smooth_scales
from dataset.clip import DepthMaps


@dataclass(frozen=True)
class MetricScales:
    """Metres per unit of the structure, frame by frame: `each` (n,) belongs to `frames` (n,).

    smoothed (n,) is what the structure's maps are multiplied with; `engines` says what was compared.
    """

    frames: np.ndarray
    each: list[FrameScale]
    smoothed: np.ndarray
    engines: str

    def at(self, frames: np.ndarray) -> np.ndarray:
        """Smoothed scale of other frames: that of the last one before which has one. NaN where none has."""
        before = np.searchsorted(self.frames, frames, side="right") - 1
        return self.smoothed[np.clip(before, 0, None)]

    def to_npz(self) -> bytes:
        buffer = io.BytesIO()
        rows = np.array([(s.scale, s.sigma_log, s.valid_pixels, s.kept_share) for s in self.each], np.float64)
        np.savez_compressed(buffer, frames=self.frames, each=rows.reshape(-1, 4), smoothed=self.smoothed,
                            engines=np.frombuffer(self.engines.encode(), np.uint8))
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> MetricScales:
        with np.load(io.BytesIO(data)) as arrays:
            each = [FrameScale(float(s), float(sigma), int(n), float(kept)) for s, sigma, n, kept in
                    arrays["each"]]
            return cls(arrays["frames"], each, arrays["smoothed"], arrays["engines"].tobytes().decode())


def compare(structure: DepthMaps, metric: DepthMaps, smoothing: Smoothing = Smoothing.ema) -> MetricScales:
    """Scale of every frame of which both engines give depth; maps may differ in size, not in view.

    The average runs per frame of the clip: with maps of every k-th frame its decay is 0.99^k.
    """
    at = {int(frame): k for k, frame in enumerate(metric.frames)}
    both = [(k, at[int(frame)]) for k, frame in enumerate(structure.frames) if int(frame) in at]
    each = [_compare(structure, k, metric, j) for k, j in both]
    frames: np.ndarray = np.array([structure.frames[k] for k, _ in both], np.int64)
    step = float(np.median(np.diff(frames))) if len(frames) > 1 else 1.0
    raw = np.array([scale.scale for scale in each], np.float64)
    return MetricScales(frames, each, smooth_scales(raw, smoothing, EMA_DECAY**step),
                        f"{metric.engine} against {structure.engine}")


def _compare(structure: DepthMaps, k: int, metric: DepthMaps, j: int) -> FrameScale:
    p = np.where(structure.valid[k], structure.depth[k], np.nan).astype(np.float64)
    m: np.ndarray = np.where(metric.valid[j], metric.depth[j], np.nan).astype(np.float64)
    if m.shape != p.shape:
        m = cv2.resize(m, p.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return frame_scale(p, m, fusion_mask(p, m))


def multiplied(maps: DepthMaps, factors: np.ndarray, engine: str) -> DepthMaps:
    """The maps times a factor each (K,); where that is NaN, or float16 cannot hold it, they are invalid."""
    known = np.where(np.isfinite(factors), factors, 0).astype(np.float32)
    depth: np.ndarray = maps.depth.astype(np.float32) * known[:, None, None]
    limits = np.finfo(np.float16)
    valid = maps.valid & (depth > limits.tiny) & (depth < limits.max)
    return dataclasses.replace(maps, depth=np.where(valid, depth, 0).astype(np.float16), valid=valid,
                               engine=engine)
