"""Training cameras of both kinds come back as they were, whatever their axes."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.splats.cameras import read_training_cameras
from annotate.splats.config import World
from annotate.splats.scene import SceneError

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def poses(count: int) -> np.ndarray:
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = Rotation.random(count, random_state=0).as_matrix()
    c2w[:, :3, 3] = np.random.default_rng(0).normal(0, 2, (count, 3))
    return c2w


def test_cameras_of_3dgs_are_camera_to_world_in_the_order_of_their_pictures() -> None:
    c2w = poses(4)
    notes = [{"id": k, "img_name": f"frame_{k:03d}", "width": 640, "height": 480, "fx": 320.0, "fy": 320.0,
              "position": c2w[k, :3, 3].tolist(), "rotation": c2w[k, :3, :3].tolist()} for k in (2, 0, 3, 1)]
    found = read_training_cameras("model/cameras.json", json.dumps(notes).encode(), World.stored)
    np.testing.assert_allclose(found.c2w, c2w, atol=1e-12)
    np.testing.assert_allclose(found.fov_x_deg, 90)


@pytest.mark.parametrize("world", list(World))
def test_transforms_turn_from_opengl_and_out_of_the_applied_transform_if_asked(world: World) -> None:
    c2w = poses(5)
    applied = np.array([[0.0, 0, 1, 2], [1, 0, 0, 0], [0, 1, 0, -1], [0, 0, 0, 1]])
    stored = (applied @ c2w if world is World.colmap else c2w) @ OPENGL
    notes = {"fl_x": 500.0, "w": 1000, "applied_transform": applied[:3].tolist(), "frames": [
        {"file_path": f"images/{k}.png", "transform_matrix": stored[k].tolist()} for k in range(5)]}
    found = read_training_cameras("transforms.json", json.dumps(notes).encode(), world)
    np.testing.assert_allclose(found.c2w, c2w, atol=1e-12)
    np.testing.assert_allclose(found.fov_x_deg, 90)


@pytest.mark.parametrize(("data", "reason"), [
    (b"{", "not JSON"), (b"[{}]", "KeyError"), (b'{"cameras": 1}', "expected those of 3DGS"),
    (json.dumps([{"img_name": "a", "width": 640, "fx": 0, "position": [0, 0, 0],
                  "rotation": np.eye(3).tolist()}]).encode(), "a focal length or width"),
    (json.dumps([{"img_name": "a", "width": 640, "fx": 300, "position": [0, 0, 0],
                  "rotation": (2 * np.eye(3)).tolist()}]).encode(), "not a rotation"),
])
def test_other_files_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(SceneError, match=reason):
        read_training_cameras("cameras.json", data, World.stored)
