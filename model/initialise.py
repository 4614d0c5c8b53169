"""Where training starts: every tensor from scratch, or most of them from a cumulative-linear video model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

BETA_BIAS = 5.0
"""beta = sigmoid(5) = 0.993: a token overwrites nearly all its key reads."""
DT_BIAS = -5.0
"""decay = exp(-softplus(-5)) = 0.9933 with A_log = 0."""
GATE_BIAS = 1.278464542761074
"""Where silu is one: the output gate starts open."""
NORM_SCALE = 0.01

_Fill = Callable[[Tensor], object]


def initialise(network: nn.Module) -> None:
    """Fill every parameter and buffer for training from scratch.

    Camera and Plücker paths start silent: `out_proj_cam` is zero, and of the Plücker pair the embedder alone,
    since with both zero neither would ever receive a gradient.
    """
    with torch.no_grad():
        tensors = dict(network.state_dict(keep_vars=True))
        for name, tensor in tensors.items():
            _fill_of(name)(tensor)
        for name, tensor in tensors.items():
            if re.fullmatch(r"blocks\.\d+\.mlp\..*\.bias", name):
                kernel = tensors[f"{name.removesuffix('bias')}weight"]
                bound = kernel[0].numel() ** -0.5
                nn.init.uniform_(tensor, -bound, bound)
        _copy_branches(tensors, tensors.keys())


@dataclass(frozen=True)
class Started:
    """Where the tensors of a network came from, by name, and those of the base that it has no place for."""

    loaded: tuple[str, ...]
    anew: tuple[str, ...]
    unused: tuple[str, ...]


def start_from_base(network: nn.Module, base: Mapping[str, Tensor], anew: Sequence[str] = ()) -> Started:
    """Take over what a base video model with cumulative linear attention, or an earlier stage, has, and
    initialise the rest. The camera branch starts as a copy of the main branch that was taken over.

    anew: patterns ("x_embedder.*") of tensors to initialise although the base has them, as when its latent
    space was another.
    Raises ValueError listing every tensor of another shape, and where the two have no name in common.
    """
    tensors = dict(network.state_dict(keep_vars=True))
    shared = [name for name in tensors if name in base and not any(fnmatchcase(name, p) for p in anew)]
    misshapen = [f"{name} {tuple(base[name].shape)} for {tuple(tensors[name].shape)}" for name in shared
                 if base[name].shape != tensors[name].shape]
    if misshapen:
        raise ValueError(f"base model: {len(misshapen)} tensors of another shape: {', '.join(misshapen)}.\n"
                         "  Name those to be initialised instead in `anew`.")
    if not shared:
        raise ValueError(f"base model: none of its {len(base)} tensors is one of the network's; found "
                         f"{', '.join(list(base)[:3])}, expected names such as blocks.0.attn.qkv.weight")
    initialise(network)
    with torch.no_grad():
        for name in shared:
            tensors[name].copy_(base[name])
        rest = [name for name in tensors if name not in shared]
        _copy_branches(tensors, rest)
    return Started(tuple(shared), tuple(rest), tuple(name for name in base if name not in shared))


def _fill_of(name: str) -> _Fill:
    return next(fill for pattern, fill in _FILLS.items() if fnmatchcase(name, pattern))


def _copy_branches(tensors: Mapping[str, Tensor], names: Collection[str]) -> None:
    """Camera projections, norms and convolutions among `names` become copies of those of the main branch."""
    for prefix in {name.split(".attn.")[0] + ".attn" for name in names if ".attn." in name}:
        q, k, v = tensors[f"{prefix}.qkv.weight"].chunk(3)
        main = {"q_proj_cam.weight": q, "k_proj_cam.weight": k, "v_proj_cam.weight": v}
        for part in ("q_norm", "k_norm", "conv_k"):
            if f"{prefix}.{part}.weight" in tensors:
                main[f"{part}_cam.weight"] = tensors[f"{prefix}.{part}.weight"]
        for part, source in main.items():
            if f"{prefix}.{part}" in names:
                tensors[f"{prefix}.{part}"].copy_(source)


def _constant(value: float) -> _Fill:
    return lambda x: nn.init.constant_(x, value)


def _normal(std: float) -> _Fill:
    return lambda x: nn.init.normal_(x, std=std)


def _normal_by_width(x: Tensor) -> None:
    nn.init.normal_(x, std=x.shape[-1] ** -0.5)


def _last_tap(x: Tensor) -> None:
    nn.init.zeros_(x)[..., -1] = 1


def _flat_xavier(x: Tensor) -> None:
    nn.init.xavier_uniform_(x.view(x.shape[0], -1))


def _convolution(x: Tensor) -> None:
    nn.init.kaiming_uniform_(x, a=math.sqrt(5))


# The first pattern that fits a name counts. Biases of the FFN's convolutions, whose range follows that of
# their weights, are filled by `initialise`.
_FILLS: dict[str, _Fill] = {
    "*.recall_gate": nn.init.zeros_,
    "*.A_log": nn.init.zeros_,
    "*.dt_bias": _constant(DT_BIAS),
    "*.beta_proj.weight": nn.init.zeros_,
    "*.beta_proj.bias": _constant(BETA_BIAS),
    "*.gate_proj.*": nn.init.zeros_,
    "*.output_gate.weight": nn.init.zeros_,
    "*.output_gate.bias": _constant(GATE_BIAS),
    "*.conv_k*.weight": _last_tap,
    "*.out_proj_cam.*": nn.init.zeros_,
    "plucker_embedder.*": nn.init.zeros_,
    "attention_y_norm.weight": _constant(NORM_SCALE),
    "*_norm*.weight": nn.init.ones_,
    "*scale_shift_table": _normal_by_width,
    "y_embedder.y_embedding": _normal_by_width,
    "*.t_conv.weight": nn.init.zeros_,
    "*.mlp.*_conv.conv.weight": _convolution,
    "t_embedder.*.weight": _normal(0.02),
    "t_block.*.weight": _normal(0.02),
    "y_embedder.y_proj.*.weight": _normal(0.02),
    "*.bias": nn.init.zeros_,
    "*.weight": _flat_xavier,
}
