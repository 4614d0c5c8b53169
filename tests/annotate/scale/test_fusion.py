import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.scale.fusion import (
    FrameScale,
    Smoothing,
    clip_scale,
    frame_scale,
    fusion_mask,
    path_scale,
    scale_cov,
    scale_drift,
    scale_mad_log,
    smooth_scales,
)
from annotate.synthetic.paths import make_path
from annotate.synthetic.spec import Motion, Place

SIZE = (90, 160)


def depth_map(rng, size=SIZE):
    """A smooth scene from 1.5 to 12 m, without edges."""
    y, x = np.mgrid[: size[0], : size[1]] / size[1]
    return 1.5 + 8 * y**1.5 + 3 * np.sin(2 * x + rng.uniform(0, 3)) ** 2


def noisy(rng, depth, sigma):
    """Multiplicative noise without mean shift, blotchy so that it makes no depth edges everywhere."""
    return depth * (1 + sigma * rng.standard_normal(depth.shape))


def test_the_ratio_of_sums_is_the_unbiased_weight_and_the_others_lean_as_they_must():
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 10, 400_000)
    p, m = noisy(rng, truth, 0.2), noisy(rng, 2 * truth, 0.2)
    p, m = p[(p > 0.2) & (m > 0.2)], m[(p > 0.2) & (m > 0.2)]
    bias = {
        "1": (p * m).sum() / (p**2).sum() / 2 - 1,
        "1/m": p.sum() / (p**2 / m).sum() / 2 - 1,
        "1/p2": (m / p).mean() / 2 - 1,
    }
    assert bias["1"] == pytest.approx(-0.039, abs=0.004)
    assert bias["1/m"] == pytest.approx(-0.081, abs=0.01)
    assert bias["1/p2"] == pytest.approx(0.045, abs=0.01)
    side = int(np.sqrt(len(p)))
    p, m = p[: side * side].reshape(side, side), m[: side * side].reshape(side, side)
    assert frame_scale(p, m, np.ones_like(p, bool)).scale == pytest.approx(2.0, rel=0.004)


def test_a_known_scale_is_recovered_to_one_percent_through_noise_sky_and_holes():
    rng = np.random.default_rng(1)
    p = depth_map(rng)
    m = 0.37 * p * (1 + 0.003 * rng.standard_normal(p.shape))
    m[:30] = np.inf  # sky, marked
    m[40:50, :60] = np.nan
    p[60:, 100:120] = 0
    m[70:85, 20:50] *= 3.0  # a surface the metric model got wrong
    found = frame_scale(p, m, fusion_mask(p, m))
    assert found.refusal is None
    assert found.scale == pytest.approx(0.37, rel=0.01)
    assert 0 < found.sigma_log < 0.01
    assert found.kept_share < 1


def test_trimming_saves_the_sum_from_unmarked_sky():
    rng = np.random.default_rng(2)
    p = depth_map(rng)
    m = 2 * p * np.exp(0.05 * rng.standard_normal(p.shape))
    sky = rng.random(p.shape) < 0.05
    m[sky] = 75 * p[sky]
    everywhere = np.ones_like(sky)
    assert m.sum() / p.sum() > 4
    assert frame_scale(p, m, everywhere).scale == pytest.approx(2.0, rel=0.01)


def test_the_mask_leaves_out_what_must_not_be_compared():
    p, m = np.full(SIZE, 4.0), np.full(SIZE, 8.0)
    m[0:10] = 81.0
    p[:, 100:] = 5.0  # a step of 25 %
    dynamic = np.zeros(SIZE, bool)
    dynamic[30:40, 30:40] = True
    logits = np.linspace(-4, 4, p.size).reshape(SIZE)
    mask = fusion_mask(p, m, dynamic=dynamic)
    assert not mask[:11].any()  # too far, and the edge beside it
    assert not mask[:, 99:101].any()
    assert mask[20:, :98].sum() == 70 * 98 - 100
    confident = fusion_mask(p, m, logits, dynamic)
    assert not confident[1 / (1 + np.exp(-logits)) < 0.1].any()
    assert not (confident & ~mask).any()
    assert confident.sum() < 0.8 * mask.sum()
    with pytest.raises(ValueError, match=r"\(90, 160\).*\(90, 80\)"):
        fusion_mask(p, m[:, :80])


def test_a_frame_that_cannot_be_judged_is_nan_and_says_why():
    p = np.full(SIZE, 2.0)
    few = np.zeros(SIZE, bool)
    few[:10, :99] = True
    refused = frame_scale(p, p, few)
    assert np.isnan(refused.scale) and np.isnan(refused.sigma_log)
    assert "990 valid pixels" in refused.refusal
    large = np.ones((400, 400), bool)
    large[:, 4:] = False
    assert "1600 are needed" in frame_scale(np.ones((400, 400)), np.ones((400, 400)), large & (
        np.arange(400)[:, None] < 399)).refusal
    assert np.isnan(frame_scale(p, p, np.zeros(SIZE, bool)).scale)


def test_the_average_starts_from_the_median_of_sixteen_and_holds_through_gaps():
    raw = np.full(40, 2.0)
    raw[0] = 50.0
    smoothed = smooth_scales(raw)
    assert smoothed[0] == 2.0  # a raw start would still weigh 0.2 at the end of a clip of ten seconds
    raw = np.full(200, 1.0)
    raw[50:150] = np.nan
    raw[150:] = 2.0
    smoothed = smooth_scales(raw)
    assert (smoothed[50:150] == 1.0).all()
    assert smoothed[199] == pytest.approx(2 - 0.99**50)
    leading = smooth_scales(np.array([np.nan, np.nan, 3.0, 3.0]))
    assert (leading == 3.0).all()
    for method in Smoothing:
        assert np.isnan(smooth_scales(np.full(5, np.nan), method)).all()
        assert len(smooth_scales(np.zeros(0), method)) == 0


