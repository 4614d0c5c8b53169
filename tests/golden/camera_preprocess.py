"""Image fit, intrinsics in every form, and poses to the network's camera inputs and ray frames."""

import numpy as np
import torch

from dataset import rays
from model.camera import ray_from_world
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 5e-6
_PIXEL_TOLERANCE = 1e-3


def check(fixture: Fixture) -> list[Comparison]:
    return [comparison for case, about in fixture.metadata["cases"].items()
            for comparison in _check_case(fixture, case, about)]


def _check_case(fixture: Fixture, case: str, about: dict) -> list[Comparison]:
    inputs = fixture.under(f"{case}.in.")
    (width, height), frames = about["image_wh"], int(about["raw_frames"])
    fit = rays.fit_image((height, width), tuple(about["target_hw"]))
    cropped = fit.intrinsics(rays.frame_intrinsics(inputs["intrinsics"].numpy(), frames))
    camera = rays.model_camera(inputs["c2w"].numpy(), cropped, fit.target)
    grid = camera.plucker.shape[-2:]
    values = {
        "resized_wh": (torch.tensor([fit.resized[1], fit.resized[0]]), 0.0),
        "crop_left_top": (torch.tensor([fit.left, fit.top]), 0.0),
        "intrinsics_cropped": (torch.from_numpy(np.ascontiguousarray(cropped)), _PIXEL_TOLERANCE),
        "camera_conditions": (camera.conditions, _TOLERANCE),
        "chunk_plucker": (camera.plucker, _TOLERANCE),
        "ray_from_world": (ray_from_world(camera.conditions[None], *grid)[0], _TOLERANCE),
    }
    return [Comparison(f"{case}.out.{key}", value, fixture[f"{case}.out.{key}"], tolerance)
            for key, (value, tolerance) in values.items() if f"{case}.out.{key}" in fixture]
