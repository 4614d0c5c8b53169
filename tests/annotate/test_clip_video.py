import random

import av
import cv2
import numpy as np
import pytest

from annotate.clip_video import ClipVideo
from annotate.cut.encode import ClipWriter


@pytest.fixture(scope="module")
def clip() -> bytes:
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 255, (72, 400, 3), dtype=np.uint8), (0, 0), 3)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX)
    writer = ClipWriter((72, 128), crf=10)
    for k in range(57):
        writer.add(wall[:, 2 * k:2 * k + 128])
    return writer.finish()


def test_frames_in_any_order_are_those_read_in_order(clip):
    video = ClipVideo(clip)
    in_order = list(video.iter_rgb())
    assert len(video) == len(in_order) == 57 and video.size == (72, 128) and video.fps == 16
    order = list(range(57))
    random.Random(3).shuffle(order)
    for index in [*order, *range(57), *reversed(range(57))]:
        assert np.array_equal(video.rgb(index), in_order[index])
    assert len({frame.tobytes() for frame in in_order}) == 57


def test_greys_are_full_range_area_means_and_kept(clip):
    video = ClipVideo(clip)
    small = video.gray(64)
    assert small.shape == (57, 36, 64) and small.dtype == np.uint8
    assert video.gray(64) is small
    weights = np.array([0.2126, 0.7152, 0.0722])
    luma = (video.rgb(30) @ weights).reshape(36, 2, 64, 2).mean(axis=(1, 3))
    assert np.abs(small[30] - luma).mean() < 1.5
    assert np.ptp(small) > 60


def test_one_pass_serves_all_that_was_announced_and_changes_nothing(clip):
    """The pass is another stage's; afterwards nothing has to be decoded."""
    video = ClipVideo(clip)
    video.keep([64, 32, 50])
    planes = [luma.copy() for luma, _, _ in video.iter_yuv()]
    assert len(planes) == 57
    video._mp4 = b"gone"
    for width in (32, 50, 64):
        assert np.array_equal(video.gray(width), ClipVideo(clip).gray(width))
    with pytest.raises(av.FFmpegError):
        video.gray(40)


def test_a_pass_that_is_given_up_leaves_nothing_behind(clip):
    video = ClipVideo(clip)
    video.keep([64])
    for _ in zip(video.iter_yuv(), range(5)):
        pass
    assert np.array_equal(video.gray(64), ClipVideo(clip).gray(64))


def test_a_clip_with_fewer_frames_than_its_header_states_is_an_error(clip):
    video = ClipVideo(clip)
    video._count += 1
    with pytest.raises(ValueError, match="57 frames can be decoded, its header states 58"):
        video.gray(64)


def test_greys_are_never_enlarged(clip):
    video = ClipVideo(clip)
    assert video.gray(1000).shape == (57, 72, 128)
    luma = next(video.iter_yuv())[0]
    inner = (luma > 20) & (luma < 230)
    assert np.abs(video.gray(128)[0][inner] - (luma[inner].astype(float) - 16) * 255 / 219).max() <= 0.5


def test_planes_stream_in_full_size(clip):
    count = 0
    for luma, blue, red in ClipVideo(clip).iter_yuv():
        assert luma.shape == (72, 128) and blue.shape == red.shape == (36, 64)
        count += 1
    assert count == 57


def test_frames_outside_the_clip_are_an_error(clip):
    video = ClipVideo(clip)
    for index in (-1, 57):
        with pytest.raises(IndexError, match=f"frame {index} of a clip of 57"):
            video.rgb(index)


@pytest.mark.parametrize("data", [b"", b"not a video"])
def test_bytes_that_are_no_clip_are_an_error(data):
    with pytest.raises(ValueError, match="not a video written here"):
        ClipVideo(data)
