"""One rule for pixels and intrinsics: what a camera sees stays where the fitted intrinsics say."""

from __future__ import annotations

import numpy as np
import pytest

from dataset.camera import project
from dataset.fit import fit_clip, fit_frame, largest_size


@pytest.mark.parametrize(("size", "target", "stride", "resized"), [
    ((720, 1280), (704, 1280), 32, (720, 1280)),  # cut, nothing resampled
    ((70, 100), (64, 96), 32, (70, 100)),
    ((70, 100), (48, 96), 16, (67, 96)),          # 22 rows are more than a cell
    ((128, 192), (64, 96), 32, (64, 96)),
    ((64, 96), (96, 96), 32, (96, 144)),
])
def test_the_largest_size_is_cut_and_any_other_is_resized_to_cover(size, target, stride, resized):
    fit = fit_clip(size, target, stride)
    assert fit.resized == resized
    assert (fit.top, fit.left) == ((resized[0] - target[0]) // 2, (resized[1] - target[1]) // 2)
    frame = fit_frame(np.zeros((*size, 3), np.uint8), fit)
    assert frame.shape == (*target, 3) and frame.flags.c_contiguous


@pytest.mark.parametrize("framing", ["cover", "stretch"])
@pytest.mark.parametrize("target", [(64, 96), (64, 128), (96, 160), (128, 192)])
def test_a_point_is_seen_where_the_fitted_intrinsics_project_it(target, framing):
    size, k = (140, 200), np.array([150.0, 140.0, 96.0, 73.0])
    points = np.array([[0.1, -0.05, 2.0], [-0.2, 0.1, 2.0]])
    fit = fit_clip(size, target, 32, framing)
    y, x = np.mgrid[:size[0], :size[1]] + 0.5
    for point in points:
        at = project(point, k)
        spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 18) * 255
        frame = np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, 2)
        seen = fit_frame(frame, fit)[..., 0].astype(float)
        rows, columns = np.mgrid[:target[0], :target[1]] + 0.5
        centre = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
        assert np.abs(centre - project(point, fit.intrinsics(k))).max() < 0.03


def test_sizes_that_no_codec_takes_are_refused():
    assert largest_size((719, 1290), 32) == (704, 1280)
    with pytest.raises(ValueError, match="40x20: smaller than a latent cell of 32"):
        largest_size((20, 40), 32)
    with pytest.raises(ValueError, match="size 100x64: both sides must be multiples of 32"):
        fit_clip((64, 100), (64, 100), 32)
