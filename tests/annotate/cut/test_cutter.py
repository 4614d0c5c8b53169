import dataclasses
import os
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from annotate.clip_video import ClipVideo
from annotate.cut.cutter import CutConfig, Cutter
from annotate.cut.framing import Framing
from annotate.cut.piece import Rules
from annotate.cut.walk import Encoding, Walk
from annotate.decode import VideoReader
from annotate.shots.detector import ShotConfig
from annotate.source.expand import expand
from annotate.source.item import Conventions, SourceConfig, SourceItem
from annotate.synthetic import SyntheticSpec, SyntheticTruth
from dataset.camera import invert, project, unproject
from dataset.clip import CameraTrack, DepthMaps, Kind, Verdict
from dataset.timeline import nearest_frames

SMALL = {"frames": 17, "width": 160, "height": 90, "upscale_max": 8.0, "crf": 12}


def cutter(**settings) -> Cutter:
    made = Cutter(CutConfig(**{**SMALL, **settings}))
    made.setup()
    return made


def numbers(clip, number_of) -> list[int]:
    return [number_of(frame) for frame in ClipVideo(clip.files["mp4"]).iter_rgb()]


def split(rows):
    """Clips, records of spans, records of videos."""
    rows = list(rows)
    clips = [row for row in rows if row.record.kind is Kind.CLIP]
    spans = [row.record for row in rows if row.record.kind is Kind.SPAN]
    return clips, spans, [row.record for row in rows if row.record.kind is Kind.VIDEO]


def test_clips_show_the_frames_nearest_in_time(numbered_video, number_of):
    path = numbered_video(100, (180, 320))  # 3.3 s at 30 fps
    item = SourceItem(str(path), "x", caption="bars", licence="CC0", source="s")
    clips, spans, videos = split(cutter().cut(item))
    times = [Fraction(k, 30) for k in range(100)]
    assert [c.record.start_s for c in clips] == [0, 17 / 16, 34 / 16]
    for clip in clips:
        record = clip.record
        assert numbers(clip, number_of) == nearest_frames(times, Fraction(record.start_s), 17, 16).tolist()
        assert (record.frames, record.fps, record.width, record.height) == (17, 16, 160, 90)
        assert record.end_s == record.start_s + 1 and record.shot == 0 and record.corrupt_frames == 0
        assert (record.source_width, record.source_height, record.source_codec) == (320, 180, "h264")
        assert (record.uri, record.caption, record.licence, record.source) == (str(path), "bars", "CC0", "s")
        assert record.source_fps == 30 and set(clip.files) == {"mp4"}
    assert [s.reasons for s in spans] == [["tail"]] and not videos
    assert len({r.clip_id for r in [c.record for c in clips] + spans}) == 4


@pytest.mark.parametrize("seed", [1, 2])
def test_a_variable_rate_is_sampled_true_to_time(numbered_video, number_of, seed):
    steps = np.random.default_rng(seed).choice([900, 1500, 3003, 9009, 18018], 80)
    times = [Fraction(int(t), 90000) for t in np.concatenate([[0], np.cumsum(steps)])]
    clips, _, _ = split(cutter(frames=33).cut(SourceItem(str(numbered_video(81, times=times)), "x")))
    assert len(clips) > 1
    for clip in clips:
        expected = nearest_frames(times, Fraction(clip.record.start_s), 33, 16)
        assert numbers(clip, number_of) == expected.tolist()


@pytest.mark.shared
def test_a_real_video_of_variable_rate_keeps_its_motion_in_time(shared_data):
    """Frame k of the clip shows what the complete video shows at k / 16 s, as near as frames exist."""
    import cv2

    config = {"width": 160, "height": 90, "frames": 57}
    whole, thinned = (
        next(iter(cutter(**config).cut(SourceItem(str(shared_data / name), "x"))))
        for name in ("videos/dog_handheld.mp4", "hard/vfr_dropped.mp4"))
    a, b = (ClipVideo(clip.files["mp4"]).gray(160).astype(float) for clip in (whole, thinned))
    at_same_time = np.median(np.abs(a - b).mean(axis=(1, 2)))
    shifted = np.median(np.abs(a[2:] - b[:-2]).mean(axis=(1, 2)))
    assert at_same_time < 0.35 * shifted
    assert cv2.countNonZero((np.abs(a - b).mean(axis=(1, 2)) < 4).astype(np.uint8)) > 25


