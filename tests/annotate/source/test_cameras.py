import dataclasses
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from annotate.decode import VideoInfo
from annotate.source.cameras import BadCameras, load_depth, load_intrinsics, load_poses
from annotate.source.item import Conventions, SourceItem
from dataset.camera import invert, project, rotate_in_plane

OPENGL = np.diag([1.0, -1, -1, 1])


def video(size=(480, 640), turns=0, stored=None) -> VideoInfo:
    stored = stored or (size[::-1] if turns % 2 else size)
    return VideoInfo("mp4", "h264", "yuv420p", stored, size, turns, 30.0, 20, 1.0, False, "ITU709", False)


def item(given: Conventions | None = None, **columns) -> SourceItem:
    return SourceItem("/videos/a.mp4", "a", given=given or Conventions(), **columns)


def path_of(count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.05, (count, 3)), 0)).as_matrix()
    c2w[:, :3, 3] = np.cumsum(rng.normal(0, 0.1, (count, 3)), 0)
    return c2w


@pytest.mark.parametrize("axes", ["opencv", "opengl"])
@pytest.mark.parametrize("direction", ["c2w", "w2c"])
def test_poses_of_every_convention_become_the_same_cameras(tmp_path, axes, direction):
    c2w = path_of(20)
    stored = c2w @ OPENGL if axes == "opengl" else c2w
    stored = invert(stored) if direction == "w2c" else stored
    np.save(tmp_path / "p.npy", stored)
    given = Conventions(axes=axes, direction=direction)
    poses = load_poses(item(given, poses=str(tmp_path / "p.npy")), video())
    assert poses.times is None
    assert np.allclose(poses.c2w, c2w, atol=1e-12)


def test_poses_of_every_file_format_are_the_same(tmp_path):
    c2w = path_of(20)
    times = np.arange(20) / 30
    np.save(tmp_path / "a.npy", c2w)
    np.save(tmp_path / "b.npy", c2w[:, :3])
    np.savez(tmp_path / "c.npz", c2w=c2w)
    np.savez(tmp_path / "d.npz", poses=c2w, timestamps=times)
    (tmp_path / "e.json").write_text(json.dumps({"c2w": c2w.tolist()}))
    (tmp_path / "f.json").write_text(json.dumps(c2w[:, :3].tolist()))
    np.savetxt(tmp_path / "kitti.txt", c2w[:, :3].reshape(20, 12))
    quaternions = Rotation.from_matrix(c2w[:, :3, :3]).as_quat()
    np.savetxt(tmp_path / "g.tum", np.column_stack([times, c2w[:, :3, 3], quaternions]), header="t x y z q")
    for name in ("a.npy", "b.npy", "c.npz", "d.npz", "e.json", "f.json", "kitti.txt", "g.tum"):
        poses = load_poses(item(poses=str(tmp_path / name)), video())
        assert np.allclose(poses.c2w, c2w, atol=1e-9), name
        assert (poses.times is not None) == (name in ("d.npz", "g.tum"))


