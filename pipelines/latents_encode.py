"""From the files of a clip to the files of its latents: decode, fit, encode tile by tile. No Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import av
import numpy as np

from annotate.clip_video import ClipVideo
from dataset.clip import ClipRecord
from dataset.fit import fit_clip, fit_frame
from dataset.latents import (
    CAMERA_MEMBER,
    LATENTS_MEMBER,
    TEXT_MEMBER,
    LatentSet,
    TextStates,
    caption_digest,
    latents_to_npy,
)
from pipelines.latents_config import LatentsConfig

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 8  # frames that go to the device at a time


class Unfit(Exception):
    """A clip that cannot be encoded. `reason` is short enough to count; the text is a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class Encoded:
    """Files of a clip's latents and the shape (C, T, h, w) of the latents in them."""

    files: dict[str, bytes]
    shape: tuple[int, int, int, int]


class Encoder:
    """The codec and the text encoder that a configuration names, on a device."""

    def __init__(self, config: LatentsConfig, device: str) -> None:
        import torch

        from model.codec import load_codec
        from model.text import load_text

        dtype = getattr(torch, config.dtype or ("float32" if device == "cpu" else "bfloat16"))
        self._config = config
        self._device = device
        self.codec = load_codec(config.codec, device, dtype)
        self.text = load_text(config.text, device, dtype, chi_prompt=config.chi_prompt,
                              length=config.text_tokens, width=config.text_channels)

    @cached_property
    def null_text(self) -> TextStates:
        """States of no caption."""
        return self.states(None)

    def describe(self, size: tuple[int, int]) -> LatentSet:
        """The set that latents of video of `size` belong to."""
        codec, text = self.codec, self.text
        return LatentSet(
            codec=self._config.codec, codec_fingerprint=codec.fingerprint, channels=codec.channels,
            space_stride=codec.space_stride, time_stride=codec.time_stride, size=list(size),
            text=self._config.text, text_fingerprint=text.fingerprint, caption_tokens=text.length,
            caption_channels=text.width,
        )

    def encode(self, record: ClipRecord, files: Mapping[str, bytes], size: tuple[int, int]) -> Encoded:
        """Latents of video of `size` and caption states; the camera file goes along unchanged.

        Raises Unfit.
        """
        latents = self._latents(record, files["mp4"], size)
        states = self.null_text if record.caption is None else self.states(record.caption)
        made = {LATENTS_MEMBER: latents_to_npy(latents), TEXT_MEMBER: states.to_npz()}
        if CAMERA_MEMBER in files:
            made[CAMERA_MEMBER] = files[CAMERA_MEMBER]
        channels, frames, height, width = latents.shape
        return Encoded(made, (channels, frames, height, width))

    def _latents(self, record: ClipRecord, mp4: bytes, size: tuple[int, int]) -> np.ndarray:
        import torch

        from model.encode_stream import encode_stream

        try:
            with torch.inference_mode():
                video = ClipVideo(mp4)
                if len(video) != record.frames or len(video) % self.codec.time_stride != 1:
                    raise Unfit("wrong_frames", f"the video has {len(video)} frames, its row says "
                                f"{record.frames}, and {self.codec.time_stride}k + 1 are needed")
                pieces = encode_stream(self.codec, self._pieces(video, size), len(video))
                latents = torch.cat([piece.float().cpu() for piece in pieces], 2)[0].numpy()
        except (ValueError, av.FFmpegError) as error:
            raise Unfit("undecodable", " ".join(str(error).split())) from error
        return _half(latents, "latents")

    def _pieces(self, video: ClipVideo, size: tuple[int, int]) -> Iterator[Tensor]:
        """The fitted frames (1, 3, f, H, W) in [-1, 1] on the device, a few at a time."""
        import torch

        fit = fit_clip(video.size, size, self.codec.space_stride)
        if fit.resized[0] > fit.size[0] or fit.resized[1] > fit.size[1]:
            raise Unfit("too_small", f"the video is {fit.size[1]}x{fit.size[0]}, the set holds "
                        f"{size[1]}x{size[0]}, and video is not enlarged")
        held: list[np.ndarray] = []
        for index, frame in enumerate(video.iter_rgb(), 1):
            held.append(fit_frame(frame, fit))
            if len(held) == _PIECE or index == len(video):
                pixels = torch.from_numpy(np.stack(held)).to(self._device)
                yield pixels.movedim(-1, 0)[None].float() / 127.5 - 1
                held = []

    def states(self, caption: str | None) -> TextStates:
        import torch

        with torch.inference_mode():
            encode = self.text.encode_negative if caption is None else self.text.encode
            states, mask = encode([caption or ""])
        found = _half(states[0].float().cpu().numpy(), "numbers of the caption's states")
        return TextStates(found, mask[0].cpu().numpy().astype(bool), caption_digest(caption))


def _half(values: np.ndarray, what: str) -> np.ndarray:
    """The values as float16; refuses what is not finite there."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
    bad = np.count_nonzero(~np.isfinite(half))
    if bad:
        raise Unfit("not_finite", f"{bad} of {half.size} {what} are NaN or beyond float16")
    return half