def test_no_clip_crosses_a_cut(tmp_path, video_writer, numbered_frame, number_of):
    frames = [numbered_frame(k, (180, 320), seed=k // 45) for k in range(135)]
    path = video_writer(tmp_path / "cuts.mp4", frames)
    clips, spans, _ = split(cutter().cut(SourceItem(str(path), "x")))
    assert [(c.record.shot, c.record.start_s) for c in clips] == [(0, 0.0), (1, 1.5), (2, 3.0)]
    for clip in clips:
        assert len({n // 45 for n in numbers(clip, number_of)}) == 1
    assert [s.reasons[0] for s in spans] == ["tail"] * 3


def test_overlapping_clips_share_frames_and_the_decode(numbered_video, number_of):
    path = numbered_video(120, (180, 320))
    clips, _, _ = split(cutter(frames=33, overlap=24).cut(SourceItem(str(path), "x")))
    assert [c.record.start_s for c in clips] == [9 * k / 16 for k in range(len(clips))] and len(clips) >= 4
    for a, b in pairwise(clips):
        assert numbers(a, number_of)[9:] == numbers(b, number_of)[:24]


def test_the_same_source_gives_the_same_rows_and_bytes(numbered_video, tmp_path):
    path = numbered_video(60, (180, 320))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    first = list(cutter().cut(SourceItem(str(path), "x")))
    second = list(cutter().cut(SourceItem(str(path), "x")))
    assert first == second
    other = list(cutter().cut(SourceItem(str(copy), "y")))
    assert [r.record.clip_id for r in other] == [r.record.clip_id for r in first]
    assert [r.files for r in other] == [r.files for r in first]


def test_a_clip_comes_while_its_video_is_still_being_read(numbered_video):
    path, item = numbered_video(400, (90, 160)), SourceItem("", "x")
    whole, _, _ = split(cutter(frames=33).cut(dataclasses.replace(item, uri=str(path))))
    with VideoReader(path) as reader:
        framing = Framing.fit((90, 160), (90, 160))
        rules = Rules(33, 16, 0, 0.0, None, 0.25)
        walk = Walk(reader, framing, ShotConfig(), rules, Encoding(16, 12, "ultrafast"), None, None)
        for row, (window, mp4) in zip(whole, walk.clips(lambda window: False), strict=True):
            assert reader.report.frames <= min(window.frames[-1] + 80, 400)
            assert mp4 == row.files["mp4"] and float(window.start_s) == row.record.start_s


def test_pictures_kept_as_stored_and_as_the_clip_needs_them_make_the_same_clips(
    numbered_video, number_of,
):
    """A source larger than its clips is framed at once, a smaller one when a clip shows it."""
    item = SourceItem(str(numbered_video(60, (180, 320))), "x")
    large = split(cutter(width=160, height=90).cut(item))[0]
    small = split(cutter(width=320, height=180, upscale_max=1.0).cut(item))[0]
    double = split(cutter(width=640, height=360, upscale_max=2.0).cut(item))[0]
    shown = [[numbers(clip, number_of) for clip in clips] for clips in (large, small, double)]
    assert shown[0] == shown[1] == shown[2] and len(shown[0]) == 1


def test_rows_that_are_done_are_left_out_and_the_others_stay_the_same(numbered_video):
    item = SourceItem(str(numbered_video(120)), "x")
    rows = list(cutter().cut(item))
    for skipped in ([rows[1]], rows[:2], rows[-1:], rows):
        done = {row.record.clip_id for row in skipped}
        assert list(cutter().cut(item, done)) == [row for row in rows if row not in skipped]


def test_only_the_stated_part_of_a_video_is_cut(numbered_video, number_of):
    path = numbered_video(150, (180, 320))
    clips, spans, videos = split(cutter().cut(SourceItem(str(path), "x", start_s=1.02, end_s=3.5)))
    assert clips[0].record.start_s == 31 / 30
    assert numbers(clips[0], number_of)[0] == 31
    assert all(31 <= n < 105 for clip in clips for n in numbers(clip, number_of))
    assert [s.reasons[0] for s in spans] == ["outside_span", "tail"] and not videos
    assert spans[0].end_s == 31 / 30 and spans[1].end_s == pytest.approx(3.5)
    clips, spans, videos = split(cutter().cut(SourceItem(str(path), "x", start_s=60.0)))
    assert not clips and videos[0].reasons == ["empty_span"] and "60 s to the end" in videos[0].detail


def test_a_source_too_small_for_the_clip_is_rejected_with_a_reason(numbered_video):
    path = numbered_video(30, (90, 160))
    (row,) = cutter(width=640, height=360, upscale_max=2.0).cut(SourceItem(str(path), "x"))
    assert row.record.kind is Kind.VIDEO and row.record.verdict is Verdict.REJECTED
    assert row.record.reasons == ["upscale>2"]
    assert "160x90 would have to be enlarged 4.00 times" in row.record.detail
    clips, _, _ = split(cutter(width=640, height=360, upscale_max=4.0).cut(SourceItem(str(path), "x")))
    assert ClipVideo(clips[0].files["mp4"]).size == (360, 640) and not clips[1:]


@pytest.mark.shared
def test_every_difficult_file_ends_in_rows(shared_data):
    items = expand(str(shared_data / "hard"), SourceConfig(suffixes=[".mp4", ".mov", ".mp3", ".txt"]))
    assert len(items) == 20
    expected = {"audio_only": "no_video", "corrupted": "damaged", "jpeg_as_mp4": "unreadable",
                "text_as_mp4": "unreadable", "truncated_60": "truncated", "truncated_half": "truncated",
                "truncated_no_index": "unreadable", "zero_length": "empty"}
    for item in items:
        clips, spans, videos = split(cutter(frames=9, upscale_max=2.0).cut(item))
        name = item.id
        assert [v.reasons[0] for v in videos] == ([expected[name]] if name in expected else []), name
        assert all(v.verdict is Verdict.FAILED and v.detail for v in videos)
        readable = expected.get(name) not in ("no_video", "unreadable", "empty")
        assert readable == bool(clips or spans), name
        if name.startswith(("truncated_6", "truncated_h", "corrupted")):
            assert clips and videos[0].source_frames in (132, 104, 28) and videos[0].corrupt_frames > 0
            last = (videos[0].source_frames - 1) / clips[0].record.source_fps
            assert max(c.record.end_s for c in clips) <= last + 1 / clips[0].record.source_fps
        for clip in clips:
            assert len(list(ClipVideo(clip.files["mp4"]).iter_yuv())) == 9


def test_an_unreadable_address_is_a_row():
    (row,) = cutter().cut(SourceItem("memory://nowhere/a.mp4", "x"))
    assert row.record.kind is Kind.VIDEO and row.record.verdict is Verdict.FAILED
    assert row.record.reasons == ["missing"]
    assert list(cutter().cut(SourceItem("memory://nowhere/a.mp4", "x"), {row.record.clip_id})) == []


def camera_path(count: int) -> np.ndarray:
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, 0, 3] = np.arange(count)  # frame number as x
    return c2w


def test_given_cameras_go_with_their_frames(numbered_video, number_of, tmp_path):
    steps = np.random.default_rng(0).choice([1500, 3003, 6006], 89)
    times = [Fraction(int(t), 90000) for t in np.concatenate([[0], np.cumsum(steps)])]
    path = numbered_video(90, (180, 240), times=times)
    np.save(tmp_path / "poses.npy", camera_path(90))
    np.save(tmp_path / "k.npy", np.array([[200.0 + k, 210 + k, 120, 90] for k in range(90)]))
    item = SourceItem(str(path), "x", poses=str(tmp_path / "poses.npy"), intrinsics=str(tmp_path / "k.npy"))
    clips, _, videos = split(cutter().cut(item))
    assert clips and not videos
    for clip in clips:
        track = CameraTrack.from_npz(clip.files["given.npz"])
        shown = numbers_of_cropped(clip, number_of)
        assert track.c2w[:, 0, 3].tolist() == shown, "the pose belongs to the frame that is shown"
        assert track.size == (90, 160) and track.unit == "m" and track.posed.all() and track.failure is None
        assert np.allclose(track.timestamps, np.arange(17) / 16)
        # 240 x 180 becomes 160 x 120, of which the middle 90 rows (from row 14) remain
        scale = 160 / 240
        expected = [[(200 + n) * scale, (210 + n) * scale, 80, 90 * scale - 14] for n in shown]
        assert np.allclose(track.intrinsics, expected)


def numbers_of_cropped(clip, number_of) -> list[int]:
    """Numbers of frames whose strip lies a pixel off the middle after the crop."""
    return [number_of(np.roll(frame, 1, axis=0)) for frame in ClipVideo(clip.files["mp4"]).iter_rgb()]


def test_intrinsics_alone_are_given_without_poses(numbered_video):
    item = SourceItem(str(numbered_video(30)), "x", intrinsics=[150.0, 150, 80, 45])
    clips, _, _ = split(cutter().cut(item))
    track = CameraTrack.from_npz(clips[0].files["given.npz"])
    assert np.allclose(track.intrinsics, [150, 150, 80, 45])
    assert not track.posed.any() and track.failure is None


def test_cameras_that_do_not_fit_their_video_stop_it_with_both_numbers(numbered_video, tmp_path):
    path = numbered_video(60)
    np.save(tmp_path / "poses.npy", camera_path(59))
    (row,) = cutter().cut(SourceItem(str(path), "x", poses=str(tmp_path / "poses.npy")))
    assert row.record.reasons == ["bad_cameras"] and "59 poses for 60 frames" in row.record.detail
    np.savez(tmp_path / "late.npz", c2w=camera_path(10), timestamps=np.arange(10) / 30 + 5)
    (row,) = cutter().cut(SourceItem(str(path), "x", poses=str(tmp_path / "late.npz")))
    assert row.record.reasons == ["bad_cameras"] and "5.0" in row.record.detail
    (row,) = cutter().cut(SourceItem(str(path), "x", poses=str(tmp_path / "none.npy")))
    assert row.record.reasons == ["bad_cameras"] and "none.npy: cannot be read" in row.record.detail


def test_frames_are_counted_where_the_container_does_not(numbered_video, tmp_path):
    path = numbered_video(60, name="video.mkv")
    for count in (60, 61):
        np.save(tmp_path / f"{count}.npy", camera_path(count))
    clips, _, videos = split(cutter().cut(SourceItem(str(path), "x", poses=str(tmp_path / "60.npy"))))
    assert len(clips) == 1 and not videos
    (row,) = cutter().cut(SourceItem(str(path), "x", poses=str(tmp_path / "61.npy")))
    assert row.record.reasons == ["bad_cameras"] and "61 poses for 60 frames" in row.record.detail


def test_cameras_by_frame_number_end_where_frames_are_damaged(numbered_video, tmp_path):
    path = numbered_video(120, (180, 320), options={"g": "30", "crf": "18", "bf": "0"})
    data = bytearray(path.read_bytes())
    at = data.find(b"mdat") + 4
    at += 2 * (len(data) - at) // 3
    data[at:at + 60] = bytes(60)
    path.write_bytes(data)
    np.save(tmp_path / "poses.npy", camera_path(120))
    whole, _, videos = split(cutter().cut(SourceItem(str(path), "x")))
    assert [v.reasons[0] for v in videos] == ["damaged"]
    clips, _, videos = split(cutter().cut(SourceItem(str(path), "x", poses=str(tmp_path / "poses.npy"))))
    assert [v.reasons[0] for v in videos] == ["bad_cameras"] and "damaged frames" in videos[0].detail
    sound = [c for c in whole if c.record.corrupt_frames == 0 and c.record.start_s < 2]
    assert [c.record.start_s for c in clips] == [c.record.start_s for c in sound] and 0 < len(clips) < 3


def test_given_depth_goes_with_its_frames_and_pixels(numbered_video, tmp_path):
    path = numbered_video(70, (90, 120))
    ramp = np.tile(np.arange(120, dtype=np.float32) + 1, (90, 1))  # depth says the column
    np.savez(tmp_path / "d.npz", depth=np.stack([ramp, ramp + 1000]), frames=[0, 30])
    item = SourceItem(str(path), "x", intrinsics=[100.0, 100, 60, 45], depth=str(tmp_path / "d.npz"),
                      given=Conventions(depth_unit=1.0))
    clips, _, _ = split(cutter(frames=17, width=64, height=64, upscale_max=1.0).cut(item))
    maps = DepthMaps.from_npz(clips[0].files["given_depth.npz"])
    assert maps.frames.tolist() == [0, 16] and maps.depth.shape == (2, 64, 64) and maps.valid.all()
    centre = maps.intrinsics[0, 2]  # the column of the optical axis sees the middle of the picture
    assert abs(maps.depth[0, 32, int(centre)] - 60.5) <= 1.0
    assert np.array_equal(maps.depth[1], (maps.depth[0] + np.float16(1000)).astype(np.float16))
    assert "given_depth.npz" not in clips[1].files, "no depth, no file"


@pytest.mark.shared
def test_real_poses_and_depth_agree_after_the_cut(shared_data):
    """Depth carried into a clip predicts another frame's depth: poses, intrinsics and depth agree."""
    tote = shared_data / "poses" / "tote"
    item = SourceItem(str(tote / "video.mp4"), "tote", poses=str(tote / "c2w.npy"),
                      intrinsics=str(tote / "intrinsics.npy"), depth=str(tote / "depth"),
                      given=Conventions(pixel_centres="integer"))
    clips, _, videos = split(cutter(frames=65, width=320, height=180).cut(item))
    assert not videos
    track = CameraTrack.from_npz(clips[0].files["given.npz"])
    maps = DepthMaps.from_npz(clips[0].files["given_depth.npz"])
    assert len(maps.frames) >= 4 and maps.depth.shape[1:] == (180, 320)
    a, b = 0, 1
    v, u = np.mgrid[20:160:3, 20:300:3]
    z = maps.depth[a][v, u].astype(float)
    keep = maps.valid[a][v, u]
    points = unproject(np.stack([u, v], -1) + 0.5, z, maps.intrinsics[a])[keep]
    motion = invert(track.c2w[maps.frames[b]]) @ track.c2w[maps.frames[a]]
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    pixels = project(moved, maps.intrinsics[b])
    column, row = pixels.T.astype(int)
    inside = (column >= 0) & (column < 320) & (row >= 0) & (row < 180)
    seen = maps.depth[b][row[inside], column[inside]].astype(float)
    good = maps.valid[b][row[inside], column[inside]]
    assert good.sum() > 200
    assert np.median(np.abs(seen[good] - moved[inside][good, 2])) < 0.006  # metres


def test_synthetic_video_brings_its_true_cameras():
    uri = "synthetic://room-walk?width=320&height=240&seconds=1.5&shots=2&fps=24.0&zoom=1.5"
    (item,) = expand(uri, SourceConfig())
    clips, _, videos = split(cutter(frames=17, width=160, height=90).cut(item))
    assert [c.record.shot for c in clips] == [0, 1] and not videos
    truth = SyntheticTruth(SyntheticSpec.parse(uri))
    source_times = [Fraction(k, 24) for k in range(truth.frames)]
    for clip in clips:
        track = CameraTrack.from_npz(clip.files["truth.npz"])
        shown = nearest_frames(source_times, Fraction(clip.record.start_s), 17, 16)
        expected = truth.at(shown / 24)
        assert np.allclose(track.c2w, expected.c2w, atol=1e-9) and track.size == (90, 160)
        assert np.allclose(track.intrinsics, expected.intrinsics / 2 - [0, 0, 0, 14])
        assert np.allclose(track.timestamps, np.arange(17) / 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 160}, r"cut\.frames=160: clips hold 8k"), ({"frames": 1}, r"cut\.frames=1"),
        ({"overlap": 17}, r"cut\.overlap=17, allowed 0 to 14"), ({"overlap": -1}, r"cut\.overlap=-1"),
        ({"width": 161}, r"cut\.width=161"), ({"height": 8}, r"cut\.height=8"), ({"crf": 60}, r"cut\.crf=60"),
        ({"preset": "fastest"}, r"cut\.preset=fastest"), ({"fps": 0}, r"cut\.fps=0"),
        ({"max_shot_s": 0.5}, "shorter than a clip, 1 s"), ({"upscale_max": 0.0}, r"cut\.upscale_max=0"),
    ],
)
def test_settings_no_clip_can_have_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        cutter(**settings)


def test_every_setting_is_among_those_that_key_the_results():
    assert set(cutter().settings()) == {f.name for f in dataclasses.fields(CutConfig)}


def test_what_is_left_behind_is_nothing(numbered_video, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    rows = cutter().cut(expand("synthetic://room-walk?width=160&height=96&seconds=1.2", SourceConfig())[0])
    next(rows)
    assert os.listdir(tmp_path / "temporary")
    rows.close()
    assert not os.listdir(tmp_path / "temporary")
