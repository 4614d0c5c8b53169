import dataclasses

import numpy as np
import pytest

from annotate.frames import ArrayFrames
from annotate.pose.config import ClassicalConfig
from annotate.pose.mapper import MapperConfig, MapperMethod
from annotate.pose.second import SecondConfig, estimate_again, is_chosen, second_opinion
from annotate.pose.stage import PoseStage, PoseStageConfig, track_fields
from annotate.stage import Clip
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.camera import invert
from dataset.clip import CameraTrack, ClipRecord, FrameVerdict, Kind, Motion
from dataset.trajectory import absolute_error

FRAMES = 49


@pytest.fixture(scope="module")
def walk():
    spec = SyntheticSpec.parse("synthetic://room-walk?noise=1.0&seed=5")
    images, truth, _ = render_sequence(spec, frames=FRAMES, width=480, height=270)
    return ArrayFrames(images), truth


def make_clip(frames, given: CameraTrack | None = None) -> Clip:
    record = ClipRecord(clip_id="ab" * 10, video_id="cd", kind=Kind.CLIP, fps=16.0, frames=len(frames))
    return Clip(record, {} if given is None else {"given.npz": given.to_npz()}, frames)


def make_given(truth: CameraTrack, **changes) -> CameraTrack:
    verdict = np.full(FRAMES, FrameVerdict.GIVEN, np.uint8)
    return dataclasses.replace(truth, engine="given", frame_verdict=verdict, **changes)


def without_second(**settings) -> PoseStage:
    return PoseStage(PoseStageConfig(second=SecondConfig(share=0.0), **settings))


def test_a_clip_is_posed_checked_and_confirmed_by_a_second_engine(walk):
    frames, truth = walk
    second = SecondConfig(share=1.0, frames=10, width=480, mapper=MapperConfig(max_features=500, overlap=3))
    output = PoseStage(PoseStageConfig(second=second)).process(make_clip(frames))
    track = CameraTrack.from_npz(output.files["pose.npz"])
    assert track.failure is None and absolute_error(track.c2w, truth.c2w).share_of_path < 0.02
    fields = output.fields
    assert set(fields) <= {f.name for f in dataclasses.fields(ClipRecord)}
    assert fields["pose_engine"] == "classical" and fields["motion"] in ("parallax", "planar")
    assert fields["pose_failure"] is None and fields["posed_share"] == 1.0
    assert fields["selfcheck_sampson_px"] < 0.5 and fields["selfcheck_cheirality"] > 0.9
    assert fields["focal_px"] == pytest.approx(np.median(track.intrinsics[:, 0]))
    assert fields["agreement"].startswith(("agree", "differ")) and fields["agreement_position"] < 0.05


def test_given_cameras_are_honoured_bit_for_bit(walk):
    frames, truth = walk
    given = make_given(truth)
    output = without_second().process(make_clip(frames, given))
    assert output.files["pose.npz"] == given.to_npz()
    assert output.fields["pose_engine"] == "given" and output.fields["pose_failure"] is None
    assert output.fields["selfcheck_sampson_px"] < 0.3 and output.fields["posed_share"] == 1.0


def test_given_cameras_that_are_misread_fail_with_the_table(walk):
    frames, truth = walk
    output = without_second().process(make_clip(frames, make_given(truth, c2w=invert(truth.c2w))))
    assert "convention self-check" in output.fields["pose_failure"]
    assert "inverted" in output.fields["pose_failure"] and "Sampson px" in output.fields["detail"]
    assert CameraTrack.from_npz(output.files["pose.npz"]).failure == output.fields["pose_failure"]


def test_poses_without_intrinsics_get_the_focal_length_that_fits_them(walk):
    frames, truth = walk
    given = make_given(truth, intrinsics=np.full((FRAMES, 4), np.nan))
    output = without_second().process(make_clip(frames, given))
    track = CameraTrack.from_npz(output.files["pose.npz"])
    assert output.fields["pose_failure"] is None and np.array_equal(track.c2w, truth.c2w)
    assert np.abs(track.intrinsics[:, :2] / truth.intrinsics[:, :2] - 1).max() < 0.01
    assert (track.intrinsics[:, 2:] == (240, 135)).all()


