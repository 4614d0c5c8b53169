"""A folder of pictures as a video: one frame a picture, at the stated rate, undistorted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from annotate.cut.encode import ClipWriter
from annotate.source.cameras import BadCameras, read_bytes

_CRF = 6
"""Of the file that only the cutter reads: as good as the pictures, yet small."""


@dataclass(frozen=True)
class Lens:
    """OpenCV's radial and tangential model: intrinsics (4,) in pixels of `size`, centres at +0.5."""

    intrinsics: np.ndarray
    coefficients: np.ndarray  # k1 k2 p1 p2
    size: tuple[int, int]  # (height, width)

    @property
    def is_distorted(self) -> bool:
        return bool(np.abs(self.coefficients).max() > 0)

    def straight(self) -> np.ndarray:
        """Intrinsics (4,) of the undistorted picture: the largest that has no empty border."""
        if not self.is_distorted:
            return self.intrinsics
        matrix, _ = cv2.getOptimalNewCameraMatrix(self._matrix(), self.coefficients, self.size[::-1], 0)
        return np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5])

    def maps(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What `cv2.remap` needs, or None where nothing is to be done."""
        if not self.is_distorted:
            return None
        fx, fy, cx, cy = self.straight()
        new = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
        maps = cv2.initUndistortRectifyMap(self._matrix(), self.coefficients, np.eye(3), new,
                                           self.size[::-1], cv2.CV_32FC1)
        return maps[0], maps[1]

    def _matrix(self) -> np.ndarray:
        """With the centre of the first pixel at (0, 0), as OpenCV has it."""
        fx, fy, cx, cy = self.intrinsics
        return np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])


def write_pictures(
    path: Path, fps: float, uris: Sequence[str], lens_of: Callable[[tuple[int, int]], Lens | None],
) -> str:
    """Join pictures into an MP4 of this rate; returns a hash of their bytes.

    lens_of: the lens behind pictures of a size, None where they are straight. Sides are cut to even numbers
    at the right and at the bottom, which moves no camera. Raises BadCameras for a picture that is missing,
    cannot be read, or is of another size than the first.
    """
    digest = hashlib.blake2b(digest_size=32)
    writer: ClipWriter | None = None
    maps, size = None, (0, 0)
    try:
        for uri in uris:
            data = read_bytes(uri)
            digest.update(data)
            picture = decode_picture(data, uri)
            if writer is None:
                size = picture.shape[:2]
                lens = lens_of(size)
                maps = lens.maps() if lens is not None else None
                rate = Fraction(fps).limit_denominator(1001)
                writer = ClipWriter((size[0] // 2 * 2, size[1] // 2 * 2), rate, _CRF)
            if picture.shape[:2] != size:
                raise BadCameras(f"{uri}: {picture.shape[1]}x{picture.shape[0]}, the pictures before are "
                                 f"{size[1]}x{size[0]}")
            if maps is not None:
                picture = cv2.remap(picture, *maps, interpolation=cv2.INTER_LINEAR)
            writer.add(picture[:writer.size[0], :writer.size[1]])
        if writer is None:
            raise BadCameras(f"{path.name}: no pictures to join")
        path.write_bytes(writer.finish())
        writer = None
    finally:
        if writer is not None:
            writer.discard()
    return digest.hexdigest()


def decode_picture(data: bytes, uri: str) -> np.ndarray:
    """(H, W, 3) RGB uint8. Raises BadCameras."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if picture is None:
        raise BadCameras(f"{uri}: not a picture that can be read")
    return picture


def picture_size(uri: str) -> tuple[int, int]:
    """(height, width) of one picture. Raises BadCameras."""
    height, width = decode_picture(read_bytes(uri), uri).shape[:2]
    return height, width
