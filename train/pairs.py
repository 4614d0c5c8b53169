"""Pairs for the refiner: `python -m train.pairs start=<network> data.path=<data set> out=<folder>`.

Clips as stage 1 would have made them: noised part of the way and made again by its network, so that they show
the same scene with the marks of that network. One file for each clip; a second run makes those missing.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field, replace

import torch
from safetensors.torch import save
from torch import Tensor

from conf import entry
from dataset.batch import Batch
from dataset.catalog import CatalogError
from dataset.latents import latent_store, read_null_text
from dataset.loader.config import DataConfig
from dataset.loader.loader import Loader
from dataset.store import Store
from model.dit import SanaWM
from model.flow import INFERENCE_SHIFT, inference_sigmas, interpolate
from model.mask import Mask
from model.rollout import Conditioning, Guidance, denoise_chunks, denoise_clip
from model.weights import load
from train.config import StageConfig
from train.data import resolve
from train.start import find_weights

USAGE_ERROR = 2


@dataclass
class PairsConfig:
    """Latents of a data set in, the same as stage 1 makes them out."""

    start: str = "???"  # stage-1 network: a run folder, a folder of weights or a hub repository
    out: str = "???"  # folder or URL of <clip id>.safetensors, refiner.low of stage=refiner
    data: DataConfig = field(default_factory=DataConfig)
    sigma: float = 0.8  # level to which clips are noised; at 1 they would be other clips, which are no pairs
    steps: int = 20  # of the sampler from noise, of which those below sigma are taken
    shift: float = INFERENCE_SHIFT  # of the sampler's levels towards noise
    guidance: float = 5.0  # away from the empty caption; 1: none
    chunk: int | None = None  # latent frames of a chunk of a chunk-causal network; null: bidirectional
    seed: int = 0  # of the noise
    device: str = "cpu"  # cpu | cuda

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if not 0 < self.sigma < 1:
            raise ValueError(f"sigma={self.sigma}, allowed above 0 to below 1")
        if self.steps < 1 or (self.chunk is not None and self.chunk < 1):
            raise ValueError(f"steps={self.steps}, chunk={self.chunk}, allowed 1 or more")
        if self.shift <= 0 or self.guidance < 1:
            raise ValueError(f"shift={self.shift}, guidance={self.guidance}; allowed above 0, and 1 or more")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device={self.device}, allowed cpu | cuda")


def make_pairs(config: PairsConfig) -> int:
    """Make what is missing; the number of clips made. Raises ValueError that names the setting."""
    config.check()
    data, space = resolve(config.data)
    dtype = torch.bfloat16 if config.device == "cuda" else torch.float32
    network = load(find_weights(config.start, StageConfig(), space), dtype=dtype, device=config.device)
    source, store, made = data.all_sources()[0], Store(config.out), 0
    null = read_null_text(latent_store(Store(source.path), source.latents or ""))
    away = Guidance(torch.from_numpy(null.states)[None].to(config.device, dtype),
                    torch.from_numpy(null.mask)[None].to(config.device), config.guidance)
    for batch in Loader(replace(data, batch_size=1, shuffle=False), epochs=1):
        name = f"{batch.clip_ids[0]}.safetensors"
        if bool(batch.frame_valid.all()) and not store.exists(name):
            latents = remake(network, batch.to(config.device, dtype), away, config)
            store.write(name, save({"latents": latents[0].half().cpu().contiguous()}))
            made += 1
            print(f"{name}  {made:,} made", flush=True)
    return made


@torch.no_grad()
def remake(network: SanaWM, batch: Batch, away: Guidance, config: PairsConfig) -> Tensor:
    """Latents (1, C, T, h, w) of a clip, noised and made again with its own first frame, caption and path."""
    clean = batch.latents
    assert clean is not None and batch.caption_states is not None
    digest = hashlib.sha256(f"{config.seed} {batch.clip_ids[0]}".encode()).digest()
    draws = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    start = torch.tensor([config.sigma], dtype=torch.float64)
    noised = interpolate(clean, torch.randn(clean.shape, generator=draws).to(clean), start[0])
    sigmas = inference_sigmas(config.steps, config.shift)
    sigmas = torch.cat([start, sigmas[sigmas < config.sigma]])
    told = Conditioning(batch.caption_states, batch.caption_mask, batch.camera_conditions, batch.plucker)
    first = clean[:, :, :1]
    if config.chunk is None:
        return denoise_clip(network, noised, told, sigmas, guidance=away, first_frame=first)
    starts = Mask.chunk_causal(clean.shape[2], config.chunk).chunk_starts
    return torch.cat([*denoise_chunks(network, noised, told, sigmas, starts, guidance=away,
                                      first_frame=first)], 2)


@entry(
    PairsConfig, name="pairs", text_keys=("start", "out", "data.path", "data.where"),
    examples=("python -m train.pairs start=runs/sft data.path=dataset data.frames=[81] out=pairs",),
)
def main(config: PairsConfig) -> int:
    """Make clips as stage 1 would make them, for the refiner to learn from.

    Run the same command again at any time: it makes what is missing.
    """
    try:
        print(f"{make_pairs(config):,} clips made in {config.out}")
    except (CatalogError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    main()