def test_poses_one_a_frame_are_picked_and_stamped_ones_interpolated(tmp_path):
    c2w = path_of(20)
    np.save(tmp_path / "a.npy", c2w)
    per_frame = load_poses(item(poses=str(tmp_path / "a.npy")), video())
    frames = np.array([3, 3, 7, 19])
    assert np.array_equal(per_frame.at(frames, frames / 30), c2w[frames])
    np.savez(tmp_path / "b.npz", c2w=c2w, timestamps=np.arange(20) / 5)
    stamped = load_poses(item(poses=str(tmp_path / "b.npz")), video())
    found = stamped.at(np.array([0, 1, 2]), np.array([0.4, 0.5, 4.0]))
    assert np.allclose(found[0], c2w[2])
    assert np.allclose(found[1, :3, 3], (c2w[2, :3, 3] + c2w[3, :3, 3]) / 2)
    assert np.allclose(found[2], c2w[19]), "one period beyond the last is held"
    with pytest.raises(ValueError, match=r"4\.1"):
        stamped.at(np.array([0]), np.array([4.1]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", np.zeros((5, 3)), r"poses of shape \(5, 3\)"),
        ("a.npy", np.zeros((5, 4, 4)), "a.npy: frame 0"),
        ("a.npy", np.full((5, 4, 4), np.nan), "a.npy: frame 0"),
        ("a.npy", np.tile(np.diag([1.0, 1, -1, 1]), (5, 1, 1)), "mirrors the world"),
        ("a.npz", {"cameras": np.zeros((5, 4, 4))}, "none of c2w"),
        ("a.npz", {"c2w": path_of(5), "timestamps": np.zeros(5)}, "increase"),
        ("a.npz", {"c2w": path_of(5), "timestamps": np.arange(4.0)}, "5 poses, 4 times"),
        ("a.json", "{}", "not poses"),
        ("a.txt", "1 2 three", "not poses"),
        ("a.npy", "text", "not poses"),
    ],
)
def test_files_that_hold_no_poses_are_refused(tmp_path, name, content, message):
    if isinstance(content, np.ndarray):
        np.save(tmp_path / name, content)
    elif isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadCameras, match=message):
        load_poses(item(poses=str(tmp_path / name)), video())


def test_intrinsics_of_every_form_are_the_same(tmp_path):
    matrix = np.array([[500.0, 0, 321], [0, 510, 239], [0, 0, 1]])
    np.save(tmp_path / "a.npy", matrix)
    np.savez(tmp_path / "b.npz", K=np.tile(matrix, (20, 1, 1)))
    (tmp_path / "c.json").write_text('{"fx": 500, "fy": 510, "cx": 321, "cy": 239}')
    larger = {"intrinsics": [1000, 1020, 642, 478], "width": 1280, "height": 960}
    (tmp_path / "d.json").write_text(json.dumps(larger))
    files = [str(tmp_path / name) for name in ("a.npy", "b.npz", "c.json", "d.json")]
    for form in [[500.0, 510.0, 321.0, 239.0], *files]:
        found = load_intrinsics(item(intrinsics=form), video())
        assert np.allclose(found, [500, 510, 321, 239])
        assert len(found) == (20 if str(form).endswith("b.npz") else 1)


def test_intrinsics_of_another_size_or_with_integer_centres_are_brought_to_ours():
    known = [1000.0, 1000.0, 639.5, 479.5]
    given = Conventions(pixel_centres="integer")
    found = load_intrinsics(item(given, intrinsics=known, intrinsics_size=[960, 1280]), video())
    assert np.allclose(found, [[500, 500, 320, 240]])
    with pytest.raises(BadCameras, match="1280x720, the video is 640x480: another aspect"):
        load_intrinsics(item(intrinsics=known, intrinsics_size=[720, 1280]), video())


@pytest.mark.parametrize("content", [[[500.0, 500, 3]], [[-5.0, 5, 3, 3]], [[np.nan, 5, 3, 3]]])
def test_files_that_hold_no_intrinsics_are_refused(tmp_path, content):
    np.save(tmp_path / "k.npy", np.array(content))
    with pytest.raises(BadCameras, match=r"k\.npy: intrinsics of shape"):
        load_intrinsics(item(intrinsics=str(tmp_path / "k.npy")), video())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 3), st.floats(-0.4, 0.4), st.floats(-0.3, 0.3))
def test_cameras_of_the_stored_picture_turn_with_it(turns, x, y):
    """A world point seen in the stored picture is seen at the turned pixel in the displayed one."""
    height, width = 480, 640
    displayed = (width, height) if turns % 2 else (height, width)
    given = Conventions(camera_grid="stored")
    intrinsics = np.array([500.0, 510, 300, 250])
    (found,) = load_intrinsics(item(given, intrinsics=intrinsics.tolist()), video(displayed, turns))
    u, v = project(np.array([x, y, 1.0]), intrinsics)
    size = (height, width)
    for _ in range(turns):
        u, v, size = size[0] - v, u, size[::-1]
    turned_camera = invert(rotate_in_plane(np.eye(4), turns))  # world: axes of the stored camera
    point = turned_camera[:3, :3] @ np.array([x, y, 1.0])
    assert np.allclose(project(point, found), (u, v))


