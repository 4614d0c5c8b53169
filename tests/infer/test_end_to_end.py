"""The whole product on a CPU: a small network learns a wall with the trainer's own objective and optimiser,
as benchmarks/learn.py lets one learn a room, and the command makes a video from a picture of that wall.
"""

import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dataset.batch import Batch
from dataset.rays import model_camera
from infer.actions import action_poses, parse_actions
from infer.pipeline import WorldModel
from infer.sampler import Kind, SamplerConfig
from model.config import DiTConfig
from model.dct import DCTCodec
from model.dit import SanaWM
from model.initialise import initialise
from train.config import OptimConfig
from train.objectives import Draws, FlowConfig, FlowMatching, Member
from train.optim import Optimiser

STRIDE, SIZE, FRAMES, STEPS = 16, (32, 48), 17, 80
LENS = np.array([41.6, 41.6, 24.0, 16.0])  # 60 degrees across, as is assumed of a picture that says nothing
KEYS = ("w-16", "s-16", "d-16", "a-16", "wd-16", "wa-16", "i-16", "l-16")


def wall(c2w: np.ndarray) -> np.ndarray:
    """Films (F, H, W, 3) of a painted wall 3 m ahead."""
    y, x = np.mgrid[:256, :256] / 20.0
    paint = (127 * np.stack([np.sin(x) + 1, np.cos(y) + 1, np.sin(x + y) + 1], -1)).astype(np.uint8)
    k = np.array([[LENS[0], 0, LENS[2]], [0, LENS[1], LENS[3]], [0, 0, 1]])
    on_wall = np.array([[6 / 256, 0, -3], [0, 6 / 256, -3], [0, 0, 3]])  # 6 m wide and high
    films = []
    for pose in c2w:
        seen = on_wall.copy()
        seen[:, 2] -= pose[:3, 3]
        films.append(cv2.warpPerspective(paint, k @ pose[:3, :3].T @ seen, SIZE[::-1]))
    return np.stack(films)


def batch_of_walls(codec: DCTCodec) -> Batch:
    """One clip for each key."""
    latents, conditions, plucker = [], [], []
    for keys in KEYS:
        c2w = action_poses(parse_actions(keys)).astype(np.float64)
        video = torch.from_numpy(wall(c2w)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        camera = model_camera(c2w, np.tile(LENS, (FRAMES, 1)), SIZE, STRIDE)
        latents.append(codec.encode(video)[0])
        conditions.append(camera.conditions)
        plucker.append(camera.plucker)
    count = len(KEYS)
    return Batch(
        clip_ids=list(KEYS), sources=[""] * count, captions=[""] * count, size=SIZE,
        camera_conditions=torch.stack(conditions), plucker=torch.stack(plucker),
        frame_valid=torch.ones(count, 3, dtype=torch.bool),
        c2w=torch.eye(4, dtype=torch.float64).expand(count, FRAMES, 4, 4),
        intrinsics=torch.ones(count, FRAMES, 4, dtype=torch.float64), latents=torch.stack(latents),
        caption_states=torch.zeros(count, 1, 8), caption_mask=torch.ones(count, 1, dtype=torch.bool))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network and a picture of the wall."""
    codec = DCTCodec(STRIDE)
    network = SanaWM(DiTConfig(depth=2, width=64, heads=2, latent_channels=codec.channels, caption_channels=8,
                               caption_length=1, softmax_blocks=(1,)))
    initialise(network, torch.Generator().manual_seed(0))
    optimiser = Optimiser(network, OptimConfig(lr=3e-3, warmup=5, eps=1e-8, clip=1.0))
    objective = FlowMatching(FlowConfig(shift=3.0, first_frame=1.0, caption_dropout=0.0))
    draws = Draws(torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    batch, losses = batch_of_walls(codec), []
    for step in range(STEPS):
        loss = objective.loss({"network": Member(network)}, batch, draws, step, "network").total
        loss.backward()
        optimiser.update(optimiser.norm(), step)
        optimiser.clear()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    folder = tmp_path_factory.mktemp("learnt")
    network.save_pretrained(folder / "network")
    assert sum(path.stat().st_size for path in (folder / "network").iterdir()) < 8e6
    Image.fromarray(wall(np.eye(4)[None])[0]).save(folder / "wall.png")
    return folder


def test_a_picture_and_keys_become_a_playable_video_and_the_same_seed_the_same(
    learnt: Path, tmp_path: Path,
) -> None:
    """The command, then the same from Python: equal bytes; another seed gives another video."""
    command = [sys.executable, "-m", "infer", f"image={learnt / 'wall.png'}", f"model={learnt / 'network'}",
               f"codec=dct{STRIDE}", "text=hash", "size=[32,48]", "prompt=a wall, empty", "action=w-20,dw-28",
               "sampler.steps=4", "sampler.shift=3", "seed=5", f"out={tmp_path / 'wall'}"]
    ended = subprocess.run(command, capture_output=True, text=True,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == 0, ended.stderr
    assert "step 4/4" in ended.stderr and "49 frames" in ended.stdout
    with av.open(str(tmp_path / "wall" / "video.mp4")) as video:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    assert shown.shape == (49, 32, 48, 3)

    world = WorldModel.from_pretrained(learnt / "network", codec=f"dct{STRIDE}", text="hash",
                                       sampler=SamplerConfig(steps=4, shift=3.0))
    asked = dict(prompt="a wall, empty", camera="w-20,dw-28", size=(32, 48))
    video, other = (world(learnt / "wall.png", seed=seed, **asked) for seed in (5, 6))
    video.save(tmp_path / "python" / "out.mp4")
    assert (tmp_path / "python" / "out.mp4").read_bytes() == (tmp_path / "wall" / "video.mp4").read_bytes()
    assert np.abs(video.frames[0].astype(int) - shown[0]).mean() < 8
    assert np.abs(video.frames[1:].astype(int) - other.frames[1:]).mean() > 1


@pytest.mark.parametrize("kind", [Kind.chunk_causal, Kind.distilled])
def test_what_was_learnt_streams_and_its_frames_are_those_of_the_whole(learnt: Path, kind: Kind) -> None:
    sampler = SamplerConfig(kind=kind, steps=3, shift=3.0, timesteps=[1000, 750, 0])
    world = WorldModel.from_pretrained(learnt / "network", codec=f"dct{STRIDE}", text="hash", sampler=sampler)
    asked = dict(prompt="a wall", camera="w-20,dw-28", size=(32, 48), seed=2)
    parts = list(world.generate(world.prepare(learnt / "wall.png", **asked)))  # type: ignore[arg-type]
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), world(learnt / "wall.png", **asked).frames)
