"""LoRA on the refiner: rank 384 on every attention and feed-forward projection of the video half. Trained on
the multi-step model, merged into the distilled one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from model.refiner_network import RefinerNetwork

RANK = 384
TARGETS = r"transformer_blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))"
"""Linear layers by name; a bare `to_q` would also catch those of the audio half."""
ADAPTER = "refiner"
FILE = "pytorch_lora_weights.safetensors"


def add_lora(network: RefinerNetwork, rank: int = RANK) -> list[torch.nn.Parameter]:
    """Give the network an adapter that starts without effect; returns its parameters, which alone learn."""
    from peft import LoraConfig
    transformer: Any = network.transformer
    if getattr(transformer, "peft_config", None):
        raise ValueError("refiner: the network already has an adapter; merge it before adding another")
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), ADAPTER)
    return [parameter for parameter in transformer.parameters() if parameter.requires_grad]


def merge_lora(network: RefinerNetwork) -> None:
    """Add the adapter's product to the weights it stands beside, and take it away."""
    transformer: Any = network.transformer
    if not getattr(transformer, "peft_config", None):
        raise ValueError("refiner: the network has no adapter to merge; add or load one first")
    transformer.fuse_lora(adapter_names=[ADAPTER])
    transformer.unload_lora()


def save_lora(network: RefinerNetwork, folder: Path | str) -> None:
    """Write the adapter as diffusers stores one."""
    transformer: Any = network.transformer
    transformer.save_lora_adapter(folder, adapter_name=ADAPTER, weight_name=FILE)


def load_lora(network: RefinerNetwork, folder: Path | str) -> None:
    """Give the network the adapter in `folder`; every one of its tensors must have a place."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"refiner LoRA: {folder} holds no {FILE}, expected what save_lora writes")
    transformer: Any = network.transformer
    places = {name for name, _ in transformer.named_modules() if re.fullmatch(TARGETS, name)}
    with safe_open(path, "pt") as stored:
        lost = sorted(name for name in stored.keys()  # noqa: SIM118  it is no dictionary
                      if re.sub(r"\.lora_[AB]\.weight$", "", name) not in places)
    if lost:
        raise ValueError(f"refiner LoRA: {len(lost)} tensors of {path} have no place in the network: "
                         f"{', '.join(lost[:3])}{', …' if len(lost) > 3 else ''}")
    transformer.load_lora_adapter(folder, weight_name=FILE, adapter_name=ADAPTER, prefix=None)
