"""LoRA on the stage-1 network: small matrices beside the linear projections of its attention layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.dit import SanaWM
from model.weights import save_tensors

TARGETS = (r"blocks\.\d+\.(attn\.(qkv|proj|output_gate|[qkv]_proj_cam|out_proj_cam)"
           r"|cross_attn\.(q_linear|kv_linear|proj))")
ADAPTER = "own"
FILE = "lora.safetensors"
_DOWN, _UP = f".lora_A.{ADAPTER}.weight", f".lora_B.{ADAPTER}.weight"


def add_lora(network: SanaWM, rank: int, seed: int, frozen: torch.dtype) -> None:
    """Matrices that start without effect and alone learn, in float32; the rest is kept in `frozen`."""
    from peft import LoraConfig, inject_adapter_in_model

    network.requires_grad_(False).to(frozen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS), network, ADAPTER)
    for p in network.parameters():
        if p.requires_grad:
            p.data = p.data.float()


def merged(base: Mapping[str, Tensor], adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the network without an adapter that does the same: W + up · down."""
    tensors = dict(base)
    for name, down in adapter.items():
        if name.endswith(_DOWN):
            layer = name.removesuffix(_DOWN)
            up = adapter[f"{layer}{_UP}"]
            weight = tensors[f"{layer}.weight"]
            tensors[f"{layer}.weight"] = (weight.float() + up.float() @ down.float()).to(weight.dtype)
    return tensors


def save_lora(base: SanaWM, adapter: Mapping[str, Tensor], folder: Path) -> None:
    """The merged network to `folder`, the adapter alone beside it."""
    save_tensors(merged(base.state_dict(), adapter), base.config, folder)
    place = folder.with_name(f"{folder.name}.{FILE}")
    partial = place.with_name(f".{place.name}.partial")
    save_file({name: tensor.contiguous() for name, tensor in adapter.items()}, partial)
    partial.replace(place)
