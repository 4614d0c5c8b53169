"""Stretches of a path give what the whole path gives."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dataset.rays import model_camera
from infer.actions import action_poses, parse_actions
from infer.camera_inputs import CameraInputs

SIZE, CELL = (64, 96), 32


@pytest.mark.parametrize("zooms", [False, True])
@pytest.mark.parametrize("bounds", [[0, 4, 7, 10, 11], [0, 1, 2, 11], [0, 11]])
def test_chunks_are_told_what_the_whole_is_told(bounds: list[int], zooms: bool) -> None:
    c2w = action_poses(parse_actions("w-30,dw-20,ai-30"))
    k = np.tile([80.0, 82.0, 48.0, 32.0], (81, 1))
    if zooms:
        k[:, :2] *= np.linspace(1, 1.5, 81)[:, None]
    start = action_poses(parse_actions("a-9"))[-1]  # paths are told relative to their first pose
    whole = model_camera(start @ c2w, k, SIZE, CELL)
    inputs = CameraInputs(start @ c2w, k, SIZE, CELL)
    parts = [inputs.frames(a, b) for a, b in pairwise(bounds)]
    torch.testing.assert_close(torch.cat([p.conditions for p in parts]), whole.conditions, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([p.plucker for p in parts], 1), whole.plucker, rtol=0, atol=1e-6)