@pytest.mark.parametrize("turns,expected", [(0, [500.0, 600, 320, 240]), (1, [600.0, 500, 240, 320])])
def test_cameras_of_stored_pixels_that_are_not_square_are_stretched_with_them(turns, expected):
    """Coded 480 x 576 with pixels 4:3 as wide as high, shown 640 x 480."""
    info = video((640, 480) if turns else (480, 640), turns, stored=(576, 480))
    given = Conventions(camera_grid="stored")
    known = [500.0 * 480 / 640, 600.0 * 576 / 480, 240.0, 288.0]
    assert np.allclose(load_intrinsics(item(given, intrinsics=known), info), [expected])
    halved = [value / 2 for value in known]
    found = load_intrinsics(item(given, intrinsics=halved, intrinsics_size=[288, 240]), info)
    assert np.allclose(found, [expected])
    with pytest.raises(BadCameras, match="the video is 480x576: another aspect"):
        load_intrinsics(item(given, intrinsics=known, intrinsics_size=[480, 640]), info)


def test_poses_of_the_stored_picture_turn_with_it(tmp_path):
    c2w = path_of(4)
    np.save(tmp_path / "p.npy", c2w)
    given = Conventions(camera_grid="stored")
    poses = load_poses(item(given, poses=str(tmp_path / "p.npy")), video((640, 480), 1))
    assert np.allclose(poses.c2w, rotate_in_plane(c2w, 1))
    assert np.allclose(poses.c2w[:, :3, 3], c2w[:, :3, 3])


def test_depth_comes_from_numbered_pngs_or_an_array(tmp_path):
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100
    (tmp_path / "d").mkdir()
    cv2.imwrite(str(tmp_path / "d" / "frame_0010.png"), depth)
    cv2.imwrite(str(tmp_path / "d" / "20.png"), depth + 1)
    (tmp_path / "d" / "readme.txt").touch()
    folder = load_depth(item(depth=str(tmp_path / "d")), video())
    assert folder.load(0) is None and np.allclose(folder.load(10), depth / 1000)
    assert np.allclose(folder.load(20), (depth + 1) / 1000)
    metres = np.where(depth == 100, np.nan, depth / 1000)[None]
    np.savez(tmp_path / "d.npz", depth=metres, frames=[7])
    array = load_depth(item(Conventions(depth_unit=1.0), depth=str(tmp_path / "d.npz")), video())
    assert array.load(7)[0, 1] == 0 and np.allclose(array.load(7)[0, 2], 0.2)
    turned = dataclasses.replace(array, quarter_turns=1)
    assert np.array_equal(turned.load(7), np.rot90(array.load(7), -1))


def test_depth_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadCameras, match="no depth there"):
        load_depth(item(depth=str(tmp_path)), video())
    np.savez(tmp_path / "d.npz", z=np.zeros(3))
    with pytest.raises(BadCameras, match="expected an array depth"):
        load_depth(item(depth=str(tmp_path / "d.npz")), video())


@pytest.mark.parametrize("keep", [0, 1, 60, 0.5, 0.9, -1])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_truncated_arrays_are_refused_with_their_name(tmp_path, ending, keep):
    path = tmp_path / f"cut.{ending}"
    values = np.random.default_rng(0).normal(size=(20, 4, 4))
    if ending == "npy":
        np.save(path, values)
    else:
        np.savez_compressed(path, c2w=values, intrinsics=values[:, 0], depth=values)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(BadCameras, match="cut"):
        load_poses(item(poses=str(path)), video())
    with pytest.raises(BadCameras, match="cut"):
        load_intrinsics(item(intrinsics=str(path)), video())
    if ending == "npz":
        with pytest.raises(BadCameras, match="cut"):
            load_depth(item(depth=str(path)), video())


def test_nothing_given_is_nothing():
    for load in (load_poses, load_intrinsics, load_depth):
        assert load(item(), video()) is None
