"""Look-alikes of published sets, read back: the poses that come out are those that went in."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.cut.cutter import CutConfig, Cutter
from annotate.depth.stage import DepthStage
from annotate.source.expand import expand
from annotate.source.item import SourceConfig, SourceItem
from annotate.source.layouts.omniworld import linear_depth
from annotate.source.pictures import Lens
from annotate.stage import Clip
from dataset.camera import project
from dataset.clip import CameraTrack, DepthMaps, Kind, Verdict

sys.path.insert(0, str(Path(__file__).parent))
import lookalikes as like

FRAMES = 33


def items(root: Path, layout: str, **settings) -> list[SourceItem]:
    return expand(str(root), SourceConfig(layout=layout, **settings))


def cut(item: SourceItem, fps: int, frames: int = 17) -> list:
    """All rows of one source, as the job cuts it, after a journey as JSON."""
    item = SourceItem(**json.loads(json.dumps(dataclasses.asdict(item))))
    config = CutConfig(frames=frames, fps=fps, width=like.SIZE[1], height=like.SIZE[0])
    return list(Cutter(config).cut(item))


def given(item: SourceItem, fps: int) -> CameraTrack:
    """The track of the first clip, at the source's own rate, so that clip frame k is source frame k."""
    first = cut(item, fps)[0]
    assert first.record.kind is Kind.CLIP, first.record.detail
    return CameraTrack.from_npz(first.files["given.npz"])


def failure(item: SourceItem, fps: int = 30) -> tuple[str, str]:
    """Reason and sentence of a source that fails as a whole."""
    rows = [row.record for row in cut(item, fps) if row.record.kind is Kind.VIDEO]
    assert [row.verdict for row in rows] == [Verdict.FAILED]
    return rows[0].reasons[0], rows[0].detail or ""


def test_sekai_poses_are_c2w_and_intrinsics_are_shares_of_the_video(tmp_path):
    c2w = like.walk(FRAMES)
    like.sekai(tmp_path, ["a_b-c_0000000_0000033", "d_0000100_0000133"], c2w)
    found = items(tmp_path, "sekai_game")
    assert [item.id for item in found] == ["a_b-c_0000000_0000033", "d_0000100_0000133"]
    track = given(found[0], 30)
    np.testing.assert_allclose(track.c2w, c2w[:17], atol=1e-9)
    np.testing.assert_allclose(track.intrinsics, np.tile(like.INTRINSICS, (17, 1)), atol=1e-9)
    assert track.unit == "engine"  # squeezed clip by clip: nobody knows the unit
    assert found[0].caption == "Town, a_b-c_0000000_0000033"
    assert (found[0].source, found[0].licence) == ("sekai_game", "Sekai licence (non-commercial research)")
    walking = items(tmp_path, "sekai_walking", licence="mine", name="streets")[0]
    assert (walking.source, walking.licence) == ("streets", "mine")


def test_sekai_intrinsics_may_come_one_a_frame_and_video_of_another_size(tmp_path):
    c2w = like.walk(FRAMES)
    like.sekai(tmp_path, ["a_0000000_0000033"], c2w, size=(144, 192))
    path = tmp_path / "camera/a_0000000_0000033.npz"
    with np.load(path) as arrays:
        matrix = arrays["intrinsic"]
    zoomed = np.tile(matrix, (FRAMES, 1, 1))
    zoomed[:, 0, 0] *= 1 + np.arange(FRAMES) / 100
    np.savez(path, extrinsic=c2w, intrinsic=zoomed)
    track = given(items(tmp_path, "sekai_game")[0], 30)
    expected = np.tile(like.INTRINSICS / 2, (17, 1))  # the clip is half as large as the video
    expected[:, 0] *= 1 + np.arange(17) / 100
    np.testing.assert_allclose(track.intrinsics, expected, atol=1e-9)


