"""Videos of any generator, matched with the poses they were asked to follow."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.evaluation.frames import VideoFrames

SIZE = (48, 64)


def write(path: Path, count: int, fps: float = 16) -> Path:
    """A video whose frame k is grey 40 + k % 160."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = SIZE
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "4"}
        for k in range(count):
            picture = np.full((*SIZE, 3), 40 + k % 160, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    return path


def levels(frames: VideoFrames) -> np.ndarray:
    return frames.gray(64).mean((1, 2)) - 40


def test_as_many_frames_as_poses_are_one_to_one_at_any_stated_rate(tmp_path: Path) -> None:
    frames = VideoFrames(write(tmp_path / "v.mp4", 49, fps=30), 49)
    assert len(frames) == 49 and frames.first == 0 and frames.size == SIZE
    assert np.allclose(levels(frames), np.arange(49), atol=2)


def test_one_frame_less_has_left_out_the_image(tmp_path: Path) -> None:
    frames = VideoFrames(write(tmp_path / "v.mp4", 48), 49)
    assert (frames.first, len(frames)) == (1, 48)


@pytest.mark.parametrize("fps", [8, 24, 30])
def test_other_rates_are_matched_by_time(tmp_path: Path, fps: int) -> None:
    frames = VideoFrames(write(tmp_path / "v.mp4", 3 * fps + 1, fps), 49)  # 3 s for 49 poses
    assert frames.first == 0 and len(frames) == 49
    assert np.allclose(levels(frames), np.arange(49) / 16 * fps, atol=2.5)


def test_pictures_are_those_of_their_indices_in_any_order(tmp_path: Path) -> None:
    frames = VideoFrames(write(tmp_path / "v.mp4", 73, fps=24), 49)
    found = frames.pictures([40, 3, 40, 17])
    assert list(found) == [3, 17, 40]
    for index, picture in found.items():
        assert picture.shape == (*SIZE, 3) and abs(picture.mean() - 40 - index * 1.5) < 3
    assert np.array_equal(frames.rgb(3), found[3])  # back, against the order of the file


def test_a_video_that_ends_early_says_when_and_is_taken_where_little_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"short.mp4: 30 frames, 1.88 s; the path has 49 poses, 3.06 s"):
        VideoFrames(write(tmp_path / "short.mp4", 30), 49)
    assert len(VideoFrames(write(tmp_path / "nearly.mp4", 46), 49)) >= 46


def test_what_is_no_video_and_what_breaks_off_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(ValueError, match=r"text.mp4: cannot be read as a video"):
        VideoFrames(tmp_path / "text.mp4", 49)
    whole = write(tmp_path / "v.mp4", 49).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half.mp4: "):
        VideoFrames(tmp_path / "half.mp4", 49)
    with pytest.raises(ValueError, match=r"one.mp4: 1 frames"):
        VideoFrames(write(tmp_path / "one.mp4", 1), 49)


@pytest.mark.shared
def test_damaged_footage_is_refused_and_not_measured_in_part(shared_data: Path) -> None:
    for name in ("truncated_half.mp4", "truncated_no_index.mp4", "audio_only.mp4", "zero_length.mp4"):
        with pytest.raises(ValueError, match=name):
            VideoFrames(shared_data / "hard" / name, 221)
