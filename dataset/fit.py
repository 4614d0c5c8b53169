"""How a clip becomes video of the size that is encoded or trained on: one rule for its pixels and for its
intrinsics, a function of the sizes alone, so that whoever holds the latents can follow it."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from dataset.rays import ImageFit, fit_image


class Framing(StrEnum):
    """How a clip becomes video of another size."""

    cover = "cover"  # the smallest resize that covers it, and the middle of that; our own way
    stretch = "stretch"  # each side by its own ratio; the way of latents published with SANA-WM


def largest_size(size: tuple[int, int], space_stride: int) -> tuple[int, int]:
    """The largest (height, width) inside `size` whose sides are multiples of the stride.

    Raises ValueError where there is none.
    """
    height, width = (side // space_stride * space_stride for side in size)
    if not height or not width:
        raise ValueError(f"video of {size[1]}x{size[0]}: smaller than a latent cell of {space_stride} pixels")
    return height, width


def fit_clip(
    size: tuple[int, int], target: tuple[int, int], space_stride: int, framing: Framing | str = Framing.cover,
) -> ImageFit:
    """How frames of `size` become frames of `target`, whose sides must be multiples of the stride.

    The largest such size inside the clip is cut out of its middle, without resampling; any other is
    reached by the smallest resize that covers it and a cut out of the middle. With `framing` "stretch" each
    side is resized by its own ratio instead. Raises ValueError.
    """
    if any(side < 1 or side % space_stride for side in target):
        raise ValueError(f"size {target[1]}x{target[0]}: both sides must be multiples of {space_stride}, "
                         "the stride of the codec")
    if Framing(framing) is Framing.stretch:
        return ImageFit(size, target, 0, 0, target)
    if all(0 <= have - want < space_stride for have, want in zip(size, target, strict=True)):
        return ImageFit(size, size, (size[0] - target[0]) // 2, (size[1] - target[1]) // 2, target)
    return fit_image(size, target)


def fit_frame(frame: np.ndarray, fit: ImageFit) -> np.ndarray:
    """A frame (H, W, 3) uint8 of `fit.size` as one of `fit.target`."""
    import cv2

    if fit.resized != fit.size:
        smaller = fit.resized[0] < fit.size[0] or fit.resized[1] < fit.size[1]
        frame = cv2.resize(frame, fit.resized[::-1],
                           interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LANCZOS4)
    height, width = fit.target
    return np.ascontiguousarray(frame[fit.top:fit.top + height, fit.left:fit.left + width])
