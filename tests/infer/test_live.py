"""A video made along a path that is asked for as it goes is the one of the whole path."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.rays import model_camera
from infer.actions import action_poses, parse_actions
from infer.live import LiveCamera, drive
from infer.pipeline import WorldModel
from tests.infer.conftest import SIZE

PATH = "w-30,dw-20,none-15,ij-40,a-15"
Make = Callable[..., WorldModel]


def steering(c2w: np.ndarray) -> Callable[[int], np.ndarray]:
    place = 0

    def steer(frames: int) -> np.ndarray:
        nonlocal place
        place += frames
        return c2w[place - frames : place]
    return steer


@pytest.mark.parametrize(("size", "cell"), [((160, 256), 32), ((704, 1280), 32), ((48, 72), 8)])
def test_camera_inputs_made_chunk_by_chunk_are_bit_for_bit_those_of_the_whole_path(
    size: tuple[int, int], cell: int,
) -> None:
    c2w = action_poses(parse_actions(PATH))
    lens = np.array([310.0, 290.0, size[1] / 2 + 3, size[0] / 2 - 5])
    whole = model_camera(c2w, np.tile(lens, (len(c2w), 1)), size, cell)
    camera = LiveCamera(lens, size, cell)
    parts = [camera.inputs(part) for part in np.split(c2w, [25, 49, 57, 97])]
    assert torch.equal(torch.cat([part.conditions for part in parts]), whole.conditions)
    assert torch.equal(torch.cat([part.plucker for part in parts], 1), whole.plucker)


def test_a_chunk_of_poses_that_no_latent_frames_have_is_refused() -> None:
    camera, c2w = LiveCamera(np.array([9.0, 9, 5, 5]), (64, 64), 32), action_poses(parse_actions(PATH))
    with pytest.raises(ValueError, match="24 poses of a chunk, expected 8 for each latent frame and one"):
        camera.inputs(c2w[:24])
    camera.inputs(c2w[:25])
    with pytest.raises(ValueError, match=r"20 poses of a chunk, expected 8 for each latent frame$"):
        camera.inputs(c2w[25:45])


@pytest.mark.parametrize("chunk", [2, 3])
def test_a_drive_shows_the_frames_of_the_video_along_its_path(
    make_world: Make, room: Path, chunk: int,
) -> None:
    world = make_world("distilled", chunk=chunk)
    request = world.prepare(room, "a room", PATH, seed=3, size=SIZE, frames=97)
    expected = np.concatenate(list(world.generate(request)))
    driven = drive(world, request, steering(action_poses(parse_actions(PATH))))
    made = np.concatenate(list(islice(driven, 12 // chunk)))
    assert len(made) == 97
    np.testing.assert_array_equal(made, expected)


def test_a_chunk_s_poses_are_asked_for_when_it_is_due_and_not_before(make_world: Make, room: Path) -> None:
    world, asked = make_world("distilled"), []
    c2w = action_poses(parse_actions(PATH))
    steer = steering(c2w)
    driven = drive(world, world.prepare(room, "", "none-24", size=SIZE),
                   lambda frames: asked.append(frames) or steer(frames))
    assert asked == []
    for count in range(1, 4):
        next(driven)
        assert asked == [25, 24, 24][:count]


def test_only_a_stream_can_be_driven(make_world: Make, room: Path) -> None:
    world = make_world("chunk_causal")
    with pytest.raises(ValueError, match=r"sampler.kind=chunk_causal: only distilled"):
        next(drive(world, world.prepare(room, "", "none-24", size=SIZE), lambda frames: np.eye(4)[None]))


def test_ten_times_the_drive_needs_the_same_memory(
    make_world: Make, room: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, caches, decoders = make_world("distilled", timesteps=[1000, 0]), [], []
    new_cache, open_stream = world.network.new_cache, world.codec.open_stream
    monkeypatch.setattr(world.network, "new_cache", lambda n: caches.append(new_cache(n)) or caches[-1])
    monkeypatch.setattr(world.codec, "open_stream", lambda: decoders.append(open_stream()) or decoders[-1])
    c2w = action_poses(parse_actions("w-1000"))
    held = [(caches[-1].nbytes(), decoders[-1].nbytes())
            for _ in islice(drive(world, world.prepare(room, "", "none-24", size=SIZE), steering(c2w)), 30)]
    assert max(held[:3]) == max(held) and held[0][0] > 0
