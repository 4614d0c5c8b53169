from itertools import pairwise

import av
import numpy as np
import pytest

from annotate.synthetic import SyntheticSpec, SyntheticTruth, render_frames, render_sequence, render_video
from annotate.synthetic.paths import make_path
from annotate.synthetic.spec import Motion, Place
from dataset.camera import check_c2w, rotation_angle_deg
from dataset.clip import FrameVerdict
from dataset.clip import Motion as MotionClass

ALL = [(place, motion) for place in Place for motion in Motion]


@pytest.mark.parametrize(("place", "motion"), ALL)
def test_every_path_is_rigid_smooth_and_at_walking_height(place, motion):
    path = make_path(place, motion, 10.0, np.random.default_rng(1))
    times = np.arange(0, 10, 1 / 240)
    c2w = check_c2w(path.c2w(times), "path")
    speed = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1) * 240
    turn = rotation_angle_deg(c2w[:-1, :3, :3].swapaxes(1, 2) @ c2w[1:, :3, :3]) * 240
    assert np.abs(c2w[:, 1, 3] + 1.55).max() <= 0.021
    assert speed.max() < 4.2 and turn.max() < 60
    assert np.abs(np.diff(speed)).max() * 240 < 6 and np.abs(np.diff(turn)).max() * 240 < 120
    moves = motion not in (Motion.static, Motion.rotation_only)
    assert (speed.sum() / 240 > 5) == moves
    assert (speed.max() > 0) == moves


@pytest.mark.parametrize("uri", [f"synthetic://{place}-{motion}?seed=4" for place, motion in ALL])
def test_the_camera_never_comes_close_to_anything(uri):
    truth = SyntheticTruth(SyntheticSpec.parse(f"{uri}&width=64&height=36&seconds=12"))
    nearest = min(truth.depth_at(t, (18, 32)).min() for t in np.linspace(0, 11.9, 13))
    assert nearest > 0.3


def test_truth_is_a_function_of_time_whatever_the_frame_rate():
    slow = SyntheticTruth(SyntheticSpec.parse("synthetic://street-walk?fps=16&seconds=5&zoom=1.3"))
    fast = SyntheticTruth(SyntheticSpec.parse("synthetic://street-walk?fps=48&seconds=5&zoom=1.3"))
    times = np.arange(0, 4.9, 1 / 16)
    a, b = slow.at(times), fast.at(times)
    assert np.abs(a.c2w - b.c2w).max() < 1e-12
    assert np.abs(a.intrinsics - b.intrinsics).max() < 1e-9
    assert a.intrinsics[-1, 0] / a.intrinsics[0, 0] == pytest.approx(1.3, rel=0.01)
    assert (a.intrinsics[:, 2:] == (640, 360)).all()
    assert a.unit == "m" and (a.frame_verdict == FrameVerdict.GIVEN).all() and a.timestamps[0] == 0
    sequence = render_sequence(SyntheticSpec.parse("synthetic://street-walk?fps=30"), 5, 64, 36)[1]
    assert np.abs(sequence.c2w - a.c2w[:5]).max() < 1e-9


def test_a_video_shows_at_each_time_what_its_truth_says(tmp_path):
    spec = SyntheticSpec.parse("synthetic://room-orbit?width=160&height=90&fps=29.97&seconds=0.6&shots=3")
    truth = render_video(tmp_path / "video.mp4", spec)
    assert truth.frames == 54 and truth.cuts == [18, 36] and truth.transitions == []
    with av.open(str(tmp_path / "video.mp4")) as container:
        decoded = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert len(decoded) == truth.frames
    for number, (time, image) in enumerate(decoded):
        assert time == pytest.approx(number / float(truth.fps), abs=1e-6)
        shot = truth.shots[number // 18]
        assert truth.shot_at(np.array([time])) is shot
        if number % 6 == 0:
            drawn = truth.frame_at(shot, number / float(truth.fps))
            assert np.abs(image.astype(int) - drawn).mean() < 8
    steps = [np.abs(a[1].astype(int) - b[1]).mean() for a, b in pairwise(decoded)]
    assert min(steps[17], steps[35]) > 2 * np.median(steps)


def test_a_clip_across_a_cut_has_no_truth():
    truth = SyntheticTruth(SyntheticSpec.parse("synthetic://room-walk?shots=2&seconds=2&fps=25"))
    truth.at(np.array([0.0, 1.96]))
    truth.at(np.array([2.0, 3.96]))
    for times in ([1.9, 2.1], [3.0, 4.5], [-0.5, 1.0]):
        with pytest.raises(ValueError, match="no shot holds"):
            truth.at(np.array(times))
    assert truth.at(np.array([0.5, 1.0])).motion is MotionClass.PARALLAX


@pytest.mark.parametrize("transition", ["dissolve", "fade"])
def test_a_transition_lies_between_shots_and_mixes_them(transition):
    spec = SyntheticSpec.parse(
        f"synthetic://room-walk?width=96&height=54&fps=20&seconds=0.5&shots=2&transition={transition}")
    truth = SyntheticTruth(spec)
    assert truth.cuts == [] and truth.transitions == [(10, 26)] and truth.frames == 36
    images = list(render_frames(truth))
    assert len(images) == truth.frames
    if transition == "fade":
        assert images[18].mean() < 0.1 * images[9].mean()
    old, new = (truth.frame_at(shot, 18 / 20).astype(float) for shot in truth.shots)
    middle = images[18].astype(float)
    if transition == "dissolve":
        assert np.abs(middle - (8 * old + 9 * new) / 17).max() < 1.0
    with pytest.raises(ValueError, match="no shot holds"):
        truth.at(np.array([18 / 20]))


def test_equal_specs_give_equal_bytes(tmp_path):
    spec = SyntheticSpec.parse(
        "synthetic://street-forward?width=96&height=54&fps=10&seconds=0.5&noise=2&moving=true")
    for name in "ab":
        render_video(tmp_path / name, spec)
        assert (tmp_path / name).stat().st_size > 1000
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_sensor_noise_has_the_stated_spread_and_changes_with_the_frame():
    noisy, _, _ = render_sequence(SyntheticSpec.parse("synthetic://room-static?noise=3"), 3, 160, 90)
    clean, _, _ = render_sequence(SyntheticSpec.parse("synthetic://room-static"), 1, 160, 90)
    middle = (clean[0] > 20) & (clean[0] < 235)
    for image in noisy:
        assert (image.astype(int) - clean[0])[middle].std() == pytest.approx(3.0, rel=0.05)
    assert (noisy[0] != noisy[1]).mean() > 0.5
