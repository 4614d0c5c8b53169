"""The second stage on a tiny random LTX-2 with a tiny random Gemma-3: what a frame sees, its noise, where its
weights are."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infer.live import drive
from infer.noise import Use, frame_noise
from infer.offload import BlockStream, Offload, Placement
from infer.pipeline import WorldModel
from infer.precision import Precision, PrecisionConfig, transformer_linears
from infer.refine import RefineConfig, RefineMode, RefinerStage, refined
from infer.sampler import Kind, SamplerConfig
from model.dit import SanaWM
from model.refiner import Refiner
from tests.infer.conftest import SIZE

CPU = torch.device("cpu")
Prompt = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the release has it."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Gemma3TextConfig, Gemma3TextModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("refiner")
    torch.manual_seed(0)
    SanaWMLTX2RefinerTransformer3DModel(
        in_channels=128, out_channels=128, num_attention_heads=2, attention_head_dim=12,
        cross_attention_dim=24, audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2,
        audio_attention_head_dim=6, audio_cross_attention_dim=12, num_layers=3, caption_channels=16,
    ).save_pretrained(folder / "transformer")
    Gemma3TextModel(Gemma3TextConfig(
        vocab_size=8, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, sliding_window=8)).save_pretrained(folder / "text_encoder")
    kind = dict(num_attention_heads=2, attention_head_dim=8, num_layers=1, num_learnable_registers=4)
    both = {f"{side}_connector_{name}": value for side in ("video", "audio") for name, value in kind.items()}
    connectors = LTX2TextConnectors(caption_channels=16, text_proj_in_factor=3, **both)
    connectors.save_pretrained(folder / "connectors")
    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "room": 3}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder / "text_encoder")
    return folder


@pytest.fixture(scope="module")
def load_world(
    weights: Path, network: SanaWM, tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., WorldModel]:
    folder = tmp_path_factory.mktemp("stage1") / "network"
    network.save_pretrained(folder)

    def load(**how: object) -> WorldModel:
        sampler = SamplerConfig(kind=Kind.distilled, timesteps=[1000, 727, 0])
        return WorldModel.from_pretrained(
            folder, codec="dct32", text="hash", sampler=sampler, refiner=str(weights), device="cpu",
            refine=RefineConfig(window=5), **how)  # type: ignore[arg-type]
    return load


@pytest.fixture(scope="module")
def world(load_world: Callable[..., WorldModel]) -> WorldModel:
    return load_world()


@pytest.fixture(scope="module")
def stage(world: WorldModel) -> RefinerStage:
    assert world.refiner is not None
    return world.refiner


@pytest.fixture(scope="module")
def prompt(stage: RefinerStage) -> Prompt:
    return stage.read("a room", Placement(CPU))


def latents(frames: int) -> Tensor:
    return frame_noise(0, range(frames), (128, 2, 3))


def refine(refiner: Refiner, prompt: Prompt, frames: int, cut: int | list[int] = 3,
           mode: RefineMode = RefineMode.blocks, seed: int = 9) -> Tensor:
    chunks = iter(latents(frames).split(cut, 2))
    return torch.cat([*refined(refiner, chunks, frames, *prompt, seed, mode)], 2)


def test_chunks_are_refined_alike_however_they_come(stage: RefinerStage, prompt: Prompt) -> None:
    pieces = [refine(stage.refiner, prompt, 11, cut) for cut in ([4, 3, 4], [11], [1] * 11)]
    for other in pieces[1:]:
        torch.testing.assert_close(other, pieces[0], rtol=0, atol=1e-5)
    assert torch.equal(pieces[0][:, :, :1], latents(11)[:, :, :1])
    assert (pieces[0][:, :, 1:] - latents(11)[:, :, 1:]).abs().max() > 0.1


def test_a_longer_video_begins_like_the_shorter_one(stage: RefinerStage, prompt: Prompt) -> None:
    long, short = refine(stage.refiner, prompt, 13), refine(stage.refiner, prompt, 7)
    torch.testing.assert_close(long[:, :, :7], short, rtol=0, atol=1e-5)


def test_a_latent_frame_has_its_noise_whatever_the_blocks(stage: RefinerStage, prompt: Prompt) -> None:
    """A refiner that predicts no velocity keeps the noise it was given."""
    silent = Refiner(Silent(stage.refiner.network), stage.refiner.config)  # type: ignore[arg-type]
    kept = [refine(replace_blocks(silent, count), prompt, 7) for count in (1, 2, 3, None)]
    noise = frame_noise(9, range(1, 7), (128, 2, 3), Use.REFINER)
    start = stage.refiner.config.sigmas[0]
    for found in kept:
        torch.testing.assert_close(found[:, :, 1:], (1 - start) * latents(7)[:, :, 1:] + start * noise)


class Silent:
    """A network whose velocity is nought."""

    def __init__(self, network: object) -> None:
        self.network = network

    def __getattr__(self, name: str) -> object:
        return getattr(self.network, name)

    def __call__(self, x: Tensor, *inputs: object, **named: object) -> tuple[Tensor, object]:
        return torch.zeros_like(x), self.network(x, *inputs, **named)[1]  # type: ignore[operator]


def replace_blocks(refiner: Refiner, count: int | None) -> Refiner:
    return Refiner(refiner.network, replace(refiner.config, block_frames=count))


def test_a_whole_clip_sees_all_of_itself_and_a_block_only_its_window(
    stage: RefinerStage, prompt: Prompt,
) -> None:
    whole = Refiner(stage.refiner.network, RefineConfig(RefineMode.whole).refiner_config())
    changed = latents(13)
    changed[:, :, 12:] += 1
    for refiner, sees in ((whole, True), (stage.refiner, False)):
        a, b = (torch.cat([*refined(refiner, iter([given]), 13, *prompt, 9)], 2)
                for given in (latents(13), changed))
        assert bool((a - b)[:, :, 1:4].abs().max() > 1e-4) is sees


def test_diffusers_refiner_gives_what_ours_gives_from_its_noise(stage: RefinerStage, prompt: Prompt) -> None:
    theirs = refine(stage.refiner, prompt, 8, mode=RefineMode.diffusers)
    generator = torch.Generator().manual_seed(9)
    ours = stage.refiner.refine(latents(8), *prompt, generator)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-5)


def test_a_refined_video_leaves_out_the_picture_it_holds_fixed(world: WorldModel, room: Path) -> None:
    video = world(room, "a room", "w-48", size=SIZE)
    assert len(video.frames) == len(video.c2w) == len(video.intrinsics) == 48
    np.testing.assert_allclose(video.c2w[0, 2, 3], 0.025, atol=1e-6)


def frames_of(world: WorldModel, room: Path) -> np.ndarray:
    return np.concatenate(list(world.generate(world.prepare(room, "a room", "w-72", size=SIZE))))


@pytest.mark.parametrize("how", [{"overlap": False}, {"offload": Offload.model}, {"offload": "sequential"}])
def test_a_refined_video_is_the_same_however_its_parts_work(
    world: WorldModel, load_world: Callable[..., WorldModel], room: Path, how: dict[str, object],
) -> None:
    found, wanted = (frames_of(each, room).astype(int) for each in (load_world(**how), world))
    difference = np.abs(found - wanted)
    # Weights that were moved lie elsewhere in memory, by which a CPU's products round.
    assert difference.max() <= ("offload" in how) and difference.mean() < 1e-4


def test_the_refiners_blocks_are_streamed_for_its_prompt_too(stage: RefinerStage, prompt: Prompt) -> None:
    import copy
    network = copy.deepcopy(stage.refiner.network)
    stream = BlockStream(list(network.blocks), CPU)
    found = refine(Refiner(network, stage.refiner.config), prompt, 8)
    torch.testing.assert_close(found, refine(stage.refiner, prompt, 8), rtol=0, atol=1e-5)
    assert sum(parked.loaded for parked in stream.parked) <= 2


def test_rounded_weights_are_those_of_its_blocks_and_of_its_text_encoders(
    load_world: Callable[..., WorldModel], room: Path, world: WorldModel,
) -> None:
    rounded = load_world(precision=PrecisionConfig(Precision.int8, Precision.int8, Precision.int8),
                         offload=Offload.model)
    assert rounded.refiner is not None and world.refiner is not None
    for part in ("refiner.network", "text"):
        module, was = (_part(each, part) for each in (rounded.refiner, world.refiner))
        names = set(transformer_linears(was))
        assert names and all("blocks." in name or "layers." in name for name in names)
        for name, weight in module.named_parameters():
            is_rounded = type(weight).__name__ == "Int8Tensor"
            assert is_rounded == (name.endswith(".weight") and name.removesuffix(".weight") in names), name
    difference = np.abs(frames_of(rounded, room).astype(int) - frames_of(world, room)).mean()
    assert 0 < difference < 8


def _part(stage: RefinerStage, name: str) -> torch.nn.Module:
    return stage.refiner.network if name == "refiner.network" else stage.text


@pytest.mark.parametrize(("changes", "says"), [({"block": 0}, "refine.block=0"),
                                               ({"window": 1}, "refine.window=1")])
def test_values_that_make_no_sense_are_refused(changes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RefineConfig(**changes).check()


def test_a_refined_drive_shows_the_refined_video_along_its_path(world: WorldModel, room: Path) -> None:
    request = world.prepare(room, "a room", "w-72", size=SIZE)
    poses = iter(request.path.c2w)
    driven = drive(world, request, lambda frames: np.stack([*islice(poses, frames)]))
    made = np.concatenate([*islice(driven, 3)])
    np.testing.assert_array_equal(made, np.concatenate([*world.generate(request)]))
    assert len(made) == 72
