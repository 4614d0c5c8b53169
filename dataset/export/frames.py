"""The pictures of a clip on their way into another format."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from dataset.reader import SampleError


def iter_frames(mp4: bytes, where: str) -> Iterator[np.ndarray]:
    """Every frame (H, W, 3) RGB uint8, in order. Raises SampleError naming `where`."""
    import av

    try:
        with av.open(io.BytesIO(mp4), "r") as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(container.streams.video[0]):
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise SampleError(f"{where}: not a video that can be decoded: {error}") from error


def annexb_packets(mp4: bytes, where: str) -> Iterator[bytes]:
    """Every frame as it is coded, H.264 with start codes and with parameter sets at each key frame.

    Raises SampleError for video of another codec or with frames that are shown in another order than coded.
    """
    import av
    from av.bitstream import BitStreamFilterContext

    try:
        with av.open(io.BytesIO(mp4), "r") as container:
            stream = container.streams.video[0]
            if stream.codec_context.name != "h264" or stream.codec_context.has_b_frames:
                raise SampleError(f"{where}: {stream.codec_context.name} video, "
                                  "expected H.264 without B-frames")
            convert = BitStreamFilterContext("h264_mp4toannexb", stream)
            for packet in container.demux(stream):
                if packet.size:
                    yield from (bytes(made) for made in convert.filter(packet))
    except (av.error.FFmpegError, IndexError) as error:
        raise SampleError(f"{where}: not a video that can be read: {error}") from error
