import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.frames import ArrayFrames
from annotate.pose.pairs import FlowPairs, follow, follow_pairs
from annotate.pose.selfcheck import (
    Outcome,
    QuaternionOrder,
    check_convention,
    check_own,
    check_pairs,
    measure,
)
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.camera import invert, project, resize_intrinsics
from dataset.clip import CameraTrack, FrameVerdict, Motion

SIZE = (360, 640)
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def walk(frames: int = 60) -> np.ndarray:
    time = np.linspace(0, 1, frames)
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, 3] = np.stack([2 * np.sin(5 * time), 0.2 * np.cos(9 * time), 4 * time], 1)
    angles = np.stack([40 * np.sin(4 * time), 6 * np.sin(7 * time)], 1)
    c2w[:, :3, :3] = Rotation.from_euler("yx", angles, degrees=True).as_matrix()
    return c2w


def inside(pixels: np.ndarray) -> np.ndarray:
    return np.isfinite(pixels).all(1) & (pixels > 0).all(1) & (pixels < SIZE[::-1]).all(1)


def points_followed_by(c2w: np.ndarray, intrinsics: np.ndarray, gap: int = 5) -> FlowPairs:
    """What a perfect tracker would see of points around the path."""
    random = np.random.default_rng(1)
    points = random.uniform([-10, -4, 2], [10, 4, 18], (800, 3))
    pairs, starts, ends = [], [], []
    for first in np.linspace(3, len(c2w) - gap - 4, 20).astype(int):
        seen = [project(points @ invert(c2w[i])[:3, :3].T + invert(c2w[i])[:3, 3], intrinsics[i])
                for i in (first, first + gap)]
        both = inside(seen[0]) & inside(seen[1])
        pairs.append((first, first + gap))
        starts.append(seen[0][both])
        ends.append(seen[1][both] + random.normal(0, 0.2, (int(both.sum()), 2)))
    first, second = np.array(pairs).T
    return FlowPairs(
        first, second, np.repeat(np.arange(len(pairs)), [len(s) for s in starts]), np.concatenate(starts),
        np.concatenate(ends),
        np.array([np.median(np.linalg.norm(e - s, axis=1)) for s, e in zip(starts, ends)]), SIZE,
    )


def late(c2w: np.ndarray, frames: int) -> np.ndarray:
    shifted = np.full_like(c2w, np.nan)
    shifted[:-frames] = c2w[frames:]
    return shifted


