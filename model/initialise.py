"""Where training starts: every tensor from scratch, or most of them from a cumulative-linear video model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from model.strict import list_faults

BETA_BIAS = 5.0
"""beta = sigmoid(5) = 0.993: a token overwrites nearly all its key reads."""
DT_BIAS = -5.0
"""decay = exp(-softplus(-5)) = 0.9933 with A_log = 0."""
GATE_BIAS = 1.278464542761074
"""Where silu is one: the output gate starts open."""
NORM_SCALE = 0.01

_Fill = Callable[[Tensor, torch.Generator | None], object]

# Layers that no base video model has. `raymap_embedder` is one that nothing uses.
_NEW = ("plucker_embedder.*", "raymap_embedder.*", "*.plucker_proj.*", "*_cam.*", "*.conv_k.*", "*.A_log",
        "*.dt_bias", "*.beta_proj.*", "*.gate_proj.*", "*.output_gate.*", "*.recall_gate")


def initialise(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Fill every parameter and buffer for training from scratch, with draws of `generator`, which is on the
    network's device; None takes torch's own.

    Camera and Plücker paths start silent: `out_proj_cam` is zero, and of the Plücker pair the embedder alone,
    since with both zero neither would ever receive a gradient.
    """
    with torch.no_grad():
        tensors = dict(network.state_dict(keep_vars=True))
        for name, tensor in tensors.items():
            _fill_of(name)(tensor, generator)
        for name, tensor in tensors.items():
            if re.fullmatch(r"blocks\.\d+\.mlp\..*\.bias", name):
                kernel = tensors[f"{name.removesuffix('bias')}weight"]
                bound = kernel[0].numel() ** -0.5
                nn.init.uniform_(tensor, -bound, bound, generator)
        _copy_branches(tensors, tensors.keys())


@dataclass(frozen=True)
class Started:
    """Where the tensors of a network came from, by name, and those of the base that it has no place for."""

    loaded: tuple[str, ...]
    anew: tuple[str, ...]
    unused: tuple[str, ...]


def start_from_base(
    network: nn.Module, base: Mapping[str, Tensor], anew: Sequence[str] = (),
    generator: torch.Generator | None = None,
) -> Started:
    """Take over what a base video model with cumulative linear attention, or an earlier stage, has, and
    initialise the rest. The camera branch starts as a copy of the main branch that was taken over.

    anew: patterns ("x_embedder.*") of tensors to initialise although the base should have them, as when its
    latent space was another, or has them, as the camera branch of an earlier stage that never saw a camera.
    Raises ValueError listing every tensor that the base lacks and that is not of the new layers, and every
    tensor of another shape.
    """
    tensors = dict(network.state_dict(keep_vars=True))
    asked = [name for name in tensors if not _fits(name, anew)]
    shared = [name for name in asked if name in base]
    wanted = {name: tensors[name].shape for name in asked if name in base or not _fits(name, _NEW)}
    faults = list_faults({name: base[name].shape for name in shared}, wanted)
    if faults:
        raise ValueError("\n".join(["base model: its tensors are not those it should share with the network.",
                                    *faults, "  Name those to be initialised instead in `anew`."]))
    initialise(network, generator)
    with torch.no_grad():
        for name in shared:
            tensors[name].copy_(base[name])
        rest = tuple(name for name in tensors if name not in set(shared))
        _copy_branches(tensors, rest)
    return Started(tuple(shared), rest, tuple(name for name in base if name not in set(shared)))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


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
    return lambda x, _: nn.init.constant_(x, value)


def _normal(std: float) -> _Fill:
    return lambda x, generator: nn.init.normal_(x, std=std, generator=generator)


def _normal_by_width(x: Tensor, generator: torch.Generator | None) -> None:
    nn.init.normal_(x, std=x.shape[-1] ** -0.5, generator=generator)


def _last_tap(x: Tensor, _: torch.Generator | None) -> None:
    nn.init.zeros_(x)[..., -1] = 1


def _flat_xavier(x: Tensor, generator: torch.Generator | None) -> None:
    nn.init.xavier_uniform_(x.view(x.shape[0], -1), generator=generator)


def _convolution(x: Tensor, generator: torch.Generator | None) -> None:
    nn.init.kaiming_uniform_(x, a=math.sqrt(5), generator=generator)


# The first pattern that fits a name counts. Biases of the FFN's convolutions, whose range follows that of
# their weights, are filled by `initialise`.
_FILLS: dict[str, _Fill] = {
    "*.recall_gate": _constant(0.0),
    "*.A_log": _constant(0.0),
    "*.dt_bias": _constant(DT_BIAS),
    "*.beta_proj.weight": _constant(0.0),
    "*.beta_proj.bias": _constant(BETA_BIAS),
    "*.gate_proj.*": _constant(0.0),
    "*.output_gate.weight": _constant(0.0),
    "*.output_gate.bias": _constant(GATE_BIAS),
    "*.conv_k*.weight": _last_tap,
    "*.out_proj_cam.*": _constant(0.0),
    "plucker_embedder.*": _constant(0.0),
    "attention_y_norm.weight": _constant(NORM_SCALE),
    "*_norm*.weight": _constant(1.0),
    "*scale_shift_table": _normal_by_width,
    "y_embedder.y_embedding": _normal_by_width,
    "*.t_conv.weight": _constant(0.0),
    "*.mlp.*_conv.conv.weight": _convolution,
    "t_embedder.*.weight": _normal(0.02),
    "t_block.*.weight": _normal(0.02),
    "y_embedder.y_proj.*.weight": _normal(0.02),
    "*.bias": _constant(0.0),
    "*.weight": _flat_xavier,
}
