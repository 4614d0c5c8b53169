"""Overlays drawn onto moving scenes, and scenes without any."""

import cv2
import numpy as np
import pytest

from annotate.decode import read_frames
from annotate.overlay.find import FEWEST_FRAMES, find_overlays

SIZE = (360, 640)


def walk(count: int = 24, size: tuple[int, int] = SIZE, speed: int = 9) -> np.ndarray:
    """(F, h, w) uint8: a texture that slides by."""
    rng = np.random.default_rng(5)
    wide = cv2.resize(rng.integers(20, 200, (30, 120), dtype=np.uint8), (size[1] + count * speed, size[0]),
                      interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 1.5, (count, *size))
    return np.stack([(wide[:, speed * k:speed * k + size[1]] + noise[k]).clip(0, 255).astype(np.uint8)
                     for k in range(count)])


def drawn(kind: str, size: tuple[int, int]) -> np.ndarray:
    """(h, w) in 0..1: an overlay's opacity."""
    height, width = size
    mask, scale = np.zeros(size, np.uint8), height / 360
    if kind == "text":
        cv2.putText(mask, "StockVideo", (int(width * 0.6), int(height * 0.93)), cv2.FONT_HERSHEY_SIMPLEX,
                    0.9 * scale, 255, max(1, round(2 * scale)), cv2.LINE_AA)
    elif kind == "badge":
        centre = int(width * 0.9), int(height * 0.14)
        cv2.circle(mask, centre, int(20 * scale), 255, -1, cv2.LINE_AA)
        cv2.putText(mask, "A", (centre[0] - int(8 * scale), centre[1] + int(8 * scale)),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, 0, 2)
    else:
        cv2.putText(mask, "WATERMARK", (int(width * 0.2), int(height * 0.55)), cv2.FONT_HERSHEY_DUPLEX,
                    1.8 * scale, 255, max(1, round(3 * scale)), cv2.LINE_AA)
    return mask / 255.0


def laid_over(frames: np.ndarray, mask: np.ndarray, opacity: float) -> np.ndarray:
    return (frames * (1 - opacity * mask) + 255 * opacity * mask).astype(np.uint8)


def covered(boxes, mask: np.ndarray) -> float:
    """Share of an overlay that lies within the boxes."""
    inside = np.zeros(mask.shape, bool)
    for top, left, bottom, right in boxes:
        rows = slice(int(top * mask.shape[0]), int(np.ceil(bottom * mask.shape[0])))
        inside[rows, int(left * mask.shape[1]):int(np.ceil(right * mask.shape[1]))] = True
    return float(inside[mask > 0.2].mean())


@pytest.mark.parametrize("kind", ["text", "badge", "across"])
@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_an_overlay_is_found_where_it_is(kind, opacity):
    mask = drawn(kind, SIZE)
    found = find_overlays(laid_over(walk(), mask, opacity))
    rows, columns = np.nonzero(mask > 0.2)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / mask.size
    assert covered(found.boxes, mask) > 0.9
    assert found.share is not None and 0.7 * box < found.share < 1.6 * box + 0.002


def test_a_scene_without_an_overlay_has_none():
    found = find_overlays(walk())
    assert found.share == 0.0 and found.boxes == ()


def test_of_a_still_camera_nothing_is_said():
    still = np.repeat(walk(1), 20, axis=0)
    assert find_overlays(still).share is None
    assert find_overlays(walk(FEWEST_FRAMES - 1)).share is None
    assert find_overlays(np.full((20, *SIZE), 90, np.uint8)).share is None


def test_the_horizon_and_a_lane_ahead_are_no_overlays():
    frames = walk()
    frames[:, :150] = 210  # an even sky, whose edge stands still
    for frame in frames:
        cv2.line(frame, (320, 170), (600, 350), 250, 3, cv2.LINE_AA)
    assert find_overlays(frames).boxes == ()


@pytest.fixture(scope="module")
def real(shared_data):
    """Grey frames, four a second, of real videos in which the camera moves."""
    videos = {}
    for name in ("videos/corridor_walk", "videos/highway_drive", "videos/dog_handheld", "poses/kitti06/video",
                 "poses/tote/video", "poses/fox/video", "videos/bedroom_children"):
        frames, due = [], 0.0
        for time_s, image in read_frames(shared_data / f"{name}.mp4", 640):
            if float(time_s) >= due - 1e-6:
                frames.append(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
                due += 0.25
        videos[name] = np.stack(frames)
    return videos


@pytest.mark.shared
def test_real_videos_without_overlays_have_next_to_none(real):
    """The windscreen of the car reflects the dashboard, which stands still, too."""
    shares = {name: find_overlays(frames).share for name, frames in real.items()}
    assert shares.pop("videos/highway_drive") < 0.01
    assert set(shares.values()) == {0.0}


@pytest.mark.shared
def test_most_overlays_on_real_videos_are_found(real):
    """Missed are white ones on white ground."""
    hits = []
    for frames in real.values():
        for kind in ("text", "badge", "across"):
            mask = drawn(kind, frames.shape[1:])
            for opacity in (1.0, 0.5):
                hits.append(covered(find_overlays(laid_over(frames, mask, opacity)).boxes, mask) > 0.5)
    assert np.mean(hits) >= 0.8, np.mean(hits)
