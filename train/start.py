"""The network a stage starts with: taken over from the stage before and converted, or initialised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dataset.latents import LatentSet
from model.config import DiTConfig
from model.dit import SanaWM
from model.initialise import initialise, start_from_base
from model.weights import load, open_checkpoint
from train.config import ModelConfig, StageConfig, TrainConfig
from train.folder import RunFolder

SCRATCH = "scratch"
_SCANS_ONLY = "blocks.0.attn.A_log"
_PRESETS = {"2b6": DiTConfig.sana_wm_2b6, "small": DiTConfig.small, "tiny": DiTConfig.tiny}

UNUSED = ("raymap_embedder.",)
"""Tensors of the released checkpoints that no computation reads."""
UNUSED_IN_SOFTMAX = ("A_log", "dt_bias", "beta_proj.", "gate_proj.")
"""Of an attention layer: gates of a scan that softmax blocks carry along."""


class StartError(ValueError):
    """What a stage should start from is not there, or is of another kind."""


@dataclass(frozen=True)
class Start:
    """A network and where it came from, in lines to be printed."""

    network: SanaWM
    notes: list[str]


def start_network(config: TrainConfig, space: LatentSet) -> Start:
    """The network of `config.start`, converted for the stage, on the CPU in float32."""
    stage = config.stage
    if config.start is None and stage.needs_start:
        raise StartError(f"stage {stage.name} continues a network of stage {' or '.join(stage.after)}: give "
                         "start=<its run folder>, a folder or hub repository of weights, or start=scratch "
                         "to begin with nothing")
    if config.start in (None, SCRATCH):
        network = empty(scratch_config(config.model, stage, space))
        initialise(network, _seeded(config.seed))
        return Start(network, ["start: nothing; every tensor is initialised"])
    assert config.start is not None
    source = find_weights(config.start, stage, space)
    stored = open_checkpoint(source)
    if _SCANS_ONLY not in stored.shapes:
        network = empty(scratch_config(config.model, stage, space))
        base = {name: stored.read(name) for name in stored.shapes}
    else:
        earlier = load(source, dtype=torch.float32)
        wanted = converted(earlier.config, config, space)
        if wanted == earlier.config and not stage.anew:
            _check_space(wanted, space, config.start)
            return Start(earlier, [f"start: {config.start}, all {len(earlier.state_dict())} tensors"])
        network, base = empty(wanted), earlier.state_dict()
    _check_space(network.config, space, config.start)
    started = start_from_base(network, base, stage.anew, _seeded(config.seed))
    notes = [f"start: {config.start}, {len(started.loaded)} tensors"]
    notes += [f"  {what}: {', '.join(summarise(names))}" for what, names in (
        ("initialised anew", started.anew), ("left behind", started.unused)) if names]
    return Start(network, notes)


def plan_config(config: TrainConfig, space: LatentSet) -> DiTConfig:
    """Sizes of the stage's network; of an earlier one only names and shapes are read."""
    if config.start in (None, SCRATCH):
        return scratch_config(config.model, config.stage, space)
    assert config.start is not None
    stored = open_checkpoint(find_weights(config.start, config.stage, space))
    if _SCANS_ONLY not in stored.shapes:
        return scratch_config(config.model, config.stage, space)
    return converted(DiTConfig.from_shapes(stored.shapes), config, space)


def find_weights(start: str, stage: StageConfig, space: LatentSet, key: str = "start") -> str | Path:
    """What the setting `key` names by `start`: the export of a run folder, or itself."""
    folder = RunFolder(start)
    about = folder.about() if "://" not in start else None
    if about is None:
        if start.startswith((".", "/", "~")) and not folder.path.exists():
            raise StartError(f"{key}={start}: no such file or folder")
        return start
    if stage.after and about["stage"] not in stage.after:
        raise StartError(f"{key}={start}: a run of stage {about['stage']}, expected one of stage "
                         f"{' or '.join(stage.after)}; or name its weights, {start}/export/network, to start "
                         "from them all the same")
    found = about["space"]["codec_fingerprint"]
    if found != space.codec_fingerprint and "x_embedder.*" not in stage.anew:
        raise StartError(f"{key}={start}: trained on latents of the codec {found}, data holds latents of "
                         f"{space.codec_fingerprint} ({space.codec}); encode the clips with the former, or "
                         "start with stage=vae_adapt, which moves a network to another codec")
    exported = folder.exported()
    if exported is None:
        raise StartError(f"{key}={start}: this run has not ended, it has no export/; run it to its end, "
                         f"or set its steps= to what it has done")
    return exported


