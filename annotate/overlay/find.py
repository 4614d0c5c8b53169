"""Finds what stands still in the picture: edges whose gradient is the same in frame after frame.

Where the camera moves, an edge of the scene comes and goes and its gradient has any direction; the edge of a
logo, even of one that the scene shines through, keeps place and direction. (The gradient that images have in
common as the trace of a watermark: Dekel et al., CVPR 2017.)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FEWEST_FRAMES = 8
_NOISE = 2.0  # grey levels a pixel that compression adds to the spread of a gradient
_STEADY = 1.5  # mean gradient over its spread, at the edge of an overlay
_SURE = 2.0  # the same, for enough of its edges
_LEAST_GRADIENT = 6.0  # grey levels a pixel
_TEXTURED = 8.0  # mean size of the gradient where there is something to see move
_STILL_SHARE = 0.25  # of the textured picture standing still: then the camera does, too
_REACH = 0.0125  # of the picture's longer side: edges nearer to each other belong together
_LEAST_EDGES = 48  # pixels of an overlay's edges in a picture 640 wide
_SURE_SHARE = 0.3  # of them
_LEAST_THICKNESS = 0.012  # of the shorter side
_LEAST_VARIETY = 0.12  # least over largest eigenvalue of its gradients' tensor: a horizon has one direction
_STILL = 0.7  # mean gradient over the mean of its length: of what hardly moves
_AROUND_STILL = 0.5  # of the texture around it: what is in still surroundings is far away, not laid over


@dataclass(frozen=True)
class Overlays:
    """What was found: boxes (top, left, bottom, right) as shares of the picture, and the area they cover.

    `share` is None where nothing can be said: too few frames, no texture, or a camera that stands still.
    """

    share: float | None
    boxes: tuple[tuple[float, float, float, float], ...] = ()


def find_overlays(frames: np.ndarray) -> Overlays:
    """Overlays in grey frames (F, h, w) uint8 of one clip, so far apart in time that the scene moves."""
    if len(frames) < FEWEST_FRAMES:
        return Overlays(None)
    field = _Field.of(frames)
    textured = field.size > _TEXTURED
    if not textured.any() or (field.steady & textured).sum() > _STILL_SHARE * textured.sum():
        return Overlays(None)
    height, width = textured.shape
    reach = max(3, round(_REACH * max(height, width)))
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (2 * reach + 1, 2 * reach + 1))
    merged = cv2.morphologyEx(field.steady.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    labels, stats = cv2.connectedComponentsWithStats(merged, connectivity=8)[1:3]
    near = cv2.dilate(merged, kernel).astype(bool)
    still = field.mean > _STILL * field.size
    covered, boxes = np.zeros(textured.shape, bool), []
    for label, (left, top, box_width, box_height, _) in enumerate(stats[1:].tolist(), 1):
        box = slice(top, top + box_height), slice(left, left + box_width)
        if min(box_height, box_width) < _LEAST_THICKNESS * min(height, width):
            continue
        if not field.cut(box).is_drawn(labels[box] == label, max(height, width) / 640):
            continue
        margin = (slice(max(0, top - 2 * reach), top + box_height + 2 * reach),
                  slice(max(0, left - 2 * reach), left + box_width + 2 * reach))
        around = textured[margin] & ~near[margin]
        if around.any() and still[margin][around].mean() > _AROUND_STILL:
            continue
        covered[box] = True
        boxes.append((top / height, left / width, (top + box_height) / height, (left + box_width) / width))
    return Overlays(float(covered.mean()), tuple(boxes))


@dataclass(frozen=True)
class _Field:
    """The gradient of every pixel over all frames, (h, w) each, in grey levels a pixel."""

    along: np.ndarray  # mean, to the right
    across: np.ndarray  # mean, downwards
    size: np.ndarray  # mean length
    spread: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> _Field:
        nothing: np.ndarray = np.zeros(frames[0].shape, np.float32)
        along, across, size, square = nothing, nothing, nothing, nothing
        for frame in frames:
            smooth = cv2.GaussianBlur(frame, (3, 3), 0)
            x, y = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.25) for order in ((1, 0), (0, 1)))
            along, across, square = along + x, across + y, square + x * x + y * y
            size = size + cv2.magnitude(x, y)
        along, across, size = along / len(frames), across / len(frames), size / len(frames)
        variance = square / len(frames) - along * along - across * across
        return cls(along, across, size, np.sqrt(np.maximum(variance, 0)))

    def cut(self, box: tuple[slice, slice]) -> _Field:
        """A part of the picture."""
        return _Field(self.along[box], self.across[box], self.size[box], self.spread[box])

    @property
    def mean(self) -> np.ndarray:
        """Length of the mean gradient."""
        return cv2.magnitude(self.along, self.across)

    @property
    def steadiness(self) -> np.ndarray:
        return self.mean / (self.spread + _NOISE)

    @property
    def steady(self) -> np.ndarray:
        """Edges that stand still."""
        return (self.steadiness > _STEADY) & (self.mean > _LEAST_GRADIENT)

    def is_drawn(self, inside: np.ndarray, scale: float) -> bool:
        """Whether the edges inside a region are enough, sure enough, and of more than one direction."""
        edges = inside & self.steady
        sure = edges & (self.steadiness > _SURE)
        if edges.sum() < _LEAST_EDGES * scale or sure.sum() < _SURE_SHARE * edges.sum():
            return False
        x, y = self.along[edges], self.across[edges]
        least, largest = np.linalg.eigvalsh(np.array([[x @ x, x @ y], [x @ y, y @ y]], np.float64))
        return bool(least >= _LEAST_VARIETY * largest)