def test_a_bad_sekai_sidecar_fails_its_own_clip_alone(tmp_path):
    names = ["good_0000000_0000033", "gone_0000000_0000033", "short_0000000_0000033", "nan_0000000_0000033",
             "torn_0000000_0000033", "pixels_0000000_0000033"]
    c2w = like.walk(FRAMES)
    like.sekai(tmp_path, names, c2w)
    camera = tmp_path / "camera"
    with np.load(camera / f"{names[0]}.npz") as arrays:
        matrix = arrays["intrinsic"]
    (camera / f"{names[1]}.npz").unlink()
    np.savez(camera / f"{names[2]}.npz", extrinsic=c2w[:20], intrinsic=matrix)
    broken = np.where(np.arange(FRAMES)[:, None, None] == 4, np.nan, c2w)
    np.savez(camera / f"{names[3]}.npz", extrinsic=broken, intrinsic=matrix)
    (camera / f"{names[4]}.npz").write_bytes((camera / f"{names[4]}.npz").read_bytes()[:300])
    np.savez(camera / f"{names[5]}.npz", extrinsic=c2w, intrinsic=matrix * 96)
    by_id = {item.id.partition("_")[0]: item for item in items(tmp_path, "sekai_game")}
    given(by_id["good"], 30)
    said = {name: failure(by_id[name]) for name in ("gone", "short", "nan", "torn", "pixels")}
    assert {reason for reason, _ in said.values()} == {"bad_cameras"}
    assert "cannot be read" in said["gone"][1]
    assert "20 poses for 33 frames" in said["short"][1]
    assert "frame 4 holds NaN" in said["nan"][1]
    assert "expected arrays extrinsic, intrinsic" in said["torn"][1]
    assert "not divided by width and height" in said["pixels"][1]


def test_spatialvid_poses_are_w2c_at_the_frames_the_index_names(tmp_path):
    c2w = like.walk(61)
    like.spatialvid(tmp_path, "0a00f99d", c2w)
    (item,) = items(tmp_path, "spatialvid")
    assert (item.id, item.caption) == ("group_0001/0a00f99d", "A quiet street.")
    track = given(item, 30)
    kept = [0, 6, 12]
    np.testing.assert_allclose(track.c2w[kept], c2w[kept], atol=1e-9)
    # In between, centres go straight from one camera to the next: of the camera, not of the w2c translation.
    np.testing.assert_allclose(track.c2w[3, :3, 3], (c2w[0, :3, 3] + c2w[6, :3, 3]) / 2, atol=1e-9)
    half = Rotation.from_matrix(c2w[0, :3, :3].T @ c2w[6, :3, :3]).as_rotvec() / 2
    np.testing.assert_allclose(track.c2w[3, :3, :3], c2w[0, :3, :3] @ Rotation.from_rotvec(half).as_matrix(),
                               atol=1e-9)
    np.testing.assert_allclose(track.intrinsics, np.tile(like.INTRINSICS, (17, 1)), atol=1e-9)
    assert track.unit == "engine"


def test_spatialvid_frames_farther_than_a_step_behind_the_last_pose_make_no_clip(tmp_path):
    like.spatialvid(tmp_path, "0a", like.walk(61))
    notes = tmp_path / "annotations/group_0001/0a"
    for name in ("poses.npy", "intrinsics.npy"):  # rows for frames 0 to 48, of 60
        np.save(notes / name, np.load(notes / name)[:9])
    lines = (notes / "indexes.txt").read_text().splitlines()[:10]
    (notes / "indexes.txt").write_text("\n".join(lines))
    rows = cut(items(tmp_path, "spatialvid")[0], 30)
    clips = [row for row in rows if row.record.kind is Kind.CLIP]
    assert [round(row.record.start_s * 30) for row in clips] == [0, 17, 34]  # 34 + 16 = 50: held two frames
    like.spatialvid(tmp_path, "0b", like.walk(61))
    poses = tmp_path / "annotations/group_0001/0b/poses.npy"
    np.save(poses, np.load(poses)[:-1])
    said = failure(items(tmp_path, "spatialvid")[1])[1]
    assert "10 poses, 11 intrinsics, but indexes.txt names 11 frames" in said


def test_dl3dv_poses_turn_from_opengl_and_intrinsics_follow_the_pictures(tmp_path):
    c2w = like.walk(FRAMES)
    like.dl3dv(tmp_path, "5c3af581", c2w)
    (item,) = items(tmp_path, "dl3dv", image_fps=16.0)
    assert (item.id, item.pictures.fps) == ("1K/5c3af581", 16.0)
    track = given(item, 16)
    np.testing.assert_allclose(track.c2w, c2w[:17], atol=1e-9)
    np.testing.assert_allclose(track.intrinsics, np.tile(like.INTRINSICS, (17, 1)), atol=1e-9)
    clip = cut(item, 16)[0]
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.files["mp4"])
    shown = cv2.VideoCapture(str(path)).read()[1][..., ::-1].astype(float)
    assert np.abs(shown - like.picture(0)).mean() < 4  # first by name, though listed last


