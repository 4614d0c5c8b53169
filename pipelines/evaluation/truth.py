"""Rendered scenes: how like the true video a video is, also where its camera cannot be found."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.frames import Frames
from pipelines.evaluation.cases import Case
from pipelines.evaluation.rendered import room_at
from pipelines.evaluation.revisit import likeness

_PICTURES = 16
"""Of a video, spread over it; the first, which is given, is not among them."""


def truth_psnr(frames: Frames, case: Case, first: int) -> float | None:
    """Mean PSNR against pictures drawn along the path that was asked for; None where nothing can be drawn.

    first: pose of the path that the first frame shows.
    """
    if case.room is None:
        return None
    last = first + len(frames) - 1
    chosen = np.unique(np.linspace(max(first, 1), last, min(_PICTURES, len(frames))).round().astype(int))
    film = room_at(case.room, case.size).film(case.c2w[chosen])
    values = []
    for pose, (true,) in zip(chosen.tolist(), film, strict=True):
        shown = frames.rgb(pose - first)
        if shown.shape != true.shape:
            shown = cv2.resize(shown, case.size[::-1], interpolation=cv2.INTER_AREA)
        values.append(likeness(shown, true).psnr)
    return float(np.mean(values))