def test_the_robust_average_does_not_lag_and_passes_outliers_over():
    t = np.arange(961)
    truth = np.exp(0.05 * (t / 960 - 0.5))
    raw = truth.copy()
    raw[100::97] = 9.0
    causal, both = smooth_scales(raw, Smoothing.ema), smooth_scales(raw, Smoothing.robust)
    middle = slice(300, 660)
    assert np.abs(np.log(both / truth))[middle].max() < 0.002
    assert np.abs(np.log(causal / truth))[middle].max() > 0.02
    assert smooth_scales(np.exp(-np.log(raw)), Smoothing.robust) == pytest.approx(1 / both)


@given(st.floats(1e-3, 1e3), st.integers(1, 60), st.sampled_from(list(Smoothing)))
def test_smoothing_keeps_a_constant_and_scales_with_the_unit(scale, count, method):
    assert smooth_scales(np.full(count, scale), method) == pytest.approx(np.full(count, scale))


def test_spread_is_of_raw_values_and_absent_when_there_are_none():
    raw = np.array([1.0, np.nan, 2.0, 3.0])
    assert scale_cov(raw) == pytest.approx(np.sqrt(2 / 3) / 2)
    assert scale_mad_log(np.array([1.0, np.e, np.e**2])) == pytest.approx(1.4826)
    for too_few in (np.full(4, np.nan), np.array([1.0, np.nan]), np.zeros(0)):
        assert scale_cov(too_few) is None
        assert scale_mad_log(too_few) is None
        assert scale_drift(too_few, np.arange(len(too_few))) is None


def frames_of(scales):
    return [FrameScale(s, np.nan if np.isnan(s) else 0.01, 5000, 0.9) for s in scales]


def test_a_clip_has_one_scale_and_a_drift_is_refused():
    rng = np.random.default_rng(3)
    times = np.arange(161) / 16
    steady = 1.7 * np.exp(0.05 * rng.standard_normal(161))
    steady[::9] = np.nan
    clip = clip_scale(frames_of(steady), times, model_sigma_log=0.08)
    assert clip.scale == pytest.approx(1.7, rel=0.01)
    assert clip.sigma_log == pytest.approx(0.08, rel=0.1)
    assert np.isnan(clip.raw[::9]).all() and np.isfinite(clip.smoothed).all()
    assert 0.03 < clip.cov < 0.07 and abs(clip.drift) < 0.05
    drifting = clip_scale(frames_of(steady * np.exp(0.15 * times / 10)), times, 0.08)
    assert drifting.scale is None and "drifts by +1" in drifting.refusal
    nothing = clip_scale(frames_of(np.full(161, np.nan)), times, 0.08)
    assert nothing.scale is None and nothing.cov is None and "none of 161" in nothing.refusal


def walk(frames=161):
    path = make_path(Place.room, Motion.walk, 10.1, np.random.default_rng(5))
    times = np.arange(frames) / 16
    return path.c2w(times), times


def in_other_world(c2w, scale, rng):
    from scipy.spatial.transform import Rotation

    world = np.eye(4)
    world[:3, :3] = Rotation.random(random_state=1).as_matrix()
    world[:3, 3] = rng.uniform(-5, 5, 3)
    moved = c2w.copy()
    moved[:, :3, 3] *= scale
    return world @ moved


def test_a_path_finds_its_metres_through_noise_outliers_and_gaps():
    rng = np.random.default_rng(4)
    c2w, times = walk()
    metric = in_other_world(c2w, 1.0, rng)
    metric[:, :3, 3] += 0.03 * rng.standard_normal((161, 3))
    metric[rng.choice(161, 16, replace=False), :3, 3] += rng.uniform(1, 3, (16, 3))
    metric[40:44] = np.nan
    unitless = c2w.copy()
    unitless[:, :3, 3] /= 3.2
    found = path_scale(unitless, metric, times)
    assert found.refusal is None
    assert found.scale == pytest.approx(3.2, rel=0.01)
    assert abs(np.log(found.scale / 3.2)) < 3 * found.sigma_log < 0.05


def test_noise_belongs_to_the_target():
    """With noise in the source least squares shrinks; `path_scale` must not, on a path of half a metre."""
    rng = np.random.default_rng(6)
    c2w, times = walk()
    c2w[:, :3, 3] *= 0.3
    scales = []
    for _ in range(20):
        metric = c2w.copy()
        metric[:, :3, 3] += 0.05 * rng.standard_normal((161, 3))
        scales.append(path_scale(c2w, metric, times).scale)
    assert np.mean(scales) == pytest.approx(1.0, abs=0.03)


def test_paths_that_do_not_determine_a_scale_are_refused():
    rng = np.random.default_rng(7)
    c2w, times = walk()
    still = np.tile(c2w[:1], (161, 1, 1))
    assert "stationary" in path_scale(still, c2w, times).refusal
    lost = c2w.copy()
    lost[:, :3, 3] += 2.0 * rng.standard_normal((161, 3))
    assert "noise" in path_scale(c2w, lost, times).refusal
    assert "10 are needed" in path_scale(c2w[:8], c2w[:8], times[:8]).refusal
    for refused in (path_scale(still, c2w, times), path_scale(c2w, lost, times)):
        assert refused.scale is None and refused.sigma_log is None
