"""The frames at hand as a stretch of a clip: what layers ask when they need frames that are not at hand."""

from __future__ import annotations

from torch import Tensor

from model.gdn_scan import Link
from model.mask import Mask


class Span:
    """All frames of the clip are here, so nothing lies before or after them.

    Frames are numbered from the first one at hand, which is frame `first` of the clip.
    """

    first: int = 0
    link: Link | None = None

    def before(self, x: Tensor, count: int) -> Tensor:
        """The `count` frames before x (B, T, ...), zeros where the clip has none: (B, count, ...)."""
        return x.new_zeros(x.shape[0], count, *x.shape[2:])

    def after(self, x: Tensor, count: int) -> Tensor:
        """The frames after x (B, T, ...), at most `count` and no more than the clip has."""
        return x[:, :0]

    def gather(self, x: Tensor) -> Tensor:
        """x of all frames of the clip, for the part of x (B, T, ...) that is here."""
        return x

    def bounds(self, mask: Mask, frames: int) -> list[tuple[int, int]]:
        """(first, end) of every chunk with a frame among the `frames` at hand: first of them here, end of the
        chunk, which may lie further on."""
        return mask.bounds(frames)


WHOLE = Span()
