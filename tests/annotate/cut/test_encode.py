import gc
import io
import resource
from pathlib import Path

import av
import numpy as np
import pytest

from annotate.cut.encode import ClipWriter


def ramp(k: int, size=(90, 160)) -> np.ndarray:
    row = np.roll(np.linspace(20, 230, size[1]).astype(np.uint8), 3 * k)
    return np.tile(row[None, :, None], (size[0], 1, 3))


def write(frames, **how) -> bytes:
    writer = ClipWriter(frames[0].shape[:2], **how)
    for frame in frames:
        writer.add(frame)
    return writer.finish()


def test_equal_frames_give_equal_bytes():
    frames = [ramp(k) for k in range(33)]
    assert write(frames) == write(frames)
    assert write(frames) != write(frames[::-1])


def test_a_clip_has_a_constant_rate_closed_groups_and_its_index_in_front():
    data = write([ramp(k) for k in range(33)])
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.frames == 33 and stream.average_rate == 16
        assert [frame.pts * frame.time_base * 16 for frame in frames] == list(range(33))
        assert [k for k, frame in enumerate(frames) if frame.key_frame] == [0, 16, 32]
        for second in (0, 1, 2):  # closed: decoding may start at any key frame and gives the same pictures
            container.seek(round(second / stream.time_base), stream=stream)
            entered = next(container.decode(stream))
            expected = frames[16 * second].to_ndarray(format="gray")
            assert np.array_equal(entered.to_ndarray(format="gray"), expected)


def test_colours_come_back_as_they_were():
    colours = [(200, 30, 60), (20, 180, 90), (40, 60, 220), (250, 250, 250), (5, 5, 5)]
    frame = np.zeros((90, 160, 3), np.uint8)
    for k, colour in enumerate(colours):
        frame[:, 32 * k:32 * k + 32] = colour
    data = write([frame] * 9, crf=4)
    with av.open(io.BytesIO(data)) as container:
        context = container.streams.video[0].codec_context
        assert context.colorspace == context.color_primaries == context.color_trc == 1
        assert context.color_range == 1
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    for k, colour in enumerate(colours):
        assert np.abs(image[45, 32 * k + 16].astype(int) - colour).max() <= 4


def test_planes_are_taken_as_they_are():
    planes = np.full((135, 160), 128, np.uint8)
    planes[:90] = np.linspace(16, 235, 160).astype(np.uint8)
    data = write_planes(planes)
    with av.open(io.BytesIO(data)) as container:
        back = next(container.decode(video=0)).to_ndarray(format="yuv420p")
    assert np.abs(back.astype(int) - planes).max() <= 3


def write_planes(planes: np.ndarray) -> bytes:
    writer = ClipWriter((planes.shape[0] * 2 // 3, planes.shape[1]), crf=2)
    for _ in range(9):
        writer.add(av.VideoFrame.from_ndarray(planes, "yuv420p"))
    return writer.finish()


@pytest.mark.parametrize("size", [(91, 160), (90, 161), (0, 160)])
def test_sizes_that_cannot_be_halved_are_refused(size):
    with pytest.raises(ValueError, match="even, positive sides"):
        ClipWriter(size)


def test_a_frame_of_another_size_is_refused():
    writer = ClipWriter((90, 160))
    writer.add(ramp(0))
    with pytest.raises(ValueError, match="frame 1 is 160x92, the clip is 160x90"):
        writer.add(ramp(1, (92, 160)))
    writer.finish()


def test_a_clip_that_is_given_up_takes_its_encoder_along():
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    frame, resident = ramp(0, (720, 1280)), []
    gc.disable()  # what only the collector would free stays
    try:
        for _ in range(9):
            writer = ClipWriter((720, 1280))
            for _ in range(4):
                writer.add(frame)
            writer.discard()
            resident.append(resident_mb())
    finally:
        gc.enable()
    assert resident[-1] - resident[2] < 40, "an encoder of this size takes more than 10 MB"
