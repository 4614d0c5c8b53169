"""The image a video starts from, and the lens it was taken with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dataset.camera import fov_deg, resize_intrinsics
from dataset.rays import fit_image, frame_intrinsics
from infer.trajectory import Trajectory
from infer.vanishing import FocalEstimate, estimate_focal

if TYPE_CHECKING:
    from PIL import Image as Pillow

NARROWEST, WIDEST = 25.0, 120.0
"""Degrees across which a view may span, as in the release."""
ASSUMED_DEG = 60.0
"""Across the longer side of an image that says nothing of its lens."""
MOST_SPREAD = 0.2
"""Relative error, 1 sigma, up to which a focal length found in the image's lines is believed."""
_EXIF, _FOCAL_35MM = 0x8769, 0xA405
_FILM_DIAGONAL = float(np.hypot(36.0, 24.0))


@dataclass(frozen=True)
class Image:
    """pixels (H, W, 3) uint8, upright    focal_35mm: what the camera noted, or None"""

    pixels: np.ndarray
    focal_35mm: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def focal_of_lines(self) -> FocalEstimate:
        """What the image's straight lines say of its lens."""
        return estimate_focal(self.pixels)

    def fitted(self, size: tuple[int, int]) -> np.ndarray:
        """Resized to cover `size` and cropped in the middle: (H, W, 3) uint8."""
        from PIL import Image as Pillow

        fit = fit_image(self.size, size)
        resized = Pillow.fromarray(self.pixels).resize(fit.resized[::-1], Pillow.Resampling.LANCZOS)
        return np.asarray(resized)[fit.top : fit.top + size[0], fit.left : fit.left + size[1]]


def read_image(path: str | Path) -> Image:
    """Raises ValueError for a file that is no image, or not whole."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(Path(path).expanduser()) as opened:
            return upright(opened)
    except FileNotFoundError:
        raise ValueError(f"image={path}: there is no such file") from None
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise ValueError(f"image={path}: cannot be read as an image: {error}") from None


def upright(opened: Pillow.Image) -> Image:
    """The pixels of an opened picture, turned as its camera was held, and the lens it noted."""
    from PIL import ImageOps

    focal = opened.getexif().get_ifd(_EXIF).get(_FOCAL_35MM)
    pixels = ImageOps.exif_transpose(opened).convert("RGB")
    return Image(np.asarray(pixels), float(focal) if focal else None)


@dataclass(frozen=True)
class Lens:
    """intrinsics (frames, 4) in pixels of the video    origin: how they are known"""

    intrinsics: np.ndarray
    origin: str


def find_lens(
    image: Image, size: tuple[int, int], frames: int, given: Sequence[float] | None,
    fov: float | None, trajectory: Trajectory,
) -> Lens:
    """Of the video of `size` that begins with `image`, from what is known, in this order: `given` (fx, fy,
    cx, cy in pixels of the image), `fov` in degrees across its longer side, the trajectory's file, what the
    camera noted in the image, what its lines say where they say enough, and else an assumed view. `origin`
    says which it was.

    Raises ValueError where a view spans less than 25 or more than 120 degrees.
    """
    height, width = image.size
    centre = [width / 2, height / 2]
    if given is not None:
        values, origin = frame_intrinsics(given, frames), "given"
    elif fov is not None:
        values, origin = frame_intrinsics([*[_focal(max(image.size), fov)] * 2, *centre], frames), "given"
    elif trajectory.intrinsics is not None:
        own = frame_intrinsics(trajectory.intrinsics, frames)
        values, origin = _moved(own, trajectory.size or image.size, image.size), "trajectory"
    elif image.focal_35mm is not None:
        focal = image.focal_35mm / _FILM_DIAGONAL * float(np.hypot(height, width))
        values, origin = frame_intrinsics([focal, focal, *centre], frames), "EXIF"
    elif image.focal_of_lines.spread <= MOST_SPREAD:
        share, spread = image.focal_of_lines.focal, image.focal_of_lines.spread
        focal = share * max(image.size)
        values = frame_intrinsics([focal, focal, *centre], frames)
        origin = (f"estimated from its lines: {2 * np.degrees(np.arctan(0.5 / share)):.0f} degrees across "
                  f"the longer side, its focal length give or take {100 * spread:.0f} %")
    else:
        focal = _focal(max(image.size), ASSUMED_DEG)
        values = frame_intrinsics([focal, focal, *centre], frames)
        origin = f"assumed: {ASSUMED_DEG:g} degrees across the longer side"
    for axis, degrees in zip(("horizontally", "vertically"), fov_deg(values, image.size), strict=True):
        worst = float(degrees[np.argmax(np.abs(degrees - (NARROWEST + WIDEST) / 2))])
        if not NARROWEST <= worst <= WIDEST:
            raise ValueError(f"intrinsics ({origin}): the view spans {worst:.1f} degrees {axis}, allowed "
                             f"{NARROWEST:g} to {WIDEST:g}.\n  Give intrinsics=[fx,fy,cx,cy] in pixels of "
                             f"the image, {width} x {height}, or fov=<degrees across its longer side>.")
    return Lens(fit_image(image.size, size).intrinsics(values), origin)


def _focal(pixels: int, degrees: float) -> float:
    if not 0 < degrees < 180:
        raise ValueError(f"fov={degrees:g}, allowed {NARROWEST:g} to {WIDEST:g} degrees")
    return pixels / 2 / float(np.tan(np.radians(degrees / 2)))


def _moved(values: np.ndarray, own: tuple[int, int], to: tuple[int, int]) -> np.ndarray:
    """From pictures of size `own` to the image, which must show the same view."""
    if abs(own[0] * to[1] / (own[1] * to[0]) - 1) > 0.02:
        raise ValueError(f"intrinsics of the trajectory belong to {own[1]} x {own[0]}, the image is {to[1]} "
                         f"x {to[0]}: another shape, so they are not its own.\n  Give "
                         "intrinsics=[fx,fy,cx,cy] in pixels of the image, or fov=<degrees>.")
    return resize_intrinsics(values, own, to)
