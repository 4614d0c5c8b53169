"""The aesthetic stage on the real CLIP class with tiny random weights."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from videos import clip, noise

from annotate.learned import LearnedConfig
from annotate.scores.aesthetic import AestheticStage, decode, encode, read_layers
from annotate.scores.config import ScoresConfig
from annotate.weights import EngineMissing, prepare


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A CLIP of 2 layers, and layers 12 -> 5 -> 1 on its embedding, as .safetensors."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28,
        patch_size=14, projection_dim=12)).save_pretrained(folder / "clip")
    head = {"layers.0.weight": torch.randn(5, 12), "layers.0.bias": torch.randn(5),
            "layers.2.weight": torch.randn(1, 5), "layers.2.bias": torch.randn(1),
            "vision_model.other": torch.zeros(2)}
    save_file(head, folder / "model.safetensors")
    torch.save(head, folder / "head.pth")
    return folder, head


def stage_of(folder, **learned) -> AestheticStage:
    config = ScoresConfig(aesthetic=True, clip_weights=str(folder / "clip"), aesthetic_weights=str(folder))
    stage = AestheticStage(config, LearnedConfig(device="cpu", **learned))
    prepare([stage])
    stage.setup()
    return stage


def test_the_score_is_that_of_the_layers_on_the_embedding(weights):
    import torch

    folder, head = weights
    frames = noise(33, (40, 60))
    fields = stage_of(folder).process(clip(frames[:1])).fields
    embedding = torch.from_numpy(decode(fields["embedding"]))
    hidden = embedding @ head["layers.0.weight"].T + head["layers.0.bias"]
    expected = hidden @ head["layers.2.weight"].T + head["layers.2.bias"]
    assert fields["aesthetic"] == pytest.approx(float(expected), abs=0.01)  # the embedding is kept as float16
    assert "MIT" in fields["engine_licences"] and "Apache-2.0" in fields["engine_licences"]


def test_frames_a_second_apart_are_averaged_whatever_the_batch(weights):
    folder, _ = weights
    frames = noise(33, (40, 60))
    whole = stage_of(folder).process(clip(frames)).fields
    single = [stage_of(folder).process(clip(frames[k:k + 1])).fields for k in (0, 16, 32)]
    assert whole["aesthetic"] == pytest.approx(np.mean([one["aesthetic"] for one in single]), abs=1e-5)
    mean = np.mean([decode(one["embedding"]) for one in single], axis=0)
    assert np.allclose(decode(whole["embedding"]), mean / np.linalg.norm(mean), atol=2e-3)
    assert stage_of(folder, batch_size=1).process(clip(frames)).fields["aesthetic"] == pytest.approx(
        whole["aesthetic"], abs=1e-5)


def test_an_embedding_survives_as_text():
    vector = np.random.default_rng(0).normal(size=768)
    vector /= np.linalg.norm(vector)
    assert np.abs(decode(encode(vector)) - vector).max() < 1e-3


def test_a_predictor_of_another_clip_is_refused(weights):
    folder, _ = weights
    assert len(read_layers(folder / "head.pth", 12)) == 2
    with pytest.raises(EngineMissing, match=r"\(5, 12\), \(1, 5\), expected some that lead from 13"):
        read_layers(folder / "head.pth", 13)


def test_missing_weights_are_said_before_the_run(tmp_path):
    config = ScoresConfig(aesthetic=True, clip_weights=str(tmp_path / "none"))
    with pytest.raises(EngineMissing, match="no weights at"):
        prepare([AestheticStage(config, LearnedConfig(device="cpu"))])