def test_given_intrinsics_are_held_while_poses_are_estimated(walk):
    frames, truth = walk
    unposed = CameraTrack.failed("", truth.timestamps, truth.size, "given", Motion.PARALLAX)
    given = dataclasses.replace(unposed, failure=None, intrinsics=truth.intrinsics)
    output = without_second().process(make_clip(frames, given))
    track = CameraTrack.from_npz(output.files["pose.npz"])
    assert track.engine == "classical" and np.allclose(track.intrinsics, truth.intrinsics, rtol=0, atol=1e-9)
    assert absolute_error(track.c2w, truth.c2w).share_of_path < 0.01


def test_a_still_camera_is_no_failure_and_claims_no_focal_length(walk):
    frames, _ = walk
    still = ArrayFrames(np.stack([frames.rgb(0)] * 17))
    output = PoseStage(PoseStageConfig(second=SecondConfig(share=1.0))).process(make_clip(still))
    assert output.fields["motion"] == "static" and output.fields["pose_failure"] is None
    assert output.fields["focal_px"] is None and output.fields["agreement"].startswith("not asked")


def test_images_without_texture_are_an_answer_with_a_reason():
    blank = ArrayFrames(np.full((17, 90, 160), 127, np.uint8))
    output = without_second(classical=ClassicalConfig(recover=False)).process(make_clip(blank))
    assert output.fields["pose_failure"] and output.fields["posed_share"] == 0.0


def test_the_second_engine_poses_some_frames_and_says_which(walk):
    frames, truth = walk
    config = SecondConfig(frames=8, width=480, mapper=MapperConfig(max_features=500, overlap=3))
    track = estimate_again(frames, truth.timestamps, truth.intrinsics, MapperMethod.incremental_mapping,
                           config)
    posed = np.flatnonzero(track.posed)
    assert len(posed) >= 6 and set(posed) <= set(np.linspace(0, FRAMES - 1, 8).round().astype(int))
    assert np.array_equal(track.intrinsics[posed], truth.intrinsics[posed])
    assert absolute_error(track.c2w, truth.c2w).share_of_path < 0.01


def test_a_wrong_zoom_does_not_confirm_itself(walk):
    frames, truth = walk
    method = MapperMethod.incremental_mapping
    config = SecondConfig(frames=10, width=480, methods=[method],
                          mapper=MapperConfig(max_features=500, overlap=3))
    wrong = truth.intrinsics.copy()
    wrong[:, :2] *= np.linspace(0.85, 1.2, FRAMES)[:, None]
    misled = estimate_again(frames, truth.timestamps, wrong, method, config)
    assert misled.failure is None
    assert second_opinion(frames, misled, None, config).agrees is not True


def test_the_sample_for_the_second_engine_is_fixed_and_has_the_stated_share():
    names = [f"{i:020x}" for i in range(4000)]
    chosen = [name for name in names if is_chosen(name, 0.05)]
    assert 140 < len(chosen) < 260 and chosen == [name for name in names if is_chosen(name, 0.05)]
    assert set(chosen) <= {name for name in names if is_chosen(name, 0.2)}
    assert all(is_chosen(name, 1.0) for name in names) and not any(is_chosen(name, 0.0) for name in names)


def test_an_unknown_engine_is_refused_at_once_by_name():
    with pytest.raises(ValueError, match=r"pose\.engine=orb: no such engine; known: classical, vipe"):
        PoseStage(PoseStageConfig(engine="orb"))


def test_settings_name_everything_that_changes_the_answer():
    first, second = PoseStage(), PoseStage(PoseStageConfig(classical=ClassicalConfig(width=512)))
    assert first.settings() != second.settings() and first.version == second.version
    assert first.settings()["second"]["mapper"]["seed"] == 0


def test_columns_of_a_partly_posed_track_leave_the_unknown_empty(walk):
    _, truth = walk
    verdict = truth.frame_verdict.copy()
    verdict[10:] = FrameVerdict.UNPOSED
    c2w, intrinsics = truth.c2w.copy(), truth.intrinsics.copy()
    c2w[10:], intrinsics[10:] = np.nan, np.nan
    fields = track_fields(dataclasses.replace(truth, c2w=c2w, intrinsics=intrinsics, frame_verdict=verdict,
                                              diagnostics={"reprojection_px": float("nan")}))
    assert fields["posed_share"] == pytest.approx(10 / FRAMES)
    assert fields["focal_px"] == pytest.approx(truth.intrinsics[0, 0]) and fields["reprojection_px"] is None