def converted(earlier: DiTConfig, config: TrainConfig, space: LatentSet) -> DiTConfig:
    """Sizes and options of the stage's network, from those of the earlier one."""
    wanted = replace(earlier, softmax_blocks=softmax_blocks(config.stage, earlier))
    if config.model.key_scale is not None:
        wanted = replace(wanted, key_scale=config.model.key_scale)  # type: ignore[arg-type]
    if "x_embedder.*" in config.stage.anew:
        wanted = replace(wanted, latent_channels=space.channels)
    return wanted


def scratch_config(model: ModelConfig, stage: StageConfig, space: LatentSet) -> DiTConfig:
    """Sizes of a network that starts from nothing."""
    preset = _PRESETS[model.preset]()
    sizes = {name: value for name in ("depth", "width", "heads", "key_scale")
             if (value := getattr(model, name)) is not None}
    sized = replace(preset, **sizes, softmax_blocks=(),
                    latent_channels=model.latent_channels or space.channels,
                    caption_channels=model.caption_channels or space.caption_channels,
                    caption_length=space.caption_tokens)
    kept = preset.softmax_blocks if sized.depth == preset.depth else _every_fourth(sized.depth)
    return replace(sized, softmax_blocks=softmax_blocks(stage, replace(sized, softmax_blocks=kept)))


def softmax_blocks(stage: StageConfig, earlier: DiTConfig) -> tuple[int, ...]:
    """Blocks with softmax attention in the stage."""
    if stage.softmax == "none":
        return ()
    return earlier.softmax_blocks if stage.softmax == "keep" else _every_fourth(earlier.depth)


def freeze_unused(network: SanaWM, camera: bool) -> list[str]:
    """Take the gradient from what the stage does not compute with, so that no optimiser keeps means for it;
    returns its names."""
    idle = [name for name, p in network.named_parameters()
            if p.requires_grad and _is_idle(name, network.config, camera)]
    for name in idle:
        network.get_parameter(name).requires_grad_(False)
    return idle


def summarise(names: Iterable[str]) -> list[str]:
    """Names, those that several blocks have as one, with how many blocks have it."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"^blocks\.\d+\.", "blocks.*.", name), []).append(name)
    return [f"{pattern} ({len(same)})" if len(same) > 1 else same[0] for pattern, same in found.items()]


def empty(config: DiTConfig) -> SanaWM:
    """A network whose numbers are yet to be filled in."""
    with torch.device("meta"):
        network = SanaWM(config)
    return network.to_empty(device="cpu")


def check_stage(stage: StageConfig, allowed: Sequence[str]) -> None:
    """Raises ValueError for a stage file that makes no sense."""
    for name, choices in (("objective", allowed), ("softmax", ("keep", "none", "fourth"))):
        if getattr(stage, name) not in choices:
            raise ValueError(f"stage.{name}={getattr(stage, name)}, allowed {' | '.join(choices)}")


def _every_fourth(depth: int) -> tuple[int, ...]:
    """As released; the last block of a network of fewer than four."""
    return tuple(range(3, depth, 4)) or (depth - 1,)


def _is_idle(name: str, config: DiTConfig, camera: bool) -> bool:
    if name.startswith(UNUSED):
        return True
    if not camera and re.search(r"_cam\.|plucker_(embedder|proj)\.", name):
        return True
    block = re.match(r"blocks\.(\d+)\.attn\.(.+)", name)
    return bool(block and int(block[1]) in config.softmax_blocks and block[2].startswith(UNUSED_IN_SOFTMAX))


def _check_space(model: DiTConfig, space: LatentSet, start: str) -> None:
    """Raises StartError where the network takes other latents or captions than data holds."""
    for what, has, holds in (
        ("latent channels", model.latent_channels, space.channels),
        ("channels of captions", model.caption_channels, space.caption_channels),
        ("tokens of the null caption", model.caption_length, space.caption_tokens),
    ):
        if has != holds:
            raise StartError(f"start={start}: a network of {has} {what}, data holds {holds} (codec "
                             f"{space.codec}, text {space.text}); encode the clips with what the network was "
                             "trained on, or start with stage=vae_adapt")


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def describe_idle(network: nn.Module, idle: Sequence[str]) -> list[str]:
    """A line on parameters that are not trained."""
    if not idle:
        return []
    number = sum(network.get_parameter(name).numel() for name in idle)
    return [f"  unused by this stage, and not trained: {', '.join(summarise(idle))}; {number:,} parameters"]


def about_space(space: LatentSet) -> dict[str, Any]:
    """What is kept of a latent set beside a network trained on it."""
    return {"codec": space.codec, "codec_fingerprint": space.codec_fingerprint, "size": list(space.size),
            "text": space.text, "text_fingerprint": space.text_fingerprint}