def test_a_distorted_lens_is_straightened_with_its_pictures(tmp_path):
    lens = Lens(like.INTRINSICS + [0, 0, 1.5, -0.5], np.array([-0.08, 0.02, 0.003, -0.002]), like.SIZE)
    straight, (map_x, map_y) = lens.straight(), lens.maps()
    rows, columns = np.mgrid[0:like.SIZE[0], 0:like.SIZE[1]] + 0.5
    x, y = (columns - straight[2]) / straight[0], (rows - straight[3]) / straight[1]
    r2 = x**2 + y**2
    k1, k2, p1, p2 = lens.coefficients  # the lens equation itself
    radial = 1 + k1 * r2 + k2 * r2**2
    bent = np.stack([x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
                     y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y, np.ones_like(x)], -1)
    pixels = project(bent, lens.intrinsics)
    np.testing.assert_allclose(np.stack([map_x, map_y], -1) + 0.5, pixels, atol=1e-4)
    assert map_x.min() > -1 and map_x.max() < like.SIZE[1] and map_y.min() > -1  # no empty border
    like.dl3dv(tmp_path, "bent", like.walk(20), distortion=(-0.08, 0.02, 0.003, -0.002))
    track = given(items(tmp_path, "dl3dv")[0], 16)
    expected = Lens(like.INTRINSICS, lens.coefficients, like.SIZE).straight()
    np.testing.assert_allclose(track.intrinsics[0], expected, atol=1e-6)
    assert abs(track.intrinsics[0, 0] - like.INTRINSICS[0]) > 0.5


def test_dl3dv_pictures_of_odd_size_keep_their_cameras(tmp_path):
    like.dl3dv(tmp_path, "odd", like.walk(20), size=(73, 97))
    config = CutConfig(frames=17, fps=16, width=96, height=72)
    row = next(iter(Cutter(config).cut(items(tmp_path, "dl3dv")[0])))
    track = CameraTrack.from_npz(row.files["given.npz"])
    np.testing.assert_allclose(track.intrinsics[0], like.INTRINSICS, atol=1e-9)


def test_a_missing_or_torn_picture_fails_its_own_scene_alone(tmp_path):
    for scene in ("a_good", "b_gone", "c_torn", "d_empty"):
        like.dl3dv(tmp_path, scene, like.walk(20))
    (tmp_path / "1K/b_gone/images_4/frame_00007.png").unlink()
    torn = tmp_path / "1K/c_torn/images_4/frame_00007.png"
    torn.write_bytes(torn.read_bytes()[:50])
    shutil.rmtree(tmp_path / "1K/d_empty/images_4")
    good, gone, torn_item, empty = items(tmp_path, "dl3dv")
    given(good, 16)
    assert "frame_00007.png: cannot be read" in failure(gone)[1]
    assert "frame_00007.png: not a picture" in failure(torn_item)[1]
    assert failure(empty)[0] == "bad_sidecar" and "no folder images" in failure(empty)[1]


def test_omniworld_cameras_are_w2c_scalar_first_and_every_run_is_a_source(tmp_path):
    c2w = like.walk(70)
    depth = np.full((18, 24), 5.0)
    depth[:9] = 60.0
    depth[0, 0] = 0.0
    splits = [list(range(3, 23)), [*range(30, 48), *range(50, 69)]]
    like.omniworld(tmp_path, "b04f88d1f85a", c2w, splits, depth)
    found = items(tmp_path, "omniworld")
    runs = [item.id.rpartition("/")[2] for item in found]
    assert runs == ["000003-000023", "000030-000048", "000050-000069"]
    for item, first in zip(found, (3, 30, 50)):
        track = given(item, 24)
        np.testing.assert_allclose(track.c2w, c2w[first:first + 17], atol=1e-9)
        focal = 80.0 + 0.01 * np.arange(first, first + 17)
        expected = np.stack([focal, focal, focal * 0 + 48, focal * 0 + 36], 1)
        np.testing.assert_allclose(track.intrinsics, expected, atol=1e-9)
    clip = cut(found[0], 24)[0]
    maps = DepthMaps.from_npz(clip.files["given_depth.npz"])
    # Poses and depth share a unit, known or not: the depth stage takes the given maps as they are.
    files = {**clip.files, "pose.npz": clip.files["given.npz"]}
    kept = DepthStage().process(Clip(clip.record, files, frames=None))  # type: ignore[arg-type]
    assert kept.files["depth.npz"] == clip.files["given_depth.npz"]
    assert maps.frames.tolist() == list(range(17))
    wanted = np.where(maps.valid[0], depth, 0)
    assert not maps.valid[0, 0, 0] and maps.valid[0].sum() == depth.size - 1
    np.testing.assert_allclose(maps.depth[0].astype(float), wanted, rtol=0.02)


