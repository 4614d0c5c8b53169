"""Refining on a tiny random LTX-2: block by block against diffusers' own refiner, whole against its LTX-2."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.flow import REFINER_SIGMAS
from model.refiner import Refiner, RefinerConfig, draw_sigmas, pose_refining
from model.refiner_network import RefinerNetwork
from model.refiner_weights import drop_audio, is_audio

B, C, H, W, L = 2, 6, 2, 3, 10
CONFIG: dict[str, Any] = dict(
    in_channels=C, out_channels=C, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
    audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=6,
    audio_cross_attention_dim=12, num_layers=2, caption_channels=14)


def tiny_transformer(**changes: Any) -> Any:
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    torch.manual_seed(0)
    return SanaWMLTX2RefinerTransformer3DModel(**{**CONFIG, **changes}).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["interleaved", "split"])
def transformer(request: pytest.FixtureRequest) -> Any:
    return tiny_transformer(rope_type=request.param)


def make_refiner(transformer: Any, **config: Any) -> Refiner:
    return Refiner(RefinerNetwork(transformer), RefinerConfig(**config))


def clip(frames: int) -> Tensor:
    return torch.randn(B, C, frames, H, W, generator=torch.Generator().manual_seed(1))


def prompt(valid: int = 7) -> tuple[Tensor, Tensor]:
    states = torch.randn(B, L, 14, generator=torch.Generator().manual_seed(2))
    return states, (torch.arange(L) < valid).long().expand(B, L)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def refine_as_diffusers(transformer: Any, latents: Tensor, block: int, window: int) -> Tensor:
    """Their pipeline, from the prompt's states on."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaWMLTX2Refiner

    class FromStates(SanaWMLTX2Refiner):
        def _encode_prompt(self, prompt: str, **_: Any) -> tuple[Tensor, Tensor]:
            return STATES
    STATES = prompt()
    pipeline = FromStates(transformer, None, None, None, FlowMatchEulerDiscreteScheduler(shift=1.0))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(latents, "", fps=16.0, generator=seeded(), block_size=block, kv_max_frames=window,
                    output_type="latent")


@pytest.mark.parametrize(("frames", "block", "window"), [(11, 3, 5), (9, 2, 11), (5, 3, 11)])
def test_blocks_are_those_of_diffusers(transformer: Any, frames: int, block: int, window: int) -> None:
    """With a window that slides, one that never fills, and a last block that is short."""
    refiner = make_refiner(transformer, block_frames=block, window_frames=window)
    ours = refiner.refine(clip(frames), *prompt(), seeded())
    theirs = refine_as_diffusers(transformer, clip(frames), block, window)
    assert torch.allclose(ours, theirs, atol=2e-5)
    assert (ours - clip(frames)).abs().max() > 0.1


def test_a_whole_clip_is_that_of_ltx2_with_a_mask(transformer: Any) -> None:
    """diffusers' LTX-2 run on all tokens at every step: its mask lets the sink see itself only."""
    from diffusers import LTX2VideoTransformer3DModel
    frames, sink = 6, H * W
    whole = LTX2VideoTransformer3DModel(**{**CONFIG, "rope_type": transformer.config.rope_type}).eval()
    whole.load_state_dict(transformer.state_dict())
    states, mask, latents = *prompt(), clip(frames)
    noise = torch.randn(latents[:, :, 1:].shape, generator=seeded())
    x = latents.clone()
    x[:, :, 1:] = (1 - REFINER_SIGMAS[0]) * latents[:, :, 1:] + REFINER_SIGMAS[0] * noise
    seen = torch.ones(B, frames * sink, frames * sink)
    seen[:, :sink, sink:] = 0
    for sigma, target in pairwise(REFINER_SIGMAS):
        timestep = torch.full((B, frames * sink), 1000 * sigma)
        timestep[:, :sink] = 0
        with torch.no_grad():
            velocity = whole(
                hidden_states=x.flatten(2).transpose(1, 2), encoder_hidden_states=states, timestep=timestep,
                encoder_attention_mask=mask, num_frames=frames, height=H, width=W, fps=16.0,
                video_self_attention_mask=seen, isolate_modalities=True, audio_encoder_attention_mask=mask,
                audio_hidden_states=torch.zeros(B, 1, 4), audio_encoder_hidden_states=states,
                audio_timestep=timestep[:, :1], audio_num_frames=1, return_dict=False)[0]
        velocity = velocity.transpose(1, 2).unflatten(2, (frames, H, W))
        x[:, :, 1:] -= (sigma - target) * velocity[:, :, 1:]
    ours = make_refiner(transformer, block_frames=None).refine(latents, *prompt(), seeded())
    assert torch.allclose(ours, x, atol=2e-5)


