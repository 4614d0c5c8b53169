"""The refiner's stage: an adapter on the multi-step LTX-2 transformer, merged into the distilled one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dataset.latents import LatentSet
from model.hub import fetch
from model.refiner_lora import ADAPTER, FILE, add_lora, load_lora, merge_lora
from model.refiner_network import RefinerNetwork
from model.refiner_weights import drop_audio, load_video_half
from train.config import TrainConfig
from train.flops import RefinerSizes
from train.launch import choose_device
from train.objectives import Member
from train.place import compute_type
from train.refiner import RefinerLora
from train.start import StartError

TRANSFORMER = "transformer"


def prepare_refiner(config: TrainConfig, space: LatentSet) -> tuple[RefinerLora, Member, list[str]]:
    """The objective, the network and where it came from. Raises ValueError that names the setting."""
    if config.parallel.context > 1:
        raise ValueError(f"parallel.context={config.parallel.context}: stage refiner does not share clips "
                         "along time, expected 1")
    if config.validate.every:
        raise ValueError("validate.every: stage refiner has no validation, expected 0")
    if config.start is None:
        raise StartError("stage refiner adapts the multi-step LTX-2: give start=<folder or hub repository "
                         f"that holds its {TRANSFORMER}>, such as start=Lightricks/LTX-2")
    network = read_transformer(config.start, compute_type(config.parallel, choose_device(config.parallel)))
    config_of = network.transformer.config
    for what, has, holds in (("latent channels", network.channels, space.channels),
                             ("channels of captions", config_of["caption_channels"], space.caption_channels)):
        if has != holds:
            raise StartError(f"start={config.start}: a transformer of {has} {what}, data holds {holds} "
                             f"(codec {space.codec}, text {space.text}); encode clips with the codec and the "
                             "text encoder of LTX-2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        learnt = add_lora(network, config.refiner.rank)
    for parameter in learnt:
        parameter.data = parameter.data.float()
    number = sum(parameter.numel() for parameter in learnt)
    notes = [f"start: {config.start}, an adapter of rank {config.refiner.rank} with {number:,} parameters"]
    return RefinerLora(config.refiner), Member(network, keeps_frozen=False), notes


def plan_refiner(config: TrainConfig, caption_length: int) -> tuple[RefinerNetwork, RefinerSizes]:
    """The network by names and shapes alone: those of the transformer in a local `start`, else LTX-2's."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel as Transformer
    folder = None if config.start is None else Path(config.start).expanduser() / TRANSFORMER
    with torch.device("meta"):
        transformer: Any = Transformer() if folder is None or not folder.is_dir() else \
            Transformer.from_config(Transformer.load_config(folder))
        drop_audio(transformer)
        network = RefinerNetwork(transformer)
        learnt = add_lora(network, config.refiner.rank)
    return network, RefinerSizes(len(network.blocks), network.transformer.proj_in.out_features,
                                 caption_length, sum(parameter.numel() for parameter in learnt))


def about_refiner(config: TrainConfig, space: dict[str, Any]) -> dict[str, Any]:
    """What checkpoints know of the stage."""
    return {"stage": config.stage.name, "seed": config.seed, "space": space,
            "refiner": {"start": config.start, "rank": config.refiner.rank}}


def read_transformer(source: str | Path, dtype: torch.dtype) -> RefinerNetwork:
    """The video half of an LTX-2 transformer, on the CPU."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    return RefinerNetwork(load_video_half(
        SanaWMLTX2RefinerTransformer3DModel, fetch(source, TRANSFORMER, "refiner"), "refiner", "cpu", dtype))


def save_refiner(tensors: Mapping[str, Tensor], folder: Path, distilled: str | None) -> None:
    """The adapter as diffusers stores one and, with `distilled`, that transformer with the adapter merged, as
    `Refiner.from_pretrained` reads it. The folder appears, or replaces an earlier one, as a whole."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    adapter = {name.removeprefix(f"{TRANSFORMER}.").replace(f".{ADAPTER}.", "."): x.contiguous()
               for name, x in tensors.items()}
    save_file(adapter, partial / FILE, {"format": "pt"})
    if distilled is not None:
        network = read_transformer(distilled, torch.bfloat16)
        load_lora(network, partial)
        merge_lora(network)
        network.transformer.save_pretrained(partial / TRANSFORMER)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
