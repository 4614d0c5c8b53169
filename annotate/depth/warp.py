"""Where the pixels of one view lie in another one, by a plane for all of them or a depth for each."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.depth.views import Views

_CENTRES = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # integer-centred pixels to centres at +0.5
_LEAST_DEPTH = 1e-6  # a point behind the other camera falls outside of its picture


class Warp:
    """Brings the picture of frame `other` into the view of frame `index`.

    A pixel x with inverse depth d lies at `turn x + d along`, homogeneous, both in the other's pixels.
    """

    def __init__(self, views: Views, index: int, other: int) -> None:
        motion = views.between(index, other)
        from_pixels = np.linalg.inv(views.matrix(index)) @ _CENTRES
        to_pixels = np.linalg.inv(_CENTRES) @ views.matrix(other)
        self._turn = to_pixels @ motion[:3, :3] @ from_pixels
        self._along = to_pixels @ motion[:3, 3]
        self._picture = views.images[other].astype(np.float32)
        height, width = views.size
        y, x = np.indices((height, width), np.float32, sparse=True)
        self._at = [row[0] * x + (row[1] * y + row[2]) for row in self._turn.astype(np.float32)]
        self._size = (width, height)

    def by_plane(self, inverse: float, warped: np.ndarray) -> np.ndarray:
        """Fill `warped` (h, w) float32 as if every pixel had this inverse depth."""
        homography = self._turn.copy()
        homography[:, 2] += inverse * self._along
        return cv2.warpPerspective(self._picture, homography, self._size, dst=warped,
                                   flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)

    def by_pixel(self, inverse: np.ndarray, warped: np.ndarray) -> np.ndarray:
        """Fill `warped` (h, w) float32, each pixel with its own inverse depth (h, w)."""
        x, y = self.places(inverse)
        return cv2.remap(self._picture, x, y, cv2.INTER_LINEAR, dst=warped)

    def places(self, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row (h, w) in the other picture, integer-centred."""
        along = self._along.astype(np.float32)
        z = along[2] * inverse
        z += self._at[2]
        np.divide(1, np.maximum(z, _LEAST_DEPTH, out=z), out=z)
        x, y = (at + a * inverse for at, a in zip(self._at[:2], along[:2]))
        x *= z
        y *= z
        return x, y

    def shows(self, inverse: np.ndarray) -> np.ndarray:
        """(h, w) whether the other picture shows the points."""
        x, y = self.places(inverse)
        width, height = self._size
        return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
