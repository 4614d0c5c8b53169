import numpy as np
import pycolmap
import pytest

from dataset.camera import project
from dataset.export.colmap import colmap_model


def reconstruction(files, folder) -> pycolmap.Reconstruction:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return pycolmap.Reconstruction(str(folder))


def test_pycolmap_reads_the_cameras_that_went_in(track, tmp_path):
    model = reconstruction(colmap_model(track), tmp_path)
    assert sorted(model.images) == [1, 2, 3, 4, 6, 7, 8, 9]  # frame 4 has no pose
    for number, image in model.images.items():
        frame = number - 1
        assert image.name == f"frame_{frame:06d}.jpg"
        c2w = np.eye(4)
        c2w[:3] = image.cam_from_world().inverse().matrix()
        np.testing.assert_allclose(c2w, track.c2w[frame], atol=1e-12)
        camera = model.cameras[image.camera_id]
        assert (camera.height, camera.width, camera.model.name) == (*track.size, "PINHOLE")
        np.testing.assert_allclose(camera.params, track.intrinsics[frame], atol=1e-12)


def test_one_camera_serves_a_clip_that_does_not_zoom(track, tmp_path):
    track.intrinsics[:] = track.intrinsics[0]
    model = reconstruction(colmap_model(track), tmp_path)
    assert list(model.cameras) == [1]
    assert {image.camera_id for image in model.images.values()} == {1}


def test_points_lie_where_the_images_see_them_and_have_their_colours(track, depth, tmp_path):
    pictures = {0: np.zeros((*track.size, 3), np.uint8), 8: np.full((*track.size, 3), 200, np.uint8)}
    pictures[0][:, 40:] = (10, 20, 30)
    model = reconstruction(colmap_model(track, depth, pictures), tmp_path)
    assert len(model.points3D) == depth.valid[[0, 2]].sum()
    errors, colours = [], {0: set(), 8: set()}
    for point in model.points3D.values():
        (element,) = point.track.elements
        image, frame = model.images[element.image_id], element.image_id - 1
        seen = image.points2D[element.point2D_idx].xy
        in_camera = image.cam_from_world() * point.xyz
        errors.append(np.abs(project(in_camera, track.intrinsics[frame]) - seen).max())
        colours[frame].add((bool(seen[0] >= 40), tuple(point.color.tolist())))
    assert max(errors) < 1e-6
    assert colours == {0: {(False, (0, 0, 0)), (True, (10, 20, 30))},
                       8: {(False, (200, 200, 200)), (True, (200, 200, 200))}}


def test_dense_depth_is_thinned_evenly(track, depth):
    depth.valid[:] = True
    depth.depth[:] = 2.0
    deep = type(depth)(np.repeat(np.repeat(depth.depth, 8, 1), 8, 2), np.ones((3, 240, 320), bool),
                       depth.frames, depth.intrinsics * 8, "test")
    points = colmap_model(track, deep)["points3D.txt"].decode().splitlines()[1:]
    assert 15_000 < len(points) <= 20_000
    assert points[0].split()[4:7] == ["128", "128", "128"]  # no picture, no colour
    assert len({line.split()[8] for line in points}) == 2


@pytest.mark.parametrize("sign", [1, -1])
def test_poses_survive_half_turns(track, tmp_path, sign):
    track.c2w[:, :3, :3] = np.diag([sign, -1.0, -sign])
    model = reconstruction(colmap_model(track), tmp_path)
    rotation = model.images[1].cam_from_world().rotation.matrix()
    np.testing.assert_allclose(rotation, np.diag([sign, -1.0, -sign]), atol=1e-12)
