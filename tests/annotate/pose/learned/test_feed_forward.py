"""The adapters of Pi3X, VGGT and Depth Anything 3 in child processes, on stand-ins of their packages."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from learned_clip import STAND_INS, KnownClip, learned_config

from annotate.child.process import ChildFailed
from annotate.pose.learned.config import FeedForwardConfig
from annotate.pose.learned.feed_forward import (
    NAMES,
    FeedForwardEngine,
    checked_window,
    motion_of,
    network_size,
    steady_intrinsics,
)
from dataset.clip import Motion
from dataset.trajectory import absolute_error

CONFIG = FeedForwardConfig(window=16, overlap=5)


@pytest.fixture(scope="module")
def clip():
    return KnownClip("synthetic://room-walk?seed=5", 41, (126, 224))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def engines(weights):
    """Engines by name, each with one process for all tests; what errs is in `weights`."""
    made = {name: FeedForwardEngine(name, CONFIG, learned_config(weights)) for name in NAMES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(STAND_INS))
        yield made
    for engine in made.values():
        engine.close()


@pytest.mark.parametrize("name", NAMES)
def test_cameras_and_depth_of_all_windows_come_in_one_world(clip, engines, weights, name):
    clip.write_truth(weights, noise=0.02, units=[1.0, 1.7, 0.6])
    found = engines[name].structure(clip.frames, clip.track.timestamps, None, 8)
    track, maps = found.track, found.maps
    assert track.failure is None and track.motion is Motion.PARALLAX and track.posed.all()
    assert absolute_error(track.c2w, clip.track.c2w).share_of_path < 0.005
    assert np.abs(track.intrinsics / clip.track.intrinsics - 1).max() < 0.01
    assert (track.c2w[0] == np.eye(4)).all()
    assert maps.frames.tolist() == [0, 8, 16, 24, 32, 40] and maps.depth.shape[1:] == (126, 224)
    unit = track.path_length / clip.track.path_length
    truth = np.stack([clip.depth(int(k)) for k in maps.frames]) * unit
    assert np.median(np.abs(maps.depth[maps.valid] / truth[maps.valid] - 1)) < 0.02
    assert track.diagnostics["metric"] is (name != "vggt")


def test_known_intrinsics_are_kept_to_the_bit(clip, engines, weights):
    clip.write_truth(weights)
    track = engines["pi3x"].estimate(clip.frames, clip.track.timestamps, clip.track.intrinsics)
    assert (track.intrinsics == clip.track.intrinsics).all()


def test_an_engine_that_dies_fails_this_clip_and_not_the_next(clip, engines, weights):
    clip.write_truth(weights, die=True)
    with pytest.raises(ChildFailed, match="the process of pi3x died of SIGABRT"):
        engines["pi3x"].estimate(clip.frames, clip.track.timestamps)
    clip.write_truth(weights)
    assert engines["pi3x"].estimate(clip.frames, clip.track.timestamps).failure is None


def test_memory_that_runs_out_halves_the_window_and_goes_on(clip, engines, weights):
    clip.write_truth(weights, most_images=9)
    assert engines["pi3x"].estimate(clip.frames, clip.track.timestamps).posed.all()
    assert engines["pi3x"].window == 8
    clip.write_truth(weights, most_images=5)
    with pytest.raises(torch.OutOfMemoryError, match="tried to allocate"):
        engines["pi3x"].estimate(clip.frames, clip.track.timestamps)


@pytest.mark.parametrize(("spoil", "complaint"), [
    (lambda a: a.pop("c2w"), r"pi3x answered nothing as c2w, expected floats \(3, 4, 4\)"),
    (lambda a: a.update(depth=a["depth"][:2]), r"answered float32 \(2, 28, 42\) as depth"),
    (lambda a: a["c2w"].__setitem__((1, 0, 0), np.nan), "frame 1 holds NaN"),
    (lambda a: a["c2w"].__setitem__((2, slice(0, 3), 0), -1.0), "frame 2 is not a rotation|frame 2 mirrors"),
    (lambda a: a["intrinsics"].__setitem__((0, 0), -5.0), "focal lengths that are not positive"),
    (lambda a: a["depth"].fill(np.inf), "answered no depth for frames 7 to 9"),
])
def test_nonsense_is_refused_with_what_is_wrong(spoil, complaint):
    answer = {"c2w": np.tile(np.eye(4), (3, 1, 1)), "intrinsics": np.full((3, 4), 30.0),
              "depth": np.ones((3, 28, 42), np.float32), "confidence": np.zeros((3, 28, 42), np.float32)}
    assert checked_window({k: v.copy() for k, v in answer.items()}, 7, 3, (28, 42), "pi3x").end == 10
    spoil(answer)
    with pytest.raises(ChildFailed, match=complaint):
        checked_window(answer, 7, 3, (28, 42), "pi3x")


@pytest.mark.parametrize("size", [(720, 1280), (1080, 608), (90, 160)])
def test_networks_see_whole_patches_and_about_the_aspect(size):
    high, wide = network_size(size, 255000)
    assert high % 14 == 0 and wide % 14 == 0 and high * wide <= 255000
    assert abs(np.log(high / wide * size[1] / size[0])) < 0.12


def test_jitter_of_the_focal_length_is_no_zoom_and_a_zoom_stays():
    times = np.arange(161) / 16
    rng = np.random.default_rng(0)
    still = np.tile([500.0, 500, 320, 180], (161, 1)) * np.exp(0.03 * rng.standard_normal((161, 1)))
    steady = steady_intrinsics(still, times)
    assert np.ptp(steady[:, 0]) == 0 and steady[0, 0] == pytest.approx(500, rel=0.01)
    zoomed = still * np.linspace(1, 1.5, 161)[:, None]
    assert steady_intrinsics(zoomed, times)[[0, 160], 0] == pytest.approx([500, 750], rel=0.05)


def test_what_moves_less_than_networks_can_tell_stands_still():
    c2w = np.tile(np.eye(4), (9, 1, 1))
    assert motion_of(c2w, 5.0) is Motion.STATIC
    c2w[:, 0, 3] = np.linspace(0, 0.1, 9)
    assert motion_of(c2w, 5.0) is Motion.PARALLAX and motion_of(c2w, 50.0) is Motion.STATIC


def test_windows_that_cannot_overlap_are_refused():
    with pytest.raises(ValueError, match="window=10, overlap=10"):
        FeedForwardConfig(window=10, overlap=10)
