"""Weights both ways between our network and diffusers' `SanaWMTransformer3DModel`, and the same numbers.

Their model casts q, k and v of softmax blocks to bfloat16 whatever its type, hence the wider tolerance where
there are some. It scales the camera branch of softmax blocks by the width a head is padded to, hence heads of
32 there, which are not padded.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config import DiTConfig
from model.diffusers import (
    from_diffusers,
    load_diffusers,
    our_config,
    save_diffusers,
    their_config,
    to_diffusers,
)
from model.dit import SanaWM
from tests.golden.dit_tiny_weights import load_network
from tests.golden.fixture import Fixture, read_fixture

SCAN = DiTConfig(depth=2, width=48, heads=3, latent_channels=6, caption_channels=10, caption_length=5,
                 mlp_ratio=2.0, softmax_blocks=(), plucker_channels=48, camera_clamp="all")
HYBRID = DiTConfig(depth=4, width=64, heads=2, latent_channels=8, caption_channels=12, caption_length=7,
                   softmax_blocks=(1, 3), camera_clamp="all")
SOFTMAX = DiTConfig(depth=1, width=96, heads=3, latent_channels=4, caption_channels=8, caption_length=6,
                    softmax_blocks=(0,), camera_clamp="all")
EXACT, ROUNDED = 2e-5, 2e-2


def random_network(config: DiTConfig, seed: int = 0) -> SanaWM:
    """Nothing silent: gates, convolutions and the camera branch all count."""
    generator, network = torch.Generator().manual_seed(seed), SanaWM(config)
    for name, tensor in network.state_dict().items():
        spread = 1 / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 0.3
        mean = 1.0 if name.endswith("norm.weight") or name.endswith("norm_cam.weight") else 0.0
        tensor.copy_(mean + spread * torch.randn(tensor.shape, generator=generator))
    return network.requires_grad_(False)


def inputs_for(config: DiTConfig, frames: int = 5, size: tuple[int, int] = (3, 4)) -> list[Tensor]:
    """In the order of `SanaWM.forward`; the camera walks and turns, one caption is shorter than the other."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    generator = torch.Generator().manual_seed(7)
    c2w = torch.eye(4).repeat(2, frames, 1, 1)
    c2w[..., :3, :3] = torch.matrix_exp(torch.cumsum(_skew(0.2 * draw(2, frames, 3)), 1))
    c2w[..., :3, 3] = torch.cumsum(0.5 * draw(2, frames, 3), 1)
    intrinsics = torch.tensor([3.0, 3.2, 1.8, 1.4]).expand(2, frames, 4)
    mask = torch.ones(2, config.caption_length, dtype=torch.int32)
    mask[1, 3:] = 0
    return [draw(2, config.latent_channels, frames, *size), 1000 * torch.rand(2, frames, generator=generator),
            draw(2, config.caption_length, config.caption_channels), mask,
            torch.cat([c2w.flatten(2), intrinsics], 2), draw(2, config.plucker_channels, frames, *size)]


def _skew(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


@torch.no_grad()
def through(theirs: torch.nn.Module, inputs: list[Tensor]) -> Tensor:
    latents, timesteps, caption, caption_mask, *camera = inputs
    conditions, plucker = camera or (None, None)
    return theirs(latents, timesteps[:, None], caption[:, None], caption_mask, camera_conditions=conditions,
                  chunk_plucker=plucker, return_dict=False)[0]


@pytest.mark.parametrize("config, tolerance", [(SCAN, EXACT), (HYBRID, ROUNDED), (SOFTMAX, ROUNDED)])
@pytest.mark.parametrize("camera", [True, False])
def test_their_model_gives_our_numbers_and_ours_theirs(config: DiTConfig, tolerance: float, camera: bool):
    network, inputs = random_network(config), inputs_for(config)[: None if camera else 4]
    theirs = to_diffusers(network)
    ours, found = network(*inputs), through(theirs, inputs)
    assert ours.std() > 0.3
    assert (found - ours).abs().max() < tolerance
    back = from_diffusers(theirs, network.y_embedder.y_embedding)
    assert back.config == network.config
    assert torch.equal(back(*inputs), ours)


def test_without_the_clamp_a_moving_camera_tells_the_two_apart():
    inputs = inputs_for(SCAN)
    network = random_network(SCAN)
    released = from_diffusers(to_diffusers(network), network.y_embedder.y_embedding, camera_clamp="none")
    assert released.config.camera_clamp == "none"
    assert (released(*inputs) - network(*inputs)).abs().max() > 100 * EXACT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_go_there_and_back_without_loss(dtype: torch.dtype, tmp_path: Path):
    network = random_network(HYBRID).to(dtype)
    save_diffusers(network, tmp_path)
    back = load_diffusers(tmp_path).state_dict()
    assert back.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert back[name].dtype == dtype and torch.equal(back[name], tensor), name


def test_a_folder_of_theirs_alone_is_read_with_a_null_caption_of_zeros(tmp_path: Path):
    to_diffusers(random_network(SCAN)).save_pretrained(tmp_path)
    null_caption = load_diffusers(tmp_path).y_embedder.y_embedding
    assert null_caption.shape == (300, SCAN.caption_channels) and not null_caption.any()


@pytest.mark.parametrize("softmax_blocks", [(), (3,), (1, 3), (0, 1, 2, 3), (2,)])
def test_configurations_go_there_and_back(softmax_blocks: tuple[int, ...]):
    config = DiTConfig(depth=4, width=32, heads=2, softmax_blocks=softmax_blocks, camera_clamp="all")
    with torch.device("meta"):
        from diffusers import SanaWMTransformer3DModel

        theirs = SanaWMTransformer3DModel(**their_config(config))
    assert our_config(theirs.config, config.caption_length) == config


def test_what_the_other_does_not_have_is_refused_by_name():
    with pytest.raises(ValueError, match=r"softmax_blocks: \(0, 2\)"):
        their_config(DiTConfig(depth=3, width=32, heads=2, softmax_blocks=(0, 2)))
    with pytest.raises(ValueError, match="key_scale: 'dim'"):
        their_config(DiTConfig(key_scale="dim"))
    from diffusers import SanaWMTransformer3DModel

    with torch.device("meta"):
        theirs = SanaWMTransformer3DModel(num_layers=1, hidden_size=32, num_attention_heads=2,
                                          linear_head_dim=16, conv_kernel_size=3)
    with pytest.raises(ValueError, match="conv_kernel_size = 3 instead of 4"):
        our_config(theirs.config, 300)


@pytest.mark.shared
def test_golden_inputs_through_their_model():
    folder = Path(__file__).resolve().parents[3] / "shared" / "reference" / "golden"
    if not folder.is_dir():
        pytest.skip("the golden fixtures are not here")
    fixture: Fixture = read_fixture(folder / "dit_forward_tiny.safetensors", "dit_forward_tiny")
    theirs = to_diffusers(load_network(fixture.network_weights()))
    given = [fixture[f"in.{name}"] for name in ("latents", "timesteps", "caption", "caption_mask")]
    assert (through(theirs, given) - fixture["out.velocity_no_camera"]).abs().max() < ROUNDED
