"""The samplers: exact on fields known in closed form, equal to one another where they must be."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model.config import DiTConfig
from model.dit import SanaWM
from model.flow import DISTILLED_TIMESTEPS, LEVELS, inference_sigmas, timestep_sigmas
from model.mask import Mask, streaming_bounds
from model.rollout import (
    Chunk,
    Conditioning,
    Guidance,
    cut_chunks,
    denoise_chunk,
    denoise_chunks,
    denoise_clip,
    stream,
    write_chunk,
)

B, C, T, H, W = 2, 8, 7, 2, 3


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def towards(clean: Tensor, told: list[tuple[Tensor, Mask]] | None = None) -> Callable[..., Tensor]:
    """The exact velocity field of one clip: caption 1 points to `clean`, caption 0 to its negative."""
    def network(latents: Tensor, timesteps: Tensor, caption: Tensor, *others: Tensor | None,
                mask: Mask) -> Tensor:
        if told is not None:
            told.append((timesteps[0], mask))
        sigma = (timesteps.double() / LEVELS).clamp(min=1e-9)[:, None, :, None, None]
        sign = 2 * caption.reshape(-1, 1, 1, 1, 1) - 1
        return (latents - sign * clean[:, :, : latents.shape[2]]) / sigma
    return network


def caption(value: float) -> Tensor:
    return torch.full((B, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize("second_order", [False, True])
def test_the_exact_field_leads_to_its_clip_and_a_given_frame_is_kept(second_order: bool):
    clean, noise, first = draw(1, B, C, T, H, W), draw(2, B, C, T, H, W), draw(3, B, C, 1, H, W)
    steps: list[tuple[int, int]] = []
    made = denoise_clip(towards(clean), noise, Conditioning(caption(1)), inference_sigmas(6),
                        first_frame=first, second_order=second_order,
                        progress=lambda *done: steps.append(done))
    assert torch.equal(made[:, :, :1], first)
    assert torch.allclose(made[:, :, 1:], clean[:, :, 1:], atol=1e-5)
    assert steps == [(n, 6) for n in range(1, 7)]


def test_guidance_moves_away_from_its_caption_and_only_within_its_levels():
    clean, noise = draw(1, B, C, T, H, W), draw(2, B, C, T, H, W)

    def made(**settings: object) -> Tensor:
        return denoise_clip(towards(clean), noise, Conditioning(caption(1)), torch.tensor([1.0, 0.5, 0.0]),
                            guidance=Guidance(caption(0), **settings))  # type: ignore[arg-type]

    assert torch.allclose(made(scale=1.0), clean, atol=1e-5)
    # x₀ = -clean + 3 · 2 clean at the last step, whatever came before
    assert torch.allclose(made(scale=3.0), 5 * clean, atol=1e-4)
    assert torch.allclose(made(scale=3.0, sigmas=(0.6, 1.0)), clean, atol=1e-4)


def test_frames_are_told_their_own_level_in_every_step():
    told: list[tuple[Tensor, Mask]] = []
    clean = draw(1, B, C, T, H, W)
    sigmas = torch.tensor([1.0, 0.6, 0.3, 0.0], dtype=torch.float64)
    made = torch.cat([*denoise_chunks(towards(clean, told), draw(2, B, C, T, H, W), Conditioning(caption(1)),
                                      sigmas, (0, 3, 5), interval=0.34, first_frame=clean[:, :, :1])], 2)
    assert torch.allclose(made, clean, atol=1e-5)
    assert [t.tolist() for t, _ in told] == [
        pytest.approx(levels) for levels in (
            [0, 1000, 1000],
            [0, 600, 600, 1000, 1000],
            [0, 300, 300, 600, 600, 1000, 1000],
            [0, 0, 0, 300, 300, 600, 600],
            [0, 0, 0, 0, 0, 300, 300])]
    assert [mask.chunk_starts for _, mask in told] == [(0,), (0, 3), (0, 3, 5), (0, 3, 5), (0, 3, 5)]


def test_one_chunk_after_another_is_yielded_as_soon_as_it_is_finished():
    clean, steps = draw(1, B, C, T, H, W), []
    made = denoise_chunks(towards(clean), draw(2, B, C, T, H, W), Conditioning(caption(1)),
                          inference_sigmas(3), (0, 4), interval=1.0,
                          progress=lambda done, _: steps.append(done))
    assert next(made).shape[2] == 4 and steps == [1, 2, 3]
    assert next(made).shape[2] == 3 and steps == [1, 2, 3, 4, 5, 6]


@pytest.fixture(scope="module")
def network() -> SanaWM:
    """Tiny, random, in float64, with nothing silent."""
    torch.manual_seed(0)
    network = SanaWM(DiTConfig.tiny()).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return network


def told_of(network: SanaWM, frames: int) -> Conditioning:
    config = network.config
    camera = torch.eye(4, dtype=torch.float64).reshape(16).repeat(1, frames, 1)
    camera[..., 11] = torch.arange(frames) * 0.05
    camera = torch.cat([camera, torch.tensor([3.0, 3.0, 1.5, 1.0]).double().expand(1, frames, 4)], 2)
    return Conditioning(draw(5, 1, 6, config.caption_channels), torch.tensor([[1, 1, 1, 1, 0, 0]]), camera,
                        draw(6, 1, 48, frames, H, W))


def noise_of(network: SanaWM, frames: int) -> Tensor:
    return draw(7, 1, network.config.latent_channels, frames, H, W)


@torch.no_grad()
def test_one_chunk_as_long_as_the_clip_is_the_whole_clip(network: SanaWM):
    noise, told, sigmas = noise_of(network, 4), told_of(network, 4), inference_sigmas(2)
    whole = denoise_clip(network, noise, told, sigmas)
    assert torch.allclose(next(denoise_chunks(network, noise, told, sigmas, (0,))), whole, atol=1e-10)


@torch.no_grad()
def test_streaming_with_all_history_is_the_chunk_causal_sampler_chunk_after_chunk(network: SanaWM):
    noise, told, sigmas = noise_of(network, 10), told_of(network, 10), timestep_sigmas((1000, 700, 300, 0))
    first, bounds = draw(8, *noise.shape[:2], 1, H, W), streaming_bounds(10)
    dense = [*denoise_chunks(network, noise, told, sigmas, bounds[:-1], interval=1.0, first_frame=first)]
    cache = network.new_cache(1)
    streamed = [*stream(network, cache, cut_chunks(noise, told, bounds), sigmas, Mask(), first_frame=first)]
    assert cache.frame == 10 and len(streamed) == 3
    for chunk, expected in zip(streamed, dense, strict=True):
        assert torch.allclose(chunk, expected, atol=1e-8)


@torch.no_grad()
def test_a_stream_asks_for_a_chunk_only_when_it_is_due(network: SanaWM):
    noise, told, asked = noise_of(network, 7), told_of(network, 7), []

    def chunks() -> Iterator[Chunk]:
        for number, chunk in enumerate(cut_chunks(noise, told, (0, 4, 7))):
            asked.append(number)
            yield chunk

    made = stream(network, network.new_cache(1), chunks(), timestep_sigmas(DISTILLED_TIMESTEPS), Mask())
    next(made)
    assert asked == [0]
    next(made)
    assert asked == [0, 1]


def test_a_self_forcing_chunk_has_a_gradient_through_its_exit_alone(network: SanaWM):
    noise, told, sigmas = noise_of(network, 4), told_of(network, 4), timestep_sigmas((1000, 700, 300, 0))
    first, graphs = draw(8, *noise.shape[:2], 1, H, W), []

    def watched(*inputs: Tensor, **settings: object) -> Tensor:
        velocity = network(*inputs, **settings)
        graphs.append((velocity.requires_grad, inputs[0].requires_grad))
        return velocity

    cache = network.new_cache(1)
    clean = denoise_chunk(watched, cache, Chunk(noise, told), sigmas, Mask(), first_frame=first, exit_step=1,
                          renoise=torch.Generator().manual_seed(1))
    assert graphs == [(False, False), (True, False)] and clean.requires_grad
    assert torch.equal(clean[:, :, :1], first) and cache.frame == 0
    write_chunk(watched, cache, told, clean, Mask())
    assert graphs[2] == (False, True) and cache.frame == 4


@torch.no_grad()
def test_fresh_noise_between_steps_comes_from_its_generator(network: SanaWM):
    chunk, sigmas = Chunk(noise_of(network, 4), told_of(network, 4)), timestep_sigmas((1000, 700, 0))

    def made(seed: int | None) -> Tensor:
        renoise = None if seed is None else torch.Generator().manual_seed(seed)
        return denoise_chunk(network, network.new_cache(1), chunk, sigmas, Mask(), renoise=renoise)

    assert torch.equal(made(1), made(1)) and not torch.equal(made(1), made(2))
    assert torch.equal(made(None), made(None)) and not torch.equal(made(None), made(1))


def test_what_does_not_fit_is_refused_by_name(network: SanaWM):
    noise, told = noise_of(network, 4), told_of(network, 4)
    with pytest.raises(ValueError, match=r"first_frame: shape \(1, 8, 2, 2, 3\), expected \(1, 8, 1, 2, 3\)"):
        denoise_clip(towards(noise), noise, told, inference_sigmas(2), first_frame=noise[:, :, :2])
    for sigmas in (torch.tensor([1.0]), torch.tensor([1.0, 0.5]), torch.tensor([0.5, 1.0, 0.0])):
        with pytest.raises(ValueError, match=r"sigmas: .*fall strictly and end at 0"):
            denoise_clip(towards(noise), noise, told, sigmas)
    with pytest.raises(ValueError, match="exit_step: 2, expected 0 to 1"):
        denoise_chunk(network, network.new_cache(1), Chunk(noise, told), inference_sigmas(2), Mask(),
                      exit_step=2)
    with pytest.raises(ValueError, match="bounds: from 0 to 5, expected 0 to 4"):
        next(cut_chunks(noise, told, (0, 5)))
