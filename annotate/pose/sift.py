"""Tracks by SIFT features between keyframes, where points could not be followed from frame to frame.

Lowe 2004, with the square-rooted descriptors of Arandjelovic and Zisserman 2012. Matches are mutual, pass the
ratio test and an epipolar check, and are joined to tracks over all matched pairs.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from annotate.pose.tracks import Tracks

FEATURES = 1300
OFFSETS = (1, 2, 3, 4, 6, 8)
"""Keyframes ahead that each keyframe is matched with."""
MIN_MATCHES = 18
RATIO = 0.85
BRIDGE_MATCHES = 30
"""Matches that join stretches of a clip which are not neighbours in time."""
BRIDGE_STRIDE, MAX_BRIDGES, MAX_BRIDGE_TRIALS = 2, 60, 2000
"""Every second pair across a gap is matched, and so many may be joined: one is enough, a few are safer."""


def weak_links(tracks: Tracks, share: float) -> np.ndarray:
    """(K - 1,) bool: neighbouring keyframes that share fewer than `share` of the first one's points."""
    weak = []
    for a, b in zip(tracks.keyframes[:-1], tracks.keyframes[1:]):
        weak.append(len(tracks.common(a, b)[0]) < share * len(tracks.at(a)[0]))
    return np.array(weak, bool)


def with_features(tracks: Tracks, gray: np.ndarray, weak: np.ndarray) -> Tracks:
    """The tracks, and beside them SIFT tracks over keyframe pairs that span a weak link (K - 1,) bool.

    gray (F, h, w) uint8 at the tracks' size.
    """
    count = len(tracks.keyframes)
    weak_before = np.concatenate([[0], np.cumsum(weak)])
    pairs = [(i, i + step) for i in range(count) for step in OFFSETS
             if i + step < count and weak_before[i + step] > weak_before[i]]
    if not pairs:
        return tracks
    wanted = sorted({index for pair in pairs for index in pair})
    features = {index: _features(gray[tracks.keyframes[index]]) for index in wanted}
    first = dict(zip(wanted, np.cumsum([0] + [len(features[i][0]) for i in wanted])))
    edges = [np.zeros((0, 2), np.int64)]
    for a, b in pairs:
        matched = match(features[a], features[b])
        edges.append(matched + [first[a], first[b]])
    edges += _bridges(tracks, features, first, pairs, edges[1:])
    total = sum(len(pixels) for pixels, _ in features.values())
    if not total:
        return tracks
    frame = np.concatenate([np.full(len(features[i][0]), tracks.keyframes[i]) for i in wanted])
    pixel = np.concatenate([features[i][0] for i in wanted])
    return _joined(tracks, frame, pixel, np.concatenate(edges), total)


def _bridges(
    tracks: Tracks, features: dict[int, tuple[np.ndarray, np.ndarray]], first: dict[int, int],
    pairs: list[tuple[int, int]], edges: list[np.ndarray],
) -> list[np.ndarray]:
    """Matches between stretches of keyframes that no pair has joined: a jump to a place seen before."""
    count = len(tracks.keyframes)
    linked = [(i, i + 1) for i in range(count - 1)
              if len(tracks.common(tracks.keyframes[i], tracks.keyframes[i + 1])[0]) >= BRIDGE_MATCHES]
    linked += [pair for pair, matched in zip(pairs, edges) if len(matched) >= BRIDGE_MATCHES]
    joined = np.array(linked, np.int64).reshape(-1, 2)
    graph = scipy.sparse.coo_matrix((np.ones(len(joined)), tuple(joined.T)), shape=(count, count))
    pieces = connected_components(graph, directed=False)[1]
    found: list[np.ndarray] = []
    known = sorted(features)
    apart = [(a, b) for a in known for b in known
             if a < b and pieces[a] != pieces[b] and (a + b) % BRIDGE_STRIDE == 0]
    for a, b in apart[:MAX_BRIDGE_TRIALS]:
        matched = match(features[a], features[b])
        if len(matched) >= BRIDGE_MATCHES:
            found.append(matched + [first[a], first[b]])
        if len(found) >= MAX_BRIDGES:
            break
    return found


def _joined(tracks: Tracks, frame: np.ndarray, pixel: np.ndarray, edges: np.ndarray, total: int) -> Tracks:
    """Tracks of the features' connected components, without those that meet a frame twice."""
    graph = scipy.sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(total, total))
    component = connected_components(graph, directed=False)[1]
    key = component.astype(np.int64) * (int(frame.max()) + 1) + frame
    _, inverse, often = np.unique(key, return_inverse=True, return_counts=True)
    clash = np.zeros(component.max() + 1, bool)
    clash[component[often[inverse] > 1]] = True
    keep = ~clash[component] & (np.bincount(component)[component] >= 2)
    _, names = np.unique(component[keep], return_inverse=True)
    frames = np.concatenate([tracks.frame, frame[keep]])
    ids = np.concatenate([tracks.track, names + tracks.count])
    order = np.lexsort((ids, frames))
    pixels = np.concatenate([tracks.pixel, pixel[keep]])
    return Tracks(frames[order], ids[order], pixels[order], tracks.keyframes, tracks.survival, tracks.size)


def _features(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2), centres at +0.5, and unit descriptors (n, 128) float32."""
    # without the precise upscale, OpenCV's keypoints lie a quarter of a pixel right and below
    sift = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=FEATURES, contrastThreshold=0.015, enable_precise_upscale=True)
    points, descriptors = sift.detectAndCompute(image, None)
    if descriptors is None or not len(points):
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return np.array([point.pt for point in points], np.float64) + 0.5, descriptors.astype(np.float32)


def match(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], threshold_px: float = 2.0
) -> np.ndarray:
    """Indices (m, 2) of matching features that one fundamental matrix explains; empty where too few do."""
    none = np.zeros((0, 2), np.int64)
    if min(len(a[0]), len(b[0])) < MIN_MATCHES:
        return none
    likeness = a[1] @ b[1].T
    forward, backward = likeness.argmax(1), likeness.argmax(0)
    rows = np.arange(len(a[0]))
    best = likeness[rows, forward]
    likeness[rows, forward] = -1.0
    second = likeness.max(1)
    distance, other = np.sqrt(np.maximum(2 - 2 * best, 0)), np.sqrt(np.maximum(2 - 2 * second, 0))
    keep = (backward[forward] == rows) & (distance < RATIO * other)
    matched = np.stack([rows[keep], forward[keep]], 1)
    if len(matched) < MIN_MATCHES:
        return none
    cv2.setRNGSeed(0)
    left, right = a[0][matched[:, 0]], b[0][matched[:, 1]]
    _, mask = cv2.findFundamentalMat(left, right, cv2.FM_RANSAC, threshold_px, 0.999, 1000)
    if mask is None or mask.sum() < max(MIN_MATCHES, 0.3 * len(matched)):
        return none
    return matched[mask[:, 0] == 1]
