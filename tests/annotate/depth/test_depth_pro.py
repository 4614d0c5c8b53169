"""The adapter on the real class of transformers, with a small network of random weights."""

import numpy as np
import pytest
import torch

from annotate.depth.depth_pro import DepthProEngine, depth_of
from annotate.frames import ArrayFrames
from annotate.learned import EngineConfig, LearnedConfig
from dataset.camera import fov_deg


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A DepthPro of 64-pixel patches, so of 256-pixel pictures, saved as released ones are."""
    from transformers import DepthProConfig, DepthProForDepthEstimation

    torch.manual_seed(0)
    small = {"model_type": "dinov2", "image_size": 64, "patch_size": 16, "hidden_size": 32,
             "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    config = DepthProConfig(
        image_model_config=small, patch_model_config=dict(small), fov_model_config=dict(small), patch_size=64,
        fusion_hidden_size=16, intermediate_hook_ids=[1, 0], intermediate_feature_dims=[16, 16],
        scaled_images_feature_dims=[16, 16, 16], use_fov_model=True)
    folder = tmp_path_factory.mktemp("depth_pro")
    model = DepthProForDepthEstimation(config)
    last = [layer for layer in model.fov_model.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    with torch.no_grad():  # a field of view near 60 degrees, as pictures have it
        last.weight.mul_(0.01)
        last.bias.fill_(60.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(weights):
    where = EngineConfig(None, str(weights))
    return DepthProEngine(LearnedConfig(device="cpu", batch_size=4, depth_pro=where), 96)


@pytest.fixture(scope="module")
def frames():
    return ArrayFrames(np.random.default_rng(0).integers(0, 256, (5, 54, 96, 3), np.uint8))


def test_known_focal_lengths_enter_the_depth_in_proportion(engine, frames):
    known = np.tile([80.0, 80.0, 48.0, 27.0], (5, 1))
    maps = engine.estimate(frames, [0, 2, 4], known)
    assert maps.depth.shape == (3, 54, 96) and maps.frames.tolist() == [0, 2, 4]
    assert maps.engine == "depth_pro" and (maps.intrinsics == known[:3]).all() and maps.valid.any()
    longer = engine.estimate(frames, [0, 2, 4], known * [1.5, 1.5, 1, 1])
    both = maps.valid & longer.valid
    assert np.median(longer.depth[both].astype(float) / maps.depth[both]) == pytest.approx(1.5, rel=2e-3)


def test_without_them_it_guesses_a_field_of_view(engine, frames):
    maps = engine.estimate(frames, [1], None)
    fov_x, _ = fov_deg(maps.intrinsics, (54, 96))
    assert 50 < fov_x[0] < 70 and (maps.intrinsics[0, 2:] == (48, 27)).all()


def test_depth_is_focal_length_over_width_and_canonical_inverse_depth(engine, frames, monkeypatch):
    if engine._model is None:
        engine.estimate(frames, [0], None)
    forward = engine._model.forward

    def known(pixel_values):
        found = forward(pixel_values=pixel_values)
        assert pixel_values.shape == (1, 3, 256, 256) and pixel_values.abs().max() <= 1
        assert found.predicted_depth.shape == (1, 256, 256) and found.field_of_view.shape == (1,)
        found.predicted_depth, found.field_of_view = torch.full((1, 256, 256), 2.0), torch.tensor([90.0])
        return found

    monkeypatch.setattr(engine._model, "forward", known)
    depth, focal = depth_of(engine._model, frames.rgb(3)[None], None, "cpu")
    assert focal[0] == pytest.approx(48.0)  # half the width over tan 45 degrees
    assert depth == pytest.approx(48.0 / (96 * 2.0))
    depth, focal = depth_of(engine._model, frames.rgb(3)[None], torch.tensor([96.0]), "cpu")
    assert focal[0] == 96.0 and depth == pytest.approx(0.5)


def test_memory_that_runs_out_halves_the_batch(engine, frames, monkeypatch):
    alone = engine.estimate(frames, range(3), None)
    forward, sizes = engine._model.forward, []

    def short(pixel_values):
        sizes.append(len(pixel_values))
        if len(pixel_values) > 1:
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")
        return forward(pixel_values=pixel_values)

    monkeypatch.setattr(engine._model, "forward", short)
    again = engine.estimate(frames, range(3), None)
    assert sizes == [3, 1, 1, 1] and np.allclose(again.depth, alone.depth, rtol=2e-3)
