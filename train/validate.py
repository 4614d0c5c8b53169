"""Validation: the loss on held-out clips at fixed noise, and videos sampled along their camera paths."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from dataset.batch import Batch
from dataset.latents import LatentSet
from dataset.loader.config import DataConfig, LatentSpace
from dataset.loader.loader import Loader
from model.codec import load_codec
from model.flow import DISTILLED_TIMESTEPS, inference_sigmas, masked_error, pose_denoising, timestep_sigmas
from model.mask import Mask, streaming_bounds
from model.rollout import Conditioning, Guidance, cut_chunks, denoise_chunks, denoise_clip, stream
from train.config import TrainConfig
from train.film import beside, draw_path, write_film
from train.follow import Following, measure
from train.guard import agree
from train.launch import Ranks
from train.objectives import FlowConfig, FlowMatching, Member, Objective, conditions

FPS = 16.0
CHUNK = 3
"""Latent frames of a chunk where the objective names none."""


class Validation:
    """Held-out clips, shared out over the groups of processes; each keeps its own for the whole run."""

    def __init__(
        self, config: TrainConfig, data: DataConfig, expect: LatentSpace, space: LatentSet, ranks: Ranks,
        control: dist.ProcessGroup,
    ) -> None:
        self.config, self.ranks, self.space, self._control = config, ranks, space, control
        loader = Loader(data, rank=ranks.rank, world=ranks.world, context_parallel=config.parallel.context,
                        expect=expect)
        self.clips: list[Batch] = list(islice(loader, -(-config.validate.clips // ranks.groups)))

    @torch.no_grad()
    def run(self, network: Member, objective: Objective, step: int, folder: Path) -> dict[str, float]:
        """Mean loss in each bin of noise levels, and over all; films in `folder`."""
        training = network.module.training
        network.module.eval()
        found = self._losses(network, objective)
        followed: list[dict[str, Following]] = []
        for i in range(-(-self.config.validate.videos // self.ranks.groups)):
            number = i * self.ranks.groups + self.ranks.group
            clip = self.clips[i % len(self.clips)]
            made, true = self._films(network, objective, clip)
            if self.ranks.leads and number < self.config.validate.videos:
                path = draw_path(clip.c2w[0, :len(made)].numpy(), made.shape[1])
                write_film(folder / f"step-{step:08d}-{number}.mp4", beside(made, true, path), FPS)
                if self.config.validate.follow is not None:
                    followed.append(self._follow(clip, made, true))
        if self.config.validate.follow is not None and self.config.validate.videos:
            found |= self._following(followed)
        network.module.train(training)
        return found

    def _losses(self, network: Member, objective: Objective) -> dict[str, float]:
        bins = self.config.validate.bins
        levels = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins
        sums = torch.zeros(bins, 2, dtype=torch.float64)
        for number, clip in enumerate(self.clips):
            batch = clip.to(self.ranks.device)
            assert batch.latents is not None
            draws = torch.Generator().manual_seed(number * self.ranks.groups + self.ranks.group)
            noise = torch.randn(batch.latents.shape, generator=draws).to(batch.latents)
            told = conditions(network.module, batch, self._flow(), draws)
            mask = _mask_of(objective, batch.latents.shape[2])
            for place in range(bins):
                index = torch.full((len(batch),), place, device=self.ranks.device)
                posed = pose_denoising(batch.latents, noise, index, True, batch.frame_valid, levels)
                predicted = network.call(posed.latents, posed.timesteps, mask=mask, **told)
                error, values = masked_error(predicted, posed.target, posed.counts)
                sums[place] += torch.stack([error.sum(), values.sum()]).double().cpu()
        # All processes of a group have the same sums; the share of each is the same.
        means = torch.tensor(agree(sums.flatten().tolist(), self._control)).view(bins, 2)
        losses = (means[:, 0] / means[:, 1].clamp(min=1)).tolist()
        found = {f"validation/loss_{level:.2f}": loss for level, loss in zip(levels.tolist(), losses)}
        return {"validation/loss": sum(losses) / bins, **found}

    def _flow(self) -> FlowConfig:
        """Conditions as when training, nothing dropped."""
        return FlowConfig(caption_dropout=0.0, camera=self.config.flow.camera)

    def _films(self, network: Member, objective: Objective, clip: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The clip made from its first frame, caption and path, and the true one; (F, H, W, 3) bytes."""
        batch = clip.to(self.ranks.device)
        assert batch.latents is not None
        frames = self._same_length(batch)
        clean = batch.latents[:1, :, :frames]
        draws = torch.Generator().manual_seed(self.config.seed)
        noise = torch.randn(clean.shape, generator=draws).to(clean)
        made = self._sample(network, objective, batch, noise, clean[:, :, :1])
        codec = load_codec(self.config.validate.codec or self.space.codec, self.ranks.device)
        codec.check_fingerprint(self.space.codec_fingerprint, f"out={self.config.out}")
        return _to_pixels(codec.decode(made.float())), _to_pixels(codec.decode(clean.float()))

    def _follow(self, clip: Batch, made: np.ndarray, true: np.ndarray) -> dict[str, Following]:
        """Errors of the video made, and of the true one as the network's latents hold it."""
        module = self.config.validate.follow
        assert module is not None
        cameras = clip.c2w[0, :len(made)].numpy(), clip.intrinsics[0, :len(made)].numpy()
        return {name: measure(module, film, *cameras, FPS)
                for name, film in (("camera", made), ("true_camera", true))}

    def _following(self, followed: list[dict[str, Following]]) -> dict[str, float]:
        """Means over all videos of all processes, of those whose camera was found."""
        names = [(who, what) for who in ("camera", "true_camera") for what in ("rotation_deg", "translation")]
        values = [[getattr(one[who], what) for one in followed] for who, what in names]
        known = [[value for value in some if value is not None] for some in values]
        sums = agree([number for some in known for number in (sum(some), len(some))] + [len(followed)],
                     self._control)
        means = {f"validation/{who}_{what}": total / count for (who, what), total, count
                 in zip(names, sums[::2], sums[1::2]) if count}
        for one in followed:
            for who, following in one.items():
                if following.failure is not None:
                    print(f"validation: no {who.replace('_', ' ')}: {following.failure}", flush=True)
        return means | {"validation/camera_found": sums[1] / sums[-1]}

    def _same_length(self, batch: Batch) -> int:
        """Latent frames that every process has of its clip: where parameters are shared, all must call the
        network equally often."""
        frames = torch.tensor(int(batch.frame_valid[0].sum()) or 1)
        dist.all_reduce(frames, dist.ReduceOp.MIN, group=self._control)
        return int(frames)

    def _sample(
        self, network: Member, objective: Objective, batch: Batch, noise: Tensor, first_frame: Tensor,
    ) -> Tensor:
        config, frames = self.config.validate, noise.shape[2]
        told = conditions(network.module, batch, self._flow(), torch.Generator())
        mask_of_caption = None if told["caption_mask"] is None else told["caption_mask"][:1]
        conditioning = Conditioning(
            told["caption"][:1], mask_of_caption,
            None if told["camera_conditions"] is None else told["camera_conditions"][:1, :frames],
            None if told["plucker"] is None else told["plucker"][:1, :, :frames])
        null = network.module.y_embedder.y_embedding[None].to(told["caption"])  # type: ignore[union-attr,index]
        guidance = Guidance(null, mask_of_caption, config.guidance) if config.guidance > 1 else None
        chunk = _chunk_of(objective)
        sampler = config.sampler
        if sampler == "auto":
            causal = "chunks" if isinstance(objective, FlowMatching) else "stream"
            sampler = "clip" if chunk is None else causal
        sigmas = inference_sigmas(config.steps)
        if sampler == "clip":
            return denoise_clip(network.call, noise, conditioning, sigmas, guidance=guidance,
                                first_frame=first_frame)
        size = chunk or CHUNK
        if sampler == "chunks":
            starts = Mask.chunk_causal(frames, size).chunk_starts
            return torch.cat([*denoise_chunks(network.call, noise, conditioning, sigmas, starts,
                                              guidance=guidance, first_frame=first_frame)], 2)
        cache = network.module.new_cache(1)  # type: ignore[operator]
        chunks = cut_chunks(noise, conditioning, streaming_bounds(frames, size))
        return torch.cat([*stream(network.module, cache, chunks, timestep_sigmas(DISTILLED_TIMESTEPS),
                                  Mask(window=2), first_frame=first_frame)], 2)


def _mask_of(objective: Objective, frames: int) -> Mask:
    chunk = _chunk_of(objective)
    return Mask.bidirectional() if chunk is None else Mask.chunk_causal(frames, chunk)


def _chunk_of(objective: Objective) -> int | None:
    """Latent frames of a chunk of the network that is trained; None where all frames see each other."""
    return objective.config.chunk  # type: ignore[attr-defined]


def _to_pixels(video: Tensor) -> np.ndarray:
    """(1, 3, F, H, W) in [-1, 1] to (F, H, W, 3) bytes."""
    bytes_ = ((video[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return bytes_.permute(1, 2, 3, 0).cpu().numpy()
