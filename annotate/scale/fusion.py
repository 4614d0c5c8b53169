"""Metric scale from two depth maps or two camera paths (paper, App. B): the mathematics, without any model.

Per frame, structure depth p (consistent, unit unknown) meets metric depth m (noisy, in metres):

    s = argmin Σ w (s p - m)²  with  w = 1/p   =>   s = Σ m / Σ p

Of the readings of the paper's weight 1/d, w = 1/p is the one without bias under multiplicative noise in
either map. It is not robust: hence the mask and one trimmed pass first. A frame that cannot be judged has
scale NaN; it is never 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from dataset.trajectory import Sim3, align_tracks

EMA_DECAY = 0.99
EMA_START = 16  # valid frames whose median starts the average
MIN_PIXELS = 1000
MIN_PIXEL_SHARE = 0.01
MIN_KEPT_SHARE = 0.3
MAX_METRIC_DEPTH = 80.0
MIN_CONFIDENCE = 0.1
LEAST_CONFIDENT_SHARE = 0.2
MAX_LOCAL_RANGE = 0.03
PIXELS_PER_SAMPLE = 100  # neighbouring pixels err alike
FRAMES_PER_SAMPLE = 16  # so do neighbouring frames
MAX_DRIFT = 0.10
INLIER_PERCENTILE = 80.0

_MAD_TO_SIGMA = 1.4826


class Smoothing(StrEnum):
    """How per-frame scales become a smooth sequence."""

    ema = "ema"  # the paper's causal average
    robust = "robust"  # forward and backward on log s: no lag, outliers passed over


@dataclass(frozen=True)
class FrameScale:
    """Scale of one frame: metres per unit of structure depth, NaN when refused."""

    scale: float
    sigma_log: float  # NaN when refused
    valid_pixels: int
    kept_share: float  # of the valid pixels, after trimming
    refusal: str | None = None


@dataclass(frozen=True)
class ClipScale:
    """Scales of a clip. `scale` is the one factor for its poses, None when refused; `refusal` says why.

    raw and smoothed (F,) have NaN where unknown. `cov` (population std / mean of raw), `mad_log` and
    `drift` (change of log scale over the clip) are None when fewer than two frames have a scale.
    """

    scale: float | None
    sigma_log: float | None
    raw: np.ndarray
    smoothed: np.ndarray
    cov: float | None
    mad_log: float | None
    drift: float | None
    refusal: str | None = None


def fusion_mask(
    structure: np.ndarray, metric: np.ndarray, confidence: np.ndarray | None = None,
    dynamic: np.ndarray | None = None,
) -> np.ndarray:
    """Pixels (H, W) bool on which the two depth maps may be compared.

    structure, metric (H, W) depths, anything not finite and positive being invalid; confidence (H, W) logits
    of the structure model; dynamic (H, W) bool. Left out besides: metric depth beyond 80 m, confidence below
    0.1 and the least confident fifth of the rest, and depth edges (3x3 range above 3 %) of either map.
    """
    structure, metric = np.asarray(structure, np.float64), np.asarray(metric, np.float64)
    if structure.shape != metric.shape or structure.ndim != 2:
        raise ValueError(f"depth fusion: structure {structure.shape} and metric {metric.shape}, "
                         "expected two maps of one size")
    with np.errstate(invalid="ignore"):
        mask = np.isfinite(structure) & np.isfinite(metric) & (structure > 0) & (metric > 0)
        mask &= metric <= MAX_METRIC_DEPTH
    if dynamic is not None:
        mask &= ~np.asarray(dynamic, bool)
    if confidence is not None:
        mask = confident(confidence, mask)
    return mask & ~_depth_edges(structure) & ~_depth_edges(metric)


def confident(logits: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Pixels (H, W) bool of `among`, or of all: confidence of 0.1 or more and not in the least fifth."""
    logit = np.where(np.isfinite(logits), logits, -np.inf).astype(np.float64)
    mask = logit >= np.log(MIN_CONFIDENCE / (1 - MIN_CONFIDENCE))
    if among is not None:
        mask &= among
    if mask.any():
        mask &= logit >= np.quantile(logit[mask], LEAST_CONFIDENT_SHARE)
    return mask


