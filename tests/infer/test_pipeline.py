"""The three samplers from picture to frames, on a tiny random network."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infer.noise import frame_noise
from infer.pipeline import WorldModel
from infer.sampler import evaluations
from infer.video import to_pixels
from model.flow import inference_sigmas, timestep_sigmas
from model.mask import Mask, streaming_bounds
from model.rollout import Guidance, cut_chunks, denoise_chunks, denoise_clip, stream
from tests.infer.conftest import SIZE

KINDS = ["bidirectional", "chunk_causal", "distilled"]
Make = Callable[..., WorldModel]


def ask(world: WorldModel, room: Path, **changes: Any) -> Any:
    usual = {"prompt": "a room", "camera": "w-30,dw-50", "seed": 3, "size": SIZE}
    return world.prepare(room, **{**usual, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_a_video_starts_with_the_picture_and_has_the_frames_of_its_path(
    make_world: Make, room: Path, kind: str,
) -> None:
    world = make_world(kind)
    video = world(room, "a room", "w-30,dw-50", seed=3, size=SIZE)
    count = 73 if kind == "distilled" else 81
    assert video.frames.shape == (count, *SIZE, 3)
    assert video.c2w.shape == (count, 4, 4) and video.intrinsics.shape == (count, 4)
    wanted = ask(world, room).image.astype(float)
    assert np.abs(video.frames[0] - wanted).mean() < 5  # the codec's loss alone
    assert np.abs(video.frames[1:] - wanted).mean() > 10


@pytest.mark.parametrize("kind", KINDS)
def test_frames_that_stream_are_those_of_the_whole_rollout_decoded_at_once(
    make_world: Make, room: Path, kind: str,
) -> None:
    world = make_world(kind)
    request = ask(world, room)
    tell, negative = world._conditioning(request)
    picture = torch.from_numpy(request.image.copy()).permute(2, 0, 1)[None, :, None] / 127.5 - 1
    first = world.codec.encode(picture)
    frames = (len(request.path) - 1) // 8 + 1
    told = tell(0, frames)
    noise = frame_noise(3, range(frames), (128, 2, 3))
    with torch.no_grad():
        if kind == "distilled":
            chunks = cut_chunks(noise, told, streaming_bounds(frames))
            sigmas, cache = timestep_sigmas([1000, 727, 0]), world.network.new_cache(1)
            whole = torch.cat([*stream(world.network, cache, chunks, sigmas, Mask(window=2),
                                       first_frame=first)], 2)
        else:
            sigmas, guidance = inference_sigmas(2), Guidance(*negative)
            if kind == "bidirectional":
                whole = denoise_clip(world.network, noise, told, sigmas, guidance=guidance, first_frame=first)
            else:
                starts = Mask.chunk_causal(frames).chunk_starts
                whole = torch.cat([*denoise_chunks(world.network, noise, told, sigmas, starts,
                                                   guidance=guidance, first_frame=first)], 2)
    made = np.concatenate(list(world.generate(request)))
    expected = to_pixels(world.codec.decode(whole))
    assert made.shape == expected.shape
    assert np.abs(made.astype(int) - expected).max() <= 1


def test_a_seed_gives_its_video_again_and_another_seed_another(make_world: Make, room: Path) -> None:
    world = make_world("distilled")
    a, b, c = (np.concatenate(list(world.generate(ask(world, room, camera="w-24", frames=25, seed=seed))))
               for seed in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a[1:].astype(int) - c[1:]).mean() > 5


@pytest.mark.parametrize("kind", KINDS)
def test_stages_side_by_side_make_the_same_video(make_world: Make, room: Path, kind: str) -> None:
    together = make_world(kind)
    alone = replace(together, overlap=False)
    a, b = (np.concatenate(list(world.generate(ask(world, room)))) for world in (together, alone))
    np.testing.assert_array_equal(a, b)


def test_a_stream_that_is_read_slowly_is_made_slowly(make_world: Make, room: Path) -> None:
    """Whoever reads holds up all stages: little is made ahead of what was taken."""
    world, steps = make_world("distilled", timesteps=[1000, 0]), []
    stream = world.generate(ask(world, room, camera="w-960"), lambda step, of: steps.append(step))
    next(stream)
    before = -1
    while before != len(steps):
        before = len(steps)
        time.sleep(0.2)
    assert before < 12  # of 40 chunks
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stage ")]


def test_a_longer_stream_begins_like_the_shorter_one(make_world: Make, room: Path) -> None:
    world = make_world("distilled")
    short, long = (np.concatenate(list(world.generate(ask(world, room, frames=frames))))
                   for frames in (25, 73))
    # The first latent frame is shown the seven frames after it, which both paths share.
    assert np.abs(long[:25].astype(int) - short).max() <= 1


def test_ten_times_the_stream_needs_the_same_memory(
    make_world: Make, room: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, caches, decoders = make_world("distilled", timesteps=[1000, 0]), [], []
    new_cache, open_stream = world.network.new_cache, world.codec.open_stream
    monkeypatch.setattr(world.network, "new_cache", lambda n: caches.append(new_cache(n)) or caches[-1])
    monkeypatch.setattr(world.codec, "open_stream", lambda: decoders.append(open_stream()) or decoders[-1])
    held = []
    for frames in (97, 961):
        sizes = [(caches[-1].nbytes(), decoders[-1].nbytes()) for _ in
                 world.generate(ask(world, room, camera="w-1000", frames=frames))]
        held.append(max(sizes))
    assert held[0] == held[1] and held[0][0] > 0


def test_progress_is_told_of_every_step(make_world: Make, room: Path) -> None:
    for kind in KINDS:
        world = make_world(kind)
        request, told = ask(world, room, camera="w-48"), []
        list(world.generate(request, lambda step, of, told=told: told.append(step)))  # type: ignore[misc]
        assert len(told) == evaluations(world.sampler, 7)


def test_a_negative_prompt_matters_only_where_there_is_guidance(make_world: Make, room: Path) -> None:
    made = {}
    for guidance in (1.0, 4.0):
        world = make_world("bidirectional", guidance=guidance)
        made[guidance] = [np.concatenate(list(world.generate(ask(world, room, camera="w-8", negative=text))))
                          for text in ("", "dark and blurred")]
    np.testing.assert_array_equal(*made[1.0])
    assert (made[4.0][0] != made[4.0][1]).any()


def test_prompt_and_path_lead_the_video(make_world: Make, room: Path) -> None:
    world = make_world("bidirectional")
    plain, other, turned = (
        np.concatenate(list(world.generate(ask(world, room, **changes))))
        for changes in ({"camera": "w-16"}, {"camera": "w-16", "prompt": "a forest"}, {"camera": "d-16"}))
    assert (plain != other).any() and (plain != turned).any()


@pytest.mark.parametrize(("changes", "says"), [
    ({"seed": -1}, "seed=-1"), ({"size": (60, 96)}, r"size=\[60,96\]: both must be multiples of 32"),
    ({"camera": "w-3"}, "expected at least 9"), ({"image": "gone.png"}, "there is no such file")])
def test_a_request_is_checked_as_a_whole(make_world: Make, room: Path, changes: Any, says: str) -> None:
    arguments = {"image": room, "camera": "w-8", "size": SIZE, **changes}
    with pytest.raises(ValueError, match=says):
        make_world("bidirectional").prepare(**arguments)


def test_parts_that_do_not_fit_are_refused(make_world: Make) -> None:
    from model.dct import DCTCodec
    from model.text import HashText

    world = make_world("bidirectional")
    with pytest.raises(ValueError, match="128 latent channels, the codec dct-s32-c64"):
        WorldModel(world.network, DCTCodec(32, 64), world.text)
    with pytest.raises(ValueError, match="captions of width 16"):
        WorldModel(world.network, world.codec, HashText(24, 10))
