"""Which frames are revisits, and how alike two pictures are."""

import numpy as np
import pytest

from dataset.camera import rotation_angle_deg
from pipelines.evaluation.path import PathConfig, Surroundings, scene_path
from pipelines.evaluation.revisit import RevisitConfig, likeness, revisits
from pipelines.evaluation.templates import TEMPLATES


def path(name: str) -> np.ndarray:
    return scene_path(TEMPLATES[name], Surroundings(4.0, None), PathConfig()).c2w


@pytest.mark.parametrize("name", ["forward-and-back", "full-circle", "figure-eight", "look-all-round"])
def test_revisits_are_near_turned_alike_and_apart_in_time_with_another_place_between(name: str) -> None:
    config, c2w = RevisitConfig(), path(name)
    found = revisits(c2w, config)
    assert 3 <= len(found) <= config.pairs
    for a, b in found:
        assert np.linalg.norm(c2w[a, :3, 3] - c2w[b, :3, 3]) < 0.5 and b - a >= 8 * 16
        assert rotation_angle_deg(c2w[a, :3, :3].T @ c2w[b, :3, :3]) < 20
        between = c2w[a:b]
        gone = np.linalg.norm(between[:, :3, 3] - c2w[b, :3, 3], axis=1) >= 0.5
        turned = rotation_angle_deg(between[:, :3, :3].swapaxes(1, 2) @ c2w[b, :3, :3]) >= 20
        assert (gone | turned).any()


def test_a_camera_that_never_comes_back_or_never_leaves_has_none() -> None:
    assert revisits(path("dolly-in"), RevisitConfig()) == []
    assert revisits(np.tile(np.eye(4), (961, 1, 1)), RevisitConfig()) == []


def test_likeness_of_known_disturbances() -> None:
    picture = np.random.default_rng(0).integers(0, 200, (40, 60, 3)).astype(np.uint8)
    same = likeness(picture, picture)
    assert same.psnr == 100 and same.ssim == pytest.approx(1, abs=1e-4)
    lighter = likeness(picture, picture + np.uint8(10))
    assert lighter.psnr == pytest.approx(20 * np.log10(255 / 10), abs=1e-3) and lighter.ssim > 0.97
    other = likeness(picture, picture[::-1].copy())
    assert other.psnr < 15 and other.ssim < 0.3


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"revisit.gap_s=0"):
        RevisitConfig(gap_s=0).check()