def as_track(c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> CameraTrack:
    unknown = np.full(len(c2w), np.nan)
    return CameraTrack(c2w, intrinsics, size, np.arange(len(c2w)) / 10, unknown, unknown.copy(),
                       np.full(len(c2w), FrameVerdict.GIVEN, np.uint8), Motion.PARALLAX, "given", unit="m")


INTRINSICS = np.tile([500.0, 500.0, 320.0, 180.0], (60, 1))
MISREADINGS = {
    "inverted": (invert, INTRINSICS),
    "OpenGL axes": (lambda c2w: c2w @ OPENGL, INTRINSICS),
    "OpenGL, inverted": (lambda c2w: invert(c2w) @ OPENGL, INTRINSICS),
    "1 frame late": (lambda c2w: late(c2w, 1), INTRINSICS),
    "3 frames late": (lambda c2w: late(c2w, 3), INTRINSICS),
    "of half the size": (lambda c2w: c2w, INTRINSICS * 0.5),
    "of 1.5 x the size": (lambda c2w: c2w, INTRINSICS * 1.5),
    "normalised": (lambda c2w: c2w, INTRINSICS / (640, 360, 640, 360)),
}


def test_the_true_reading_is_accepted():
    c2w = walk()
    check = check_pairs(points_followed_by(c2w, INTRINSICS), c2w, INTRINSICS, QuaternionOrder.xyzw)
    assert check.outcome is Outcome.ACCEPTED
    assert check.stated.sampson_px < 0.2 and check.stated.cheirality > 0.99
    assert len(check.scores) == 8 * 7 * 7


@pytest.mark.parametrize("misreading", MISREADINGS)
def test_every_wrong_reading_is_refused_and_the_table_names_the_right_one(misreading):
    c2w = walk()
    read, intrinsics = MISREADINGS[misreading]
    check = check_pairs(points_followed_by(c2w, INTRINSICS), read(c2w), intrinsics)
    assert check.outcome is Outcome.REFUSED
    truth = check.scores[1]
    assert truth.sampson_px < 0.2 and truth.cheirality > 0.99 and truth.reading in check.table()


@pytest.mark.parametrize("stated", list(QuaternionOrder))
@pytest.mark.parametrize("stores_w2c", [False, True])
def test_a_quaternion_in_the_other_order_is_refused_whichever_matrix_the_file_stores(stated, stores_w2c):
    c2w = walk()
    stored = invert(c2w) if stores_w2c else c2w
    true_xyzw = Rotation.from_matrix(stored[:, :3, :3]).as_quat()
    # the file truly holds the other order than stated; the reader takes its numbers as stated
    numbers = true_xyzw if stated is QuaternionOrder.wxyz else np.roll(true_xyzw, 1, axis=1)
    taken_xyzw = np.roll(numbers, -1, axis=1) if stated is QuaternionOrder.wxyz else numbers
    read = stored.copy()
    read[:, :3, :3] = Rotation.from_quat(taken_xyzw).as_matrix()
    taken = invert(read) if stores_w2c else read
    check = check_pairs(points_followed_by(c2w, INTRINSICS), taken, INTRINSICS, stated)
    assert check.outcome is Outcome.REFUSED
    assert check.scores[1].reading.startswith("quaternion in the other order")
    assert check.scores[1].sampson_px < 0.2


def test_straight_motion_needs_the_side_of_the_camera():
    c2w = np.tile(np.eye(4), (60, 1, 1))
    c2w[:, :3, 3] = np.linspace(0, 6, 60)[:, None] * np.array([0.6, 0.0, 0.8])
    pairs = points_followed_by(c2w, INTRINSICS)
    (true_sampson, true_side), (sampson, side) = (measure(pairs, p, INTRINSICS) for p in (c2w, invert(c2w)))
    assert sampson == pytest.approx(true_sampson, rel=1e-6) and true_side > 0.99 and side < 0.01
    assert check_pairs(pairs, invert(c2w), INTRINSICS).outcome is Outcome.REFUSED
    assert check_pairs(pairs, c2w, INTRINSICS).outcome is Outcome.ACCEPTED


def test_a_camera_that_only_turns_decides_nothing():
    c2w = walk()
    c2w[:, :3, 3] = 0.0
    pairs = points_followed_by(c2w, INTRINSICS)
    assert check_pairs(pairs, c2w, INTRINSICS).outcome is Outcome.UNDECIDED
    claimed = c2w.copy()
    claimed[:, 0, 3] = np.linspace(0, 5, 60)
    assert check_pairs(pairs, claimed, INTRINSICS).outcome is Outcome.UNDECIDED


def test_frames_without_cameras_do_not_count():
    c2w = walk()
    pairs = points_followed_by(c2w, INTRINSICS)
    holes = c2w.copy()
    holes[::7] = np.nan
    sampson, side = measure(pairs, holes, INTRINSICS)
    assert sampson < 0.2 and side > 0.99
    assert np.isnan(measure(pairs, np.full_like(c2w, np.nan), INTRINSICS)).all()


def test_points_are_followed_at_the_centres_of_pixels():
    random = np.random.default_rng(0)
    before = cv2.GaussianBlur((random.random((180, 240)) * 255).astype(np.uint8), (0, 0), 2)
    after = np.roll(before, (3, 7), axis=(0, 1))
    start, end = follow(before, after, 200)
    assert len(start) > 60 and np.abs(np.median(end - start, axis=0) - (7, 3)).max() < 0.02
    assert (start % 1 == 0.5).all()


@pytest.fixture(scope="module")
def rendered():
    spec = SyntheticSpec.parse("synthetic://room-walk?width=480&height=270&noise=1.0&seed=5")
    images, truth, _ = render_sequence(spec, frames=40)
    return ArrayFrames(images), truth


def test_rendered_video_accepts_its_cameras_and_refuses_misread_ones(rendered):
    frames, truth = rendered
    check = check_convention(frames, truth.c2w, truth.intrinsics)
    assert check.outcome is Outcome.ACCEPTED and check.stated.sampson_px < 0.3
    assert check_convention(frames, invert(truth.c2w), truth.intrinsics).outcome is Outcome.REFUSED


def test_an_engine_is_checked_on_its_own_output(rendered):
    frames, truth = rendered
    sampson, side = check_own(frames, truth)
    assert sampson < 0.3 and side > 0.97
    bent = truth.c2w.copy()
    yaw = np.linspace(0, 0.5, 40)[:, None] * np.array([0, 1, 0])
    bent[:, :3, :3] @= Rotation.from_rotvec(yaw).as_matrix()
    assert check_own(frames, as_track(bent, truth.intrinsics, truth.size))[0] > 3 * sampson


def test_pairs_have_a_useful_flow(rendered):
    pairs = follow_pairs(rendered[0], margin=3)
    assert len(pairs) >= 8 and np.median(pairs.flow_px) > 10 and pairs.flow_px.max() < 60
    assert pairs.first.min() >= 3 and pairs.second.max() <= 36 and (pairs.second > pairs.first).all()


def read_video(path) -> ArrayFrames:
    capture, images = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        images.append(frame[..., ::-1])
    return ArrayFrames(np.stack(images))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["tote", "kitti06", "fox"])
def test_real_sequences_accept_the_truth_and_refuse_every_misreading(shared_data, name):
    folder = shared_data / "poses" / name
    frames, c2w = read_video(folder / "video.mp4"), np.load(folder / "c2w.npy")
    intrinsics = np.load(folder / "intrinsics.npy").astype(np.float64) + (0, 0, 0.5, 0.5)
    assert check_convention(frames, c2w, intrinsics, QuaternionOrder.xyzw).outcome is Outcome.ACCEPTED
    pairs = follow_pairs(frames, margin=3)
    intrinsics = resize_intrinsics(intrinsics, frames.size, pairs.size)
    for wrong in (invert(c2w), c2w @ OPENGL, invert(c2w) @ OPENGL, late(c2w, 3)):
        assert check_pairs(pairs, wrong, intrinsics).outcome is Outcome.REFUSED
    for factor in (0.5, 1.5):
        assert check_pairs(pairs, c2w, intrinsics * factor).outcome is Outcome.REFUSED