def test_one_block_under_a_wide_window_is_the_whole_clip(transformer: Any) -> None:
    whole = make_refiner(transformer, block_frames=None).refine(clip(6), *prompt(), seeded())
    block = make_refiner(transformer, block_frames=5).refine(clip(6), *prompt(), seeded())
    assert torch.equal(whole, block)


def test_the_sink_is_unchanged_and_matters() -> None:
    refiner, latents = make_refiner(tiny_transformer()), clip(8)
    refined = refiner.refine(latents, *prompt(), seeded())
    assert torch.equal(refined[:, :, 0], latents[:, :, 0])
    latents[:, :, 0] += 1
    other = refiner.refine(latents, *prompt(), seeded())
    assert (other - refined)[:, :, 1:].abs().max() > 1e-3


def test_a_clip_refined_as_it_grows_is_the_same_and_its_memory_constant() -> None:
    refiner, latents, generator = make_refiner(tiny_transformer(), window_frames=7), clip(16), seeded()
    wanted = refiner.refine(latents, *prompt(), seeded())
    state = refiner.start(latents[:, :, :1], *prompt())
    parts, sizes, frames = [latents[:, :, :1]], [], []
    for block in latents[:, :, 1:].split(3, 2):
        parts.append(refiner.refine_block(state, block, generator))
        sizes.append(state.nbytes())
        frames.append(state.history_frames)
    assert torch.equal(torch.cat(parts, 2), wanted)
    assert frames == [3, 6, 6, 6, 6]
    one = 2 * B * H * W * 24 * 4 * 2            # keys and values, two layers
    assert sizes == [4 * one, *[7 * one] * 4]
    assert state.next_frame == 16


def test_masked_words_do_not_count() -> None:
    refiner = make_refiner(tiny_transformer())
    states, mask = prompt(4)
    changed = states.clone()
    changed[:, 4:] += 10
    refined = [refiner.refine(clip(5), words, mask, seeded()) for words in (states, changed)]
    assert torch.allclose(*refined, atol=1e-6)


def test_gradients_reach_the_network_through_the_reference_frames() -> None:
    """Training: clean reference frames are seen but do not see; they are run first, with gradient."""
    from model.refiner_network import Context, KeyValue
    network = RefinerNetwork(tiny_transformer().requires_grad_(True))
    text = network.read_text(*prompt())
    rotary = [network.rotary(frames, (H, W), 16.0) for frames in (range(1), range(1, 4))]
    _, kept = network(clip(1), torch.tensor(0.0), rotary[0], text, keep=True)
    context = Context(text.text, text.text_bias,
                      lambda layer: [KeyValue(network.rotate(kept[layer].key, rotary[0]), kept[layer].value)])
    velocity, _ = network(clip(3), torch.tensor([0.7, 0.2]), rotary[1], context)
    kept[1].value.retain_grad()
    velocity.square().mean().backward()
    assert kept[1].value.grad.abs().max() > 0
    video = {name: p.grad for name, p in network.transformer.named_parameters() if not is_audio(name)}
    assert [name for name, grad in video.items() if grad is None] == []


