"""Poses and intrinsics to Plücker maps, their packing into latent frames, embedding and block projection."""

import torch
import torch.nn.functional as F

from dataset import camera, rays
from model.layers import PatchEmbed
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 2e-6


def check(fixture: Fixture) -> list[Comparison]:
    meta = fixture.metadata
    poses = camera.relative(fixture["in.c2w"].numpy())
    intrinsics, grid = fixture["in.intrinsics_latent"].numpy(), tuple(meta["latent_hw"])
    assert int(meta["stride"]) == rays.STRIDE, f"stride {meta['stride']}, the network packs {rays.STRIDE}"
    count = rays.latent_frames(int(meta["raw_frames"]))
    packed = rays.packed_plucker(poses, intrinsics, grid, count)
    values = {"camera_conditions": rays.camera_conditions(poses, intrinsics, count), "packed": packed,
              "plucker_first9": _first_nine(packed)}
    width, channels = fixture["w.plucker_embedder.proj.weight"].shape[:2]
    embedder = PatchEmbed(channels, width)
    embedder.load_state_dict(fixture.under("w.plucker_embedder."))
    embedded = embedder(packed[None].float()).flatten(1, 2)
    projected = F.linear(embedded, **fixture.under("w.plucker_proj."))
    values |= {"embedding": embedded, "block_residual": projected}
    return [Comparison(f"out.{key}", value, fixture[f"out.{key}"], _TOLERANCE)
            for key, value in values.items()]


def _first_nine(packed: torch.Tensor) -> torch.Tensor:
    """Maps (9, H, W, 6) of the first nine video frames: eight in the first window, one ends the second."""
    windows = packed.unflatten(0, (rays.STRIDE, 6)).permute(2, 0, 3, 4, 1)
    return torch.cat([windows[0], windows[1, -1:]])
