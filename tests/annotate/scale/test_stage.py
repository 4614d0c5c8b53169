import dataclasses

import numpy as np
import pytest

from annotate.depth import DepthConfig
from annotate.depth.stage import sweep_clip
from annotate.frames import ArrayFrames
from annotate.scale.stage import ScaleConfig, ScaleStage
from annotate.source.item import Rig
from annotate.stage import Clip
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, Kind, Motion

ENGINE_UNIT = 0.23  # engine units a metre


@pytest.fixture(scope="module")
def street():
    """A walked street: images, true track, depth of the true poses in metres, and exact depth."""
    spec = SyntheticSpec.parse("synthetic://street-walk?seed=3")
    images, track, depth = render_sequence(spec, 49, 320, 180)
    maps, failure = sweep_clip(ArrayFrames(images), track, DepthConfig(planes=48))
    assert failure is None
    return images, track, maps, depth


def run(street, config=None, unit=ENGINE_UNIT, rig=Rig.unknown, **changes):
    images, track, maps, _ = street
    track = dataclasses.replace(track.scaled(unit, "engine"), **changes.pop("track", {}))
    files = {"pose.npz": track.to_npz(), **changes.pop("files", {})}
    if changes.pop("depth", True):
        files["depth.npz"] = maps.scaled(unit).to_npz()
    stage = ScaleStage(config, rig)
    output = stage.process(Clip(ClipRecord("c", "v", Kind.CLIP), files, ArrayFrames(images)))
    known = {item.name for item in dataclasses.fields(ClipRecord)}
    assert set(output.fields) <= known
    return output.fields, CameraTrack.from_npz(output.files["camera.npz"]), output.files


def given_depth(street, noise=0.0):
    _, _, maps, depth = street
    rng = np.random.default_rng(0)
    exact = np.stack([depth(int(frame)) for frame in maps.frames])
    valid = np.isfinite(exact)
    exact = np.where(valid, exact * np.exp(noise * rng.standard_normal((len(exact), 1, 1))), 0)
    return DepthMaps(exact.astype(np.float16), valid, maps.frames, maps.intrinsics, "given").to_npz()


def test_an_unknown_unit_is_the_path_length_and_no_number(street):
    fields, track, files = run(street)
    assert fields["scale_status"] == "relative"
    assert fields["metric_scale"] is None and fields["scale_sigma_log"] is None
    assert fields["path_length"] is None and fields["scale_cov"] is None
    assert track.unit == "path" and track.path_length == pytest.approx(1.0)
    _, true, maps, _ = street
    scaled = DepthMaps.from_npz(files["depth.npz"])
    both = scaled.valid & maps.valid
    ratio = scaled.depth[both].astype(float) / maps.depth[both]
    assert np.abs(ratio * true.path_length - 1).max() < 3e-3


@pytest.mark.parametrize("rig", [Rig.walking, Rig.driving])
def test_a_declared_walker_gives_metres_within_the_stated_sigma(street, rig):
    fields, track, _ = run(street, rig=rig)
    assert fields["scale_status"] == "metric_prior" and track.unit == "m"
    error = np.log(fields["metric_scale"] * ENGINE_UNIT)
    if rig is Rig.walking:  # which is what the street was drawn with
        assert abs(error) < 0.05 < fields["scale_sigma_log"]
        assert 0.09 < fields["scale_sigma_log"] < 0.15
    else:
        assert error == pytest.approx(np.log(1.3 / 1.55), abs=0.05)
        assert fields["scale_sigma_log"] > 0.15
    assert fields["path_length"] == pytest.approx(track.path_length)
    assert str(rig) in fields["scale_origin"]


def test_the_prior_is_never_guessed_and_its_absence_is_explained(street):
    assert run(street)[0]["scale_status"] == "relative"
    fields, _, _ = run(street, rig=Rig.walking, depth=False)
    assert fields["scale_status"] == "relative" and "no depth to find the ground in" in fields["scale_origin"]


def test_given_depth_is_a_sensor_and_beats_the_prior(street):
    files = {"given_depth.npz": given_depth(street, noise=0.02)}
    fields, track, _ = run(street, rig=Rig.driving, files=files)
    assert fields["scale_status"] == "metric_sensor"
    assert fields["metric_scale"] * ENGINE_UNIT == pytest.approx(1.0, rel=0.02)
    assert 0.01 <= fields["scale_sigma_log"] < 0.04
    assert 0.005 < fields["scale_cov"] < 0.05 and fields["scale_mad_log"] is not None
    assert track.path_length == pytest.approx(street[1].path_length, rel=0.02)


def test_given_depth_in_an_unknown_unit_or_too_little_of_it_declares_nothing(street):
    unitless = dataclasses.replace(street[1].scaled(1.0, "engine"))
    files = {"given_depth.npz": given_depth(street), "given.npz": unitless.to_npz()}
    assert run(street, files=files)[0]["scale_status"] == "relative"
    fields, _, _ = run(street, files={"given_depth.npz": given_depth(street)}, depth=False)
    assert fields["scale_status"] == "relative" and "given depth" in fields["scale_origin"]


def test_poses_given_in_metres_keep_them(street):
    fields, track, files = run(street, unit=1.0, track={"unit": "m"})
    assert fields["scale_status"] == "metric_sensor" and fields["metric_scale"] == 1.0
    assert fields["scale_sigma_log"] == 0.01
    assert np.array_equal(track.c2w, street[1].c2w) and track.unit == "m"
    assert files["depth.npz"] == street[2].to_npz()


@pytest.mark.parametrize(("change", "reason"), [
    ({"motion": Motion.ROTATION_ONLY}, "no translation observable (rotation_only)"),
    ({"motion": Motion.STATIC}, "no translation observable (static)"),
    ({"failure": "lost"}, "no poses: lost"),
])
def test_without_translation_there_is_no_scale(street, change, reason):
    fields, track, _ = run(street, rig=Rig.walking, track=change)
    assert fields["scale_status"] == "none" and fields["scale_origin"] == reason
    assert fields["metric_scale"] is None and fields["path_length"] is None
    assert track.unit == "engine"


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match=r"walking_height_m=0\.0, must be positive"):
        ScaleConfig(walking_height_m=0.0)
    with pytest.raises(ValueError, match="flying"):
        ScaleStage(rig="flying")