def test_the_audio_half_is_not_built_and_not_missed(tmp_path: Path, transformer: Any) -> None:
    transformer.save_pretrained(tmp_path / "transformer", max_shard_size="40KB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    loaded = Refiner.from_pretrained(tmp_path, dtype=torch.float32)
    names = [name for name, _ in loaded.network.transformer.named_parameters()]
    assert names and not [name for name in names if "audio" in name]
    wanted = make_refiner(transformer).refine(clip(5), *prompt(), seeded())
    assert torch.equal(loaded.refine(clip(5), *prompt(), seeded()), wanted)


def test_the_released_size_without_audio() -> None:
    """18.9 billion parameters with it, 11 to 13.4 without: as bfloat16, 11 GB less and more."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    with torch.device("meta"):
        model = SanaWMLTX2RefinerTransformer3DModel(rope_type="split")
    whole = sum(parameter.numel() for parameter in model.parameters())
    drop_audio(model)
    half = sum(parameter.numel() for parameter in model.parameters())
    assert 18.8e9 < whole < 19e9 and 11e9 < half < 13.4e9
    assert 2 * (whole - half) > 11e9


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    folder = tmp_path / "transformer"
    tiny_transformer().save_pretrained(folder)
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["proj_in.weight"]
    tensors["proj_out.bias"] = torch.zeros(7)
    tensors["audio_extra"], tensors["extra"] = torch.zeros(1), torch.zeros(1)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"refiner: the tensors in") as caught:
        Refiner.from_pretrained(tmp_path)
    faults = str(caught.value).splitlines()[1:]
    assert [fault.strip() for fault in faults] == [
        "1 missing: proj_in.weight", "1 unexpected: extra", "1 misshapen: proj_out.bias (7,) for (6,)"]
    with pytest.raises(FileNotFoundError, match="refiner: there is no /nowhere"):
        Refiner.from_pretrained("/nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        Refiner.from_pretrained(Path(__file__).parent)


def test_mistakes_are_refused() -> None:
    refiner = make_refiner(tiny_transformer())
    with pytest.raises(ValueError, match="more than the 1 frames of the sink"):
        refiner.refine(clip(1), *prompt())
    with pytest.raises(ValueError, match=r"sink: shape \(2, 5, 1, 2, 3\), expected \(batch, 6, 1"):
        refiner.start(clip(1)[:, :5], *prompt())
    with pytest.raises(ValueError, match=r"states: shape \(2, 10, 14\) with mask \(2, 9\)"):
        refiner.start(clip(1), prompt()[0], prompt()[1][:, :9])
    state = refiner.start(clip(1), *prompt())
    with pytest.raises(ValueError, match="as the clip began"):
        refiner.refine_block(state, clip(3)[..., :2])
    with pytest.raises(ValueError, match="cross_attn_mod of the transformer is True"):
        RefinerNetwork(tiny_transformer(cross_attn_mod=True))
    wrong: list[tuple[str, Any]] = [("sigmas", (0.5, 0.7, 0.0)), ("sigmas", (0.5, 0.1)), ("window_frames", 1),
                                    ("sink_frames", 0), ("block_frames", 0), ("fps", 0.0)]
    for name, value in wrong:
        with pytest.raises(ValueError, match=name):
            RefinerConfig(**{name: value})


def test_one_exact_step_from_the_start_lands_on_the_target() -> None:
    low, high, noise = clip(3), clip(3).flip(2), torch.randn(B, C, 3, H, W)
    start = torch.tensor(REFINER_SIGMAS[0], dtype=torch.float64)
    x, velocity = pose_refining(low, high, noise, start)
    assert torch.allclose(x, (1 - 0.909375) * low + 0.909375 * noise, atol=1e-6)
    assert torch.allclose(x - float(start) * velocity, high, atol=1e-5)
    x, velocity = pose_refining(low, high, noise, torch.tensor([[0.1, 0.5, 0.9]] * B))
    levels = torch.tensor([0.1, 0.5, 0.9])[:, None, None]
    assert torch.allclose(x - levels * velocity, high, atol=1e-5)


@pytest.mark.parametrize("amount", [1.0, 9.95])
def test_training_levels_are_a_truncated_shifted_logit_normal(amount: float) -> None:
    drawn = draw_sigmas(4000, seeded(), amount)
    assert drawn.min() > 0 and drawn.max() <= REFINER_SIGMAS[0]
    normal = torch.randn(40000, generator=seeded(), dtype=torch.float64).sigmoid()
    free = amount * normal / (1 + (amount - 1) * normal)
    free = free[free <= REFINER_SIGMAS[0]]
    for share in (0.1, 0.5, 0.9):
        assert (drawn.quantile(share) - free.quantile(share)).abs() < 0.02
