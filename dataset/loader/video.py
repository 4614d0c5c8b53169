"""Frames of a clip's video, decoded in order, which is exact for any video."""

from __future__ import annotations

import io

import numpy as np

from dataset.fit import fit_frame
from dataset.rays import ImageFit


def decode_frames(data: memoryview, first: int, out: np.ndarray, fit: ImageFit) -> None:
    """Fill `out` (3, F, H, W) uint8 with frames `first` to `first + F`, RGB, fitted.

    Raises ValueError for video that is damaged, shorter, or of another size than `fit` takes.
    """
    import av

    count = out.shape[1]
    at = 0
    try:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # the loader's workers are the threads
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError(f"frame {at} is damaged")
                if (frame.height, frame.width) != fit.size:
                    raise ValueError(f"frame {at} is {frame.width}x{frame.height}, "
                                     f"its cameras are of {fit.size[1]}x{fit.size[0]}")
                if at >= first:
                    out[:, at - first] = fit_frame(frame.to_ndarray(format="rgb24"), fit).transpose(2, 0, 1)
                at += 1
                if at == first + count:
                    return
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"not a video that can be decoded: {error}") from error
    raise ValueError(f"ends after {at} frames, expected {first + count}")
