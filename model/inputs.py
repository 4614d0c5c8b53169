"""What the network can be called with: every fault is a ValueError at the door, before any compute."""

from __future__ import annotations

import torch
from torch import Tensor

from model.cache import KVState, ModelState
from model.config import DiTConfig
from model.mask import Mask

POSE, INTRINSICS = 16, 4


def check_inputs(
    config: DiTConfig, latents: Tensor, timesteps: Tensor, caption: Tensor, caption_mask: Tensor | None,
    camera_conditions: Tensor | None, plucker: Tensor | None, mask: Mask, frame_valid: Tensor | None,
    cache: ModelState | None, write: bool,
) -> None:
    """Raises ValueError naming the argument, what was found and what is wanted. Arguments as of `SanaWM`.

    Raw video is checked where it enters, by `Codec.check_video`.
    """
    if latents.ndim != 5 or latents.shape[1] != config.latent_channels or 0 in latents.shape:
        raise ValueError(f"latents: shape {tuple(latents.shape)}, expected (batch, {config.latent_channels}, "
                         "frames, height, width), none of them zero")
    batch, _, frames, height, width = latents.shape
    if tuple(timesteps.shape) not in ((batch,), (batch, frames)):
        raise ValueError(f"timesteps: shape {tuple(timesteps.shape)}, expected ({batch},), or "
                         f"({batch}, {frames}): one for each latent frame")
    if _may_read(timesteps) and not bool(((timesteps >= 0) & (timesteps <= 1000)).all()):
        raise ValueError(f"timesteps: from {float(timesteps.min())} to {float(timesteps.max())}, expected 0 "
                         "to 1000; model.flow.timesteps makes them of noise levels")
    _check_caption(config, batch, caption, caption_mask)
    if camera_conditions is not None:
        _check_camera(camera_conditions, batch, frames)
    _check_shape("plucker", plucker, (batch, config.plucker_channels, frames, height, width),
                 "eight video frames of six channels on the grid of the latents")
    _check_shape("frame_valid", frame_valid, (batch, frames), "one for each latent frame, zero for padding")
    mask.check(frames)
    if cache is None and write:
        raise ValueError("write: True without a cache, expected a cache to write to; new_cache() makes one")
    if cache is not None:
        _check_cache(config, cache, mask, batch, height * width, camera_conditions is not None)


def _check_caption(config: DiTConfig, batch: int, caption: Tensor, caption_mask: Tensor | None) -> None:
    tokens = caption.shape[1] if caption.ndim == 3 else 0
    if not tokens or caption.shape != (batch, tokens, config.caption_channels):
        raise ValueError(f"caption: shape {tuple(caption.shape)}, expected ({batch}, tokens, "
                         f"{config.caption_channels}): states of the text encoder the network was built for")
    _check_shape("caption_mask", caption_mask, tuple(caption.shape[:2]), "one for each token of the caption")


def _check_camera(conditions: Tensor, batch: int, frames: int) -> None:
    if conditions.shape[-1:] == (POSE,):
        raise ValueError(f"camera_conditions: {POSE} values a frame, a pose without intrinsics, expected "
                         f"{POSE + INTRINSICS}: the pose row by row, then fx, fy, cx, cy in latent cells")
    _check_shape("camera_conditions", conditions, (batch, frames, POSE + INTRINSICS),
                 "a pose and intrinsics for each latent frame; dataset.rays.model_camera makes them")
    if not _may_read(conditions):
        return
    for name, values, good in (("values", conditions, conditions.isfinite()),
                               ("fx, fy", conditions[..., POSE : POSE + 2],
                                conditions[..., POSE : POSE + 2] > 0)):
        if not bool(good.all()):
            sample, frame = (int(i) for i in (~good).any(-1).nonzero()[0])
            raise ValueError(f"camera_conditions: {name} {values[sample, frame].tolist()} in frame {frame} "
                             f"of sample {sample}, expected finite numbers and focal lengths above zero")


def _check_cache(
    config: DiTConfig, cache: ModelState, mask: Mask, batch: int, tokens: int, has_camera: bool,
) -> None:
    kinds = [isinstance(layer.main, KVState) for layer in cache.layers]
    if kinds != [i in config.softmax_blocks for i in range(config.depth)]:
        raise ValueError(f"cache: {len(kinds)} blocks, softmax in {[i for i, kv in enumerate(kinds) if kv]}, "
                         f"expected {config.depth} and {list(config.softmax_blocks)}; new_cache() makes one")
    if mask.chunk_starts != (0,):
        raise ValueError(f"mask: chunk_starts {mask.chunk_starts} with a cache, expected (0,): a call with a "
                         "cache is one chunk; call once for each")
    tail = cache.layers[0].ffn_tail
    if tail is None:
        return
    if (tail.shape[0], tail.shape[2]) != (batch, tokens):
        raise ValueError(f"cache: of {tail.shape[0]} streams with {tail.shape[2]} tokens a frame, expected "
                         f"{batch} with {tokens}, as the latents have")
    camera = cache.layers[0].camera
    had_camera = bool(camera.keys) if isinstance(camera, KVState) else camera.gdn is not None
    if had_camera != has_camera:
        raise ValueError(f"camera_conditions: {'given' if has_camera else 'None'} in frame {cache.frame} of "
                         f"a stream that began {'with' if had_camera else 'without'} a camera, expected the "
                         "same throughout")


def _check_shape(name: str, tensor: Tensor | None, wanted: tuple[int, ...], meaning: str) -> None:
    if tensor is not None and tuple(tensor.shape) != wanted:
        raise ValueError(f"{name}: shape {tuple(tensor.shape)}, expected {wanted}: {meaning}")


def _may_read(values: Tensor) -> bool:
    """Whether looking at values neither waits for a device nor breaks a graph that is being made."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()