def _depth_edges(depth: np.ndarray) -> np.ndarray:
    """Pixels whose 3x3 neighbourhood spans more than 3 % of their depth, or touches an invalid pixel."""
    valid = np.isfinite(depth) & (np.where(np.isfinite(depth), depth, 0) > 0)
    kernel = np.ones((3, 3), np.uint8)
    high = cv2.dilate(np.where(valid, depth, np.inf), kernel)
    low = cv2.erode(np.where(valid, depth, -np.inf), kernel)
    with np.errstate(invalid="ignore"):
        return ~(high - low <= MAX_LOCAL_RANGE * depth)


def frame_scale(structure: np.ndarray, metric: np.ndarray, mask: np.ndarray) -> FrameScale:
    """s = Σm / Σp over `mask`, after one pass that trims ratios far from their median.

    Refused, with scale NaN: fewer valid pixels than 1000 or 1 % of the map, or fewer than 30 % kept.
    """
    count = int(mask.sum())
    needed = max(MIN_PIXELS, int(np.ceil(MIN_PIXEL_SHARE * mask.size)))
    if count < needed:
        return FrameScale(np.nan, np.nan, count, 0.0, f"{count} valid pixels, at least {needed} are needed")
    p, m = np.asarray(structure, np.float64)[mask], np.asarray(metric, np.float64)[mask]
    ratio = np.log(m) - np.log(p)
    centre = np.median(ratio)
    mad = np.median(np.abs(ratio - centre))
    kept = np.abs(ratio - centre) <= max(3 * _MAD_TO_SIGMA * mad, 0.1)
    share = float(kept.mean())
    if not share >= MIN_KEPT_SHARE:
        return FrameScale(np.nan, np.nan, count, share,
                          f"{share:.0%} of the pixels agree, at least {MIN_KEPT_SHARE:.0%} is needed")
    scale = float(m[kept].sum() / p[kept].sum())
    if not (np.isfinite(scale) and scale > 0):
        return FrameScale(np.nan, np.nan, count, share, f"the ratio of sums is {scale}")
    samples = max(1.0, kept.sum() / PIXELS_PER_SAMPLE)
    return FrameScale(scale, float(_MAD_TO_SIGMA * mad / np.sqrt(samples)), count, share)


def smooth_scales(raw: np.ndarray, method: Smoothing = Smoothing.ema, decay: float = EMA_DECAY) -> np.ndarray:
    """Per-frame scales (F,) smoothed over the frames; NaN holds the average; all NaN stays all NaN.

    ema:    S_t = 0.99 S_(t-1) + 0.01 s_t, S_0 the median of the first 16 valid scales (paper, App. B). One
            update a *frame*, at 16 frames a second: half-life 4.3 s; causal, so it lags a drift.
    robust: the mean of a forward and a backward average of log s, both started from the clip's median;
            values beyond 3 sigma (MAD) of it do not update.
    """
    raw = np.asarray(raw, np.float64)
    usable = np.isfinite(raw) & (np.where(np.isfinite(raw), raw, 0) > 0)
    if not usable.any():
        return np.full(len(raw), np.nan)
    if method is Smoothing.ema:
        return _ema(np.where(usable, raw, np.nan), float(np.median(raw[usable][:EMA_START])), decay)
    logs = np.log(np.where(usable, raw, 1.0))
    centre = float(np.median(logs[usable]))
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(logs[usable] - centre)))
    logs[~usable | (np.abs(logs - centre) > max(3 * spread, 1e-3))] = np.nan
    both = _ema(logs, centre, decay) + _ema(logs[::-1], centre, decay)[::-1]
    return np.exp(both / 2)


def _ema(values: np.ndarray, start: float, decay: float) -> np.ndarray:
    smoothed = np.empty(len(values))
    state = start
    for t, value in enumerate(values):
        if t and not np.isnan(value):
            state = decay * state + (1 - decay) * value
        smoothed[t] = state
    return smoothed


