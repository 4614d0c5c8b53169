"""What distillation stages need beside the network they train: teachers, a critic, the caption to avoid."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dataset.latents import LatentSet, TextStates, latent_store, read_null_text
from dataset.loader.config import Lengths
from dataset.rays import latent_frames
from dataset.store import Store
from model.dit import SanaWM
from model.weights import load
from train.config import TrainConfig
from train.data import resolve
from train.objectives import Member
from train.ode import OdeInit
from train.self_forcing import SelfForcing
from train.start import empty, find_weights, freeze_unused

BIDIRECTIONAL = ["minute", "sft"]
"""Stages whose networks can say where real clips lie."""


def prepare_ode(config: TrainConfig, space: LatentSet, network: SanaWM) -> tuple[OdeInit, dict[str, Member]]:
    """The objective, and the networks beside `network`. Raises ValueError that names the setting."""
    ode = replace(config.ode, teacher=config.ode.teacher or config.start)
    teacher = _teacher("ode.teacher", ode.teacher, ["chunk_causal"], config, space, network)
    objective = OdeInit(ode, _frames(config), _away(None, config, network),
                        Store(ode.paths or f"{config.out}/paths"))
    return objective, {"teacher": Member(teacher)}


def prepare_self_forcing(
    config: TrainConfig, space: LatentSet, network: SanaWM,
) -> tuple[SelfForcing, dict[str, Member]]:
    """As `prepare_ode`. The critic starts as the teacher."""
    own = config.self_forcing
    teacher = _teacher("self_forcing.teacher", own.teacher, BIDIRECTIONAL, config, space, network)
    critic = empty(teacher.config)
    critic.load_state_dict(teacher.state_dict())
    freeze_unused(critic.requires_grad_(), camera=True)
    objective = SelfForcing(own, _frames(config), _away(own.negative, config, network))
    return objective, {"critic": Member(critic, lr=own.critic_lr), "teacher": Member(teacher)}


def _teacher(
    key: str, source: str | None, stages: list[str], config: TrainConfig, space: LatentSet, network: SanaWM,
) -> SanaWM:
    """A frozen network of one of `stages`, which takes the same latents and captions as the one trained."""
    if source is None:
        raise ValueError(f"{key} is missing: a run folder of stage {' or '.join(stages)}, or a folder or hub "
                         "repository of weights")
    stage = replace(config.stage, after=stages, anew=[])
    teacher = load(find_weights(source, stage, space, key), dtype=torch.float32).requires_grad_(False)
    for name in ("latent_channels", "caption_channels"):
        has, needs = getattr(teacher.config, name), getattr(network.config, name)
        if has != needs:
            raise ValueError(f"{key}={source}: a network with {name} {has}, expected {needs} as the one that "
                             "is trained has; choose a teacher of the same latents and captions")
    return teacher


def _frames(config: TrainConfig) -> int:
    """Latent frames of every clip; distillation calls its networks equally often in all processes."""
    data = config.data
    if len(data.frames) != 1 or data.lengths is not Lengths.crop:
        raise ValueError(f"data.frames={data.frames}, data.lengths={data.lengths}: stage "
                         f"{config.stage.name} rolls out clips of one length, expected one number and crop")
    return latent_frames(data.frames[0])


def _away(path: str | None, config: TrainConfig, network: SanaWM) -> tuple[Tensor, Tensor]:
    """States (L, Ct) and mask (L,) of the caption in `path`, or of the data set's empty caption."""
    if path is None:
        source = resolve(config.data)[0].all_sources()[0]
        assert source.latents is not None
        text = read_null_text(latent_store(Store(source.path), source.latents))
    else:
        folder, _, name = path.rpartition("/")
        text = TextStates.from_npz(Store(folder or ".").read(name))
    states = torch.from_numpy(text.states).float()
    if states.ndim != 2 or states.shape[1] != network.config.caption_channels:
        raise ValueError(f"self_forcing.negative={path}: states of shape {tuple(states.shape)}, expected "
                         f"(tokens, {network.config.caption_channels}) of the text encoder of the captions")
    return states, torch.from_numpy(text.mask)
