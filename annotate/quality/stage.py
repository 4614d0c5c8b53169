"""Scores of the pixels of a finished clip, measured in one streaming pass.

Scores only: what is good enough is decided later, from the stored numbers, by `annotate.filters`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np

from annotate.frames import shrink
from annotate.shots.detector import ShotConfig, ShotDetector
from annotate.stage import Clip, Resources, StageOutput

FLOW_SIZE = (320, 576)
"""(height, width) of a landscape frame at which flow is measured; its pixels are the score's unit."""

_TAPS = np.array([1785, 8002, 13193, 8002, 1785]) / 32768  # as VMAF and FFmpeg round them
_FULL_RANGE = 255 / 219  # of luma stored as 16..235
_LEVELS = (np.arange(256) - 16) * _FULL_RANGE  # grey level of each stored value
# BT.709 limited-range YCbCr to 8-bit BGR, applied to (Y, Cb, Cr, 1)
_TO_BGR = np.array([[1.0, 1.8556, 0.0], [1.0, -0.18732427, -0.46812427], [1.0, 0.0, 1.5748]]) @ np.diag(
    [_FULL_RANGE, 255 / 224, 255 / 224])
_TO_BGR = np.hstack([_TO_BGR, _TO_BGR @ np.array([[-16.0], [-128.0], [-128.0]])])

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Luma (H, W), and chroma Cb, Cr (H/2, W/2): uint8, BT.709 limited range."""


class FlowEngine(Protocol):
    """Dense optical flow; `column` is the field of `ClipRecord` its score belongs in."""

    column: str

    def magnitude(self, before: np.ndarray, after: np.ndarray) -> float:
        """Mean length in pixels of the flow between two luma images (h, w) uint8."""
        ...


class DisFlow:
    """Dense inverse search (Kroeger et al. 2016), as OpenCV has it: no weights, milliseconds on CPU."""

    column = "flow_dis"

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._start = np.zeros((0, 0), np.float32)

    def magnitude(self, before: np.ndarray, after: np.ndarray) -> float:
        flow = np.asarray(self._flow.calc(before, after, self._start))
        return float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean())


@dataclass
class QualityConfig:
    """What is measured how often."""

    sample_s: float = 0.5  # every so many seconds a frame for saturation, sharpness and exposure
    flow_step_s: float = 0.5  # flow is measured over, and every, so many seconds
    flow_until_s: float = 60.0  # and not beyond this time
    shots: ShotConfig = field(default_factory=ShotConfig)  # how cuts are looked for in the clip


class QualityStage:
    """Pixel scores of the clip. It runs first: its pass over every frame leaves the greys for the others."""

    name = "quality"
    version = "2"
    resources = Resources(num_cpus=1.0)

    def __init__(self, config: QualityConfig | None = None) -> None:
        self._config = config or QualityConfig()

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self._config)

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return []

    def process(self, clip: Clip) -> StageOutput:
        frames = clip.frames
        return StageOutput(fields=dict(pixel_scores(frames.iter_yuv(), float(frames.fps), self._config)))


def pixel_scores(
    frames: Iterable[Planes], fps: float, config: QualityConfig, flow: FlowEngine | None = None,
) -> dict[str, float | None]:
    """Scores of one clip, by `ClipRecord` field. None where too few frames allow no answer.

    Planes are used before the next frame is asked for. VMAF motion and cuts see every frame; saturation,
    sharpness and exposure see sampled frames, the colour scores every second pixel of every second row.
    """
    flow = flow or DisFlow()
    motion, shots, samples = VmafMotion(), ShotDetector(config.shots), _Samples()
    every, step = max(1, round(config.sample_s * fps)), max(1, round(config.flow_step_s * fps))
    last: np.ndarray | None = None
    magnitudes: list[float] = []
    index = -1
    for index, (luma, cb, cr) in enumerate(frames):
        motion.push(luma)
        shots.push(index / fps, _small_bgr(luma, cb, cr, config.shots.long_side))
        if index % every == 0:
            samples.push(luma, cb, cr)
        if index % step == 0 and index / fps <= config.flow_until_s:
            small = shrink(luma, FLOW_SIZE if luma.shape[1] >= luma.shape[0] else FLOW_SIZE[::-1])
            if last is not None:
                magnitudes.append(flow.magnitude(last, small))
            last = small
    if index < 0:
        return {}
    return {
        **samples.scores(),
        "vmaf_motion": motion.score(),
        flow.column: float(np.mean(magnitudes)) if magnitudes else None,
        "cuts": float(max(0, len(shots.finish()) - 1)),
    }


class VmafMotion:
    """VMAF's motion feature, as FFmpeg's `vmafmotion` filter computes it.

    Luma is blurred by five separable taps; the score is the mean absolute difference of consecutive
    blurred frames on the 8-bit scale, averaged over all frames with 0 for the first.
    """

    def __init__(self) -> None:
        self._last: np.ndarray | None = None
        self._sum = 0.0
        self._frames = 0

    def push(self, luma: np.ndarray) -> float:
        """Take the next frame's luma (H, W) uint8; returns the score of this frame."""
        # The filter mirrors about the first row and column but repeats the last ones.
        framed = cv2.copyMakeBorder(luma, 0, 2, 0, 2, cv2.BORDER_REFLECT)
        blurred = cv2.sepFilter2D(framed, cv2.CV_32F, _TAPS, _TAPS, borderType=cv2.BORDER_REFLECT_101)
        blurred = blurred[:luma.shape[0], :luma.shape[1]]
        score = 0.0 if self._last is None else cv2.norm(blurred, self._last, cv2.NORM_L1) / luma.size
        self._last = blurred
        self._sum += score
        self._frames += 1
        return score

    def score(self) -> float | None:
        """Mean over all frames so far; None when there is no pair of frames."""
        return self._sum / self._frames if self._frames > 1 else None


