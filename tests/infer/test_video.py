"""Videos that grow, and what is left of one that breaks off."""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from infer.trajectory import read_trajectory
from infer.video import Video, to_pixels, write_video

SIZE = (48, 64)


def frames(count: int) -> np.ndarray:
    """A bright bar that moves a column a frame."""
    video = np.full((count, *SIZE, 3), 40, np.uint8)
    for number, frame in enumerate(video):
        frame[:, number % 60 : number % 60 + 4] = 220
    return video


def read(file: Path | io.BytesIO) -> np.ndarray:
    with av.open(file if isinstance(file, io.BytesIO) else str(file)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    video = Video(frames(37), np.tile(np.eye(4), (37, 1, 1)), np.tile([50.0, 50, 32, 24], (37, 1)))
    video.save(tmp_path / "a.mp4")
    found = read(tmp_path / "a.mp4")
    assert found.shape == video.frames.shape
    assert np.abs(found.astype(int) - video.frames).mean() < 3
    path = read_trajectory(str(tmp_path / "camera.npz"))
    assert len(path.c2w) == 37 and path.size == SIZE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "camera.npz"]


def test_a_video_plays_while_it_grows(tmp_path: Path) -> None:
    """Whenever a reader looks, it sees at least the whole seconds written so far."""
    written, seen = write_video(tmp_path / "a.mp4", np.split(frames(96), 6)), []
    for _ in written:
        seen.append(len(read(io.BytesIO((tmp_path / "a.partial.mp4").read_bytes()))) if seen else 0)
    assert all(16 * number <= count for number, count in enumerate(seen))
    assert len(read(tmp_path / "a.mp4")) == 96
    assert not (tmp_path / "a.partial.mp4").exists()


def test_what_was_made_before_a_fault_can_be_played(tmp_path: Path) -> None:
    def breaks() -> Iterator[np.ndarray]:
        yield frames(40)
        raise RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        list(write_video(tmp_path / "a.mp4", breaks()))
    assert [p.name for p in tmp_path.iterdir()] == ["a.partial.mp4"]
    assert len(read(tmp_path / "a.partial.mp4")) == 40


def test_equal_frames_give_equal_bytes_however_they_are_cut(tmp_path: Path) -> None:
    list(write_video(tmp_path / "a.mp4", [frames(30)]))
    list(write_video(tmp_path / "b.mp4", np.split(frames(30), [1, 8, 25])))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_pixels_are_rounded_and_kept_in_range() -> None:
    video = torch.tensor([-1.2, -1.0, 0.0, 0.999, 1.0, 3.0]).expand(1, 3, 1, 2, 6)
    assert to_pixels(video)[0, 1, :, 2].tolist() == [0, 0, 128, 255, 255, 255]


def test_sizes_and_names_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both sides must be even"):
        list(write_video(tmp_path / "a.mp4", [np.zeros((1, 45, 64, 3), np.uint8)]))
    with pytest.raises(ValueError, match=r"ends in \.mp4"):
        Video(frames(1), np.eye(4)[None], np.ones((1, 4))).save(tmp_path / "a.avi")
    assert not list(tmp_path.iterdir())
