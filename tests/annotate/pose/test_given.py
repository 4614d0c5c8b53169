import numpy as np
import pytest

from annotate.frames import ArrayFrames
from annotate.pose.given import central_intrinsics, focal_for_poses
from annotate.synthetic import SyntheticSpec, render_sequence


@pytest.mark.parametrize("cropped", [False, True])
def test_the_focal_length_that_fits_given_poses_is_found_without_a_start(cropped):
    spec = SyntheticSpec.parse("synthetic://room-orbit?noise=1.0&seed=2")
    images, truth, _ = render_sequence(spec, frames=24, width=320, height=180, fps=8.0)
    if cropped:
        images = images[:, 30:150, 53:267]  # as a longer lens sees it
    focal, sampson = focal_for_poses(ArrayFrames(np.ascontiguousarray(images)), truth.c2w)
    assert focal == pytest.approx(truth.intrinsics[0, 0], rel=0.02) and sampson < 0.5


def test_images_that_show_nothing_give_no_focal_length():
    blank = ArrayFrames(np.full((9, 90, 160), 100, np.uint8))
    focal, sampson = focal_for_poses(blank, np.tile(np.eye(4), (9, 1, 1)))
    assert np.isnan(focal) and np.isnan(sampson)


def test_central_intrinsics_have_square_pixels_about_the_middle():
    assert central_intrinsics(50.0, 2, (90, 160)).tolist() == [[50.0, 50.0, 80.0, 45.0]] * 2