class _Samples:
    """Saturation, sharpness and exposure of the sampled frames."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float, float]] = []
        self._sharpness: list[float] = []

    def push(self, luma: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> None:
        deviation = float(cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_16S))[1][0, 0])
        self._sharpness.append((deviation * _FULL_RANGE) ** 2)
        picture = np.ascontiguousarray(luma[::2, ::2])
        saturation = cv2.cvtColor(_bgr(picture, cb, cr), cv2.COLOR_BGR2HSV)[..., 1]
        shares = cv2.calcHist([picture], [0], None, [256], [0, 256]).ravel() / picture.size
        self._rows.append((float(cv2.mean(saturation)[0]), float(shares @ np.clip(_LEVELS, 0, 255)),
                           float(shares[_LEVELS <= 16].sum()), float(shares[_LEVELS >= 235].sum())))

    def scores(self) -> dict[str, float | None]:
        saturation, exposure, dark, bright = np.mean(self._rows, axis=0).tolist()
        return {"saturation": saturation, "sharpness": float(np.median(self._sharpness)),
                "exposure": exposure, "dark_share": dark, "bright_share": bright}


def _bgr(luma: np.ndarray, cb: np.ndarray, cr: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 BGR of three planes of one size."""
    height, width = min(luma.shape[0], cb.shape[0]), min(luma.shape[1], cb.shape[1])
    stacked = cv2.merge([plane[:height, :width] for plane in (luma, cb, cr)])
    return cv2.transform(stacked, _TO_BGR)


def _small_bgr(luma: np.ndarray, cb: np.ndarray, cr: np.ndarray, long_side: int) -> np.ndarray:
    share = min(1.0, long_side / max(luma.shape))
    size = (max(16, round(luma.shape[0] * share)), max(16, round(luma.shape[1] * share)))
    return _bgr(*(shrink(plane, size) for plane in (luma, cb, cr)))