def scale_cov(raw: np.ndarray) -> float | None:
    """Population std / mean of the per-frame scales that exist; None when fewer than two do."""
    values = np.asarray(raw, np.float64)
    values = values[np.isfinite(values)]
    return float(values.std() / (values.mean() + 1e-12)) if len(values) > 1 else None


def scale_mad_log(raw: np.ndarray) -> float | None:
    """1.4826 x the median absolute deviation of log s; None when fewer than two scales exist."""
    values = np.asarray(raw, np.float64)
    logs = np.log(values[np.isfinite(values)])
    return float(_MAD_TO_SIGMA * np.median(np.abs(logs - np.median(logs)))) if len(logs) > 1 else None


def scale_drift(raw: np.ndarray, times: np.ndarray) -> float | None:
    """Change of log s from the first to the last time along its robust slope (Theil and Sen).

    None when fewer than two scales exist.
    """
    from scipy.stats import theilslopes

    values, clock = np.asarray(raw, np.float64), np.asarray(times, np.float64)
    known = np.isfinite(values)
    if known.sum() < 2 or np.ptp(clock[known]) == 0:
        return None
    slope = theilslopes(np.log(values[known]), clock[known])[0]
    return float(slope * np.ptp(clock))


def clip_scale(
    frames: Sequence[FrameScale], times: np.ndarray, model_sigma_log: float,
    smoothing: Smoothing = Smoothing.ema,
) -> ClipScale:
    """One scale for a clip's poses from its per-frame scales: their median.

    `model_sigma_log` is the 1-sigma of the metric model's own scale error, common to all frames of a clip and
    so not reduced by averaging. Refused when no frame has a scale, or when the scale drifts by more than 10 %
    over the clip: that is the drift of the poses, which no single factor and no per-frame one can mend.
    """
    raw = np.array([frame.scale for frame in frames], np.float64)
    smoothed = smooth_scales(raw, smoothing)
    cov, mad_log, drift = scale_cov(raw), scale_mad_log(raw), scale_drift(raw, times)
    known = np.isfinite(raw)
    refusal = None
    if not known.any():
        refusal = f"none of {len(raw)} frames has a scale"
    elif drift is not None and abs(drift) > MAX_DRIFT:
        refusal = f"scale drifts by {drift:+.0%} over the clip, allowed {MAX_DRIFT:.0%}"
    if refusal:
        return ClipScale(None, None, raw, smoothed, cov, mad_log, drift, refusal)
    samples = max(1.0, known.sum() / FRAMES_PER_SAMPLE)
    within = float(np.median([f.sigma_log for f in frames if np.isfinite(f.scale)]))
    sigma = float(np.sqrt(model_sigma_log**2 + ((mad_log or 0.0) ** 2 + within**2) / samples))
    return ClipScale(float(np.median(raw[known])), sigma, raw, smoothed, cov, mad_log, drift)


@dataclass(frozen=True)
class PathScale:
    """Metres per unit of the exact path; None, with the reason, when the paths do not determine it."""

    scale: float | None
    sigma_log: float | None
    sim3: Sim3
    refusal: str | None


def path_scale(exact_c2w: np.ndarray, metric_c2w: np.ndarray, times: np.ndarray) -> PathScale:
    """Scale of a path without unit from a metric estimate of it: Umeyama with 80th-percentile inliers.

    exact_c2w, metric_c2w (n, 4, 4) at equal times (n,). The noisy path is the target, since noise in the
    source shrinks Umeyama's scale. Its 1-sigma takes residuals within a second as one sample.
    """
    sim3 = align_tracks(exact_c2w, metric_c2w, INLIER_PERCENTILE, times=times)
    refusal = sim3.refusal
    if refusal is None and not (np.isfinite(sim3.scale) and sim3.scale > 0):
        refusal = f"the best similarity has scale {sim3.scale:.3g}"
    if refusal is not None:
        return PathScale(None, None, sim3, refusal)
    samples = max(1.0, sim3.inliers.sum() / FRAMES_PER_SAMPLE)
    sigma = sim3.residual / np.sqrt(3) / (sim3.spread * np.sqrt(samples))
    return PathScale(sim3.scale, float(sigma), sim3, None)
