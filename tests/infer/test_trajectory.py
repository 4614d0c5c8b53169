"""One path in every format, and what is refused in each."""

import json
from pathlib import Path

import numpy as np
import pytest

from dataset.camera import invert
from infer.paths import named_path
from infer.trajectory import Trajectory, read_trajectory

POSES = named_path("orbit:radius=2,degrees=60,height=0.4", 13)
LENS = np.array([210.0, 205.0, 101.0, 62.0])
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def same(found: Trajectory, poses: np.ndarray = POSES, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(found.c2w, poses, atol=tolerance)


def test_arrays_of_poses(tmp_path: Path) -> None:
    np.save(tmp_path / "path.npy", POSES)
    same(read_trajectory(str(tmp_path / "path.npy")))
    np.save(tmp_path / "rows.npy", POSES[:, :3])
    same(read_trajectory(str(tmp_path / "rows.npy")))
    np.savez(tmp_path / "path.npz", poses=POSES, intrinsics=LENS, size=(120, 200))
    found = read_trajectory(str(tmp_path / "path.npz"))
    same(found)
    assert found.size == (120, 200)
    np.testing.assert_array_equal(found.intrinsics, LENS)


def test_json_of_poses_and_of_nerf(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps(POSES.tolist()))
    same(read_trajectory(str(tmp_path / "list.json")))
    (tmp_path / "named.json").write_text(json.dumps({"c2w": POSES.tolist(), "intrinsics": LENS.tolist()}))
    assert read_trajectory(str(tmp_path / "named.json")).size is None
    frames = [{"transform_matrix": (pose @ OPENGL).tolist()} for pose in POSES]
    (tmp_path / "nerf.json").write_text(json.dumps({"w": 200, "h": 120, "fl_x": 210.0, "frames": frames}))
    found = read_trajectory(str(tmp_path / "nerf.json"))
    same(found)
    np.testing.assert_array_equal(found.intrinsics, [210, 210, 100, 60])


def test_opengl_axes_and_another_unit(tmp_path: Path) -> None:
    given = POSES @ OPENGL
    given[:, :3, 3] *= 100
    np.save(tmp_path / "path.npy", given)
    same(read_trajectory(str(tmp_path / "path.npy"), opengl=True, scale=0.01))


def test_tum_is_taken_at_the_times_of_frames(tmp_path: Path) -> None:
    """At 8 poses a second every second frame is a pose of the file."""
    from scipy.spatial.transform import Rotation

    times = 1234.5 + np.arange(len(POSES)) / 8
    table = np.column_stack([times, POSES[:, :3, 3], Rotation.from_matrix(POSES[:, :3, :3]).as_quat()])
    np.savetxt(tmp_path / "path.txt", table, header="time x y z qx qy qz qw", fmt="%.12f")
    found = read_trajectory(str(tmp_path / "path.txt"))
    assert len(found.c2w) == 2 * len(POSES) - 1
    same(Trajectory(found.c2w[::2]), tolerance=1e-6)


def test_a_colmap_model_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    from scipy.spatial.transform import Rotation

    (tmp_path / "cameras.txt").write_text("1 PINHOLE 200 120 210 205 101 62\n")
    (tmp_path / "points3D.txt").write_text("")
    lines = []
    for number, w2c in enumerate(invert(POSES)):
        x, y, z, w = Rotation.from_matrix(w2c[:3, :3]).as_quat()
        place = " ".join(f"{value:.15g}" for value in (w, x, y, z, *w2c[:3, 3]))
        lines.append(f"{20 - number} {place} 1 frame{number:03d}.png\n\n")
    (tmp_path / "images.txt").write_text("".join(reversed(lines)))
    found = read_trajectory(str(tmp_path))
    same(found)
    assert found.size == (120, 200)
    np.testing.assert_allclose(found.intrinsics, LENS)


def test_the_camera_of_a_clip_of_a_data_set(tmp_path: Path) -> None:
    from tests.tiny_dataset import camera_track, clip_name, write_video_set

    write_video_set(tmp_path / "set", 2)
    found = read_trajectory(f"{tmp_path / 'set'}#{clip_name(1)}")
    track = camera_track(1, len(found.c2w), found.size or (0, 0))
    same(found, track.c2w)
    with pytest.raises(ValueError, match="no clip of that name with a camera"):
        read_trajectory(f"{tmp_path / 'set'}#nothing")


def test_what_is_no_path_is_refused_by_name_and_frame(tmp_path: Path) -> None:
    mirrored, holed = POSES.copy(), POSES.copy()
    mirrored[4, :3, 0] *= -1
    holed[7, 0, 3] = np.nan
    path = tmp_path / "path.npy"
    for poses, says in ((mirrored, "frame 4 mirrors the world"), (holed, "frame 7 holds NaN"),
                        (POSES[0], r"expected \(frames, 4, 4\)")):
        np.save(path, poses)
        with pytest.raises(ValueError, match=says):
            read_trajectory(str(path))


@pytest.mark.parametrize(("name", "content", "says"), [
    ("a.npy", b"\x93NUMPY", "not an array of numbers"), ("a.npz", b"PK", "not a readable .npz"),
    ("a.json", b"{", "not readable JSON"), ("a.json", b'{"path": 1}', "expected poses under c2w"),
    ("a.json", b'{"frames": [{}]}', "as transforms.json it lacks 'transform_matrix'"),
    ("a.txt", b"0 1 2\n", "3 columns, expected 8"), ("a.txt", b"zero\n", "not a table of numbers"),
    ("a.txt", b"0 0 0 0 0 0 0 0\n", "a quaternion is zero"), ("a.csv", b"", "suffix, allowed are .npy"),
])
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_trajectory(str(tmp_path / name))


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        read_trajectory(str(tmp_path / "gone.npy"))
    with pytest.raises(ValueError, match="a folder without a COLMAP model"):
        read_trajectory(str(tmp_path))
