"""Feature tracks across frames that cannot be followed."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.pose.config import TrackConfig
from annotate.pose.sift import weak_links, with_features
from annotate.pose.tracks import follow


def jumps() -> tuple[np.ndarray, list[np.ndarray]]:
    """Six views of a textured plane, turned by 25 degrees and shifted by 60 px from one to the next."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.normal(0, 1, (900, 1200)).astype(np.float32), (0, 0), 2.5)
    image += 3 * cv2.GaussianBlur(rng.normal(0, 1, (900, 1200)).astype(np.float32), (0, 0), 8)
    image = np.clip(128 + 50 * image / image.std(), 0, 255).astype(np.uint8)
    matrices = []
    for t in range(6):
        turn = cv2.getRotationMatrix2D((600.0, 450.0), 25.0 * t, 1.0)
        turn[:, 2] += (-400 + 60 * t - 150, -300)
        matrices.append(np.vstack([turn, [0, 0, 1]]))
    return np.stack([cv2.warpPerspective(image, matrix, (480, 320)) for matrix in matrices]), matrices


def test_features_join_what_tracking_cannot() -> None:
    frames, matrices = jumps()
    tracks = follow(frames, np.arange(6) / 2, TrackConfig())
    weak = weak_links(tracks, 0.4)
    assert weak.all()
    joined = with_features(tracks, frames, weak)
    _, a, b = joined.common(1, 2)
    assert len(a) > len(tracks.common(1, 2)[0]) + 30
    between = matrices[2] @ np.linalg.inv(matrices[1])
    error = np.linalg.norm(cv2.perspectiveTransform((a - 0.5)[:, None], between)[:, 0] + 0.5 - b, axis=1)
    assert np.median(error) < 0.5


def test_a_track_meets_a_frame_once_and_ids_ascend_within_it() -> None:
    frames, _ = jumps()
    tracks = follow(frames, np.arange(6) / 2, TrackConfig())
    joined = with_features(tracks, frames, weak_links(tracks, 0.4))
    for frame in range(6):
        ids, pixels = joined.at(frame)
        assert (np.diff(ids) > 0).all() and len(ids) == len(pixels)


def test_without_weak_links_nothing_is_added() -> None:
    frames, _ = jumps()
    still = np.repeat(frames[:1], 4, axis=0)
    tracks = follow(still, np.arange(4) / 2, TrackConfig())
    weak = weak_links(tracks, 0.4)
    assert not weak.any()
    assert with_features(tracks, still, weak) is tracks