def test_omniworld_depth_follows_its_formula_and_is_not_millimetres():
    stored = np.array([[0, 98, 99, 30000, 65500, 65501, 65535]], np.uint16)
    d = stored / 65535
    z = linear_depth(stored)
    assert (z > 0).tolist() == [[False, False, True, True, True, False, False]]
    np.testing.assert_allclose(z[0, 2:5], (d / (1000 - 999 * d) / 0.004)[0, 2:5], rtol=1e-6)
    assert z[0, 3] == pytest.approx(0.21079, rel=1e-3)


def test_a_bad_omniworld_scene_is_a_row_and_the_others_go_on(tmp_path):
    for scene in ("a", "b", "c"):
        like.omniworld(tmp_path, scene, like.walk(20), [list(range(20))], np.ones((9, 12)))
    notes = tmp_path / "annotations/OmniWorld-Game"
    (notes / "b/fps.txt").write_text("unknown")
    camera = json.loads((notes / "c/camera/split_0.json").read_text())
    camera["quats"] = camera["quats"][:-1]
    (notes / "c/camera/split_0.json").write_text(json.dumps(camera))
    good, rateless, short = items(tmp_path, "omniworld")
    given(good, 24)
    assert failure(rateless)[0] == "bad_sidecar" and "expected FPS" in failure(rateless)[1]
    assert "19 quats" in failure(short)[1] and "lists 20 pictures" in failure(short)[1]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_miradata_spans_come_from_frames_or_times_and_captions_name_no_camera(tmp_path, encoding):
    like.miradata(tmp_path, encoding)
    found = {item.id: item for item in items(tmp_path, "miradata")}
    index = "000000000012_AJp_AN-oGoM-00000"
    spans = {name: (item.start_s, item.end_s) for name, item in found.items()}
    assert spans == {f"{index}1": (1.0, 2.5), f"{index}2": (None, None), f"{index}3": (None, None),
                     "77.0": (0.5, 2.0), "77.1": (0.5, 2.5)}
    assert found[f"{index}2"].uri.endswith("clip_video/000000000012_AJp_AN-oGoM-000002.mp4")
    assert {item.caption for item in found.values()} == {"A baker. A café in town."}
    assert failure(found[f"{index}3"]) == ("bad_sidecar", found[f"{index}3"].fault)
    clip = cut(found[f"{index}1"], 30)[0]
    assert clip.record.start_s == 1.0 and "given.npz" not in clip.files


@pytest.mark.parametrize("layout", ["spatialvid", "dl3dv", "omniworld", "sekai_game", "sekai_walking",
                                    "miradata"])
def test_a_folder_that_holds_no_such_set_is_refused_at_the_start(tmp_path, layout):
    with pytest.raises(ValueError, match=r"src=.*(no video of layout|no table)"):
        items(tmp_path, layout)
    with pytest.raises(ValueError, match="no such file or folder"):
        items(tmp_path / "nowhere", layout)


def test_a_set_may_lie_behind_an_address(tmp_path):
    c2w = like.walk(20)
    like.sekai(tmp_path, ["a_0000000_0000020"], c2w)
    like.dl3dv(tmp_path, "scene", c2w)
    sekai = items(f"file://{tmp_path}", "sekai_game")[0]  # type: ignore[arg-type]
    assert sekai.uri.startswith("file://")
    np.testing.assert_allclose(given(sekai, 30).c2w, c2w[:17], atol=1e-9)
    np.testing.assert_allclose(given(items(f"file://{tmp_path}", "dl3dv")[0], 16).c2w, c2w[:17], atol=1e-9)  # type: ignore[arg-type]
