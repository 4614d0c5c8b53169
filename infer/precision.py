"""Weights of a transformer's linear layers in fewer bits, through torchao. Nothing else is touched: norms,
embeddings, convolutions over time and space, the scan's decay and update rates, the first and last layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import torch
from torch import nn

from model.layers import PointwiseConv


class Precision(Enum):
    """How the weights of linear layers are kept, and in what they are multiplied."""

    bf16 = "bf16"
    fp8 = "fp8"
    nvfp4 = "nvfp4"
    int8 = "int8"

    @property
    def bits(self) -> float:
        """Of a weight, its share of the scales included; of bf16, what `dtype` has."""
        return {"bf16": 16.0, "fp8": 8.0, "nvfp4": 4.5, "int8": 8.0}[self.value]


@dataclass
class PrecisionConfig:
    """Precision of linear layers, part by part."""

    network: Precision = Precision.bf16  # bf16: weights as dtype= says; int8: rounded row by row, multiplied
    # in dtype=; fp8 and nvfp4: both factors, on GPUs that multiply them
    refiner: Precision = Precision.bf16  # the same of the second stage
    text: Precision = Precision.bf16  # the same of what reads prompts

    def check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raises ValueError where a precision cannot be had on `device`."""
        for part in fields(self):
            check_precision(getattr(self, part.name), device, dtype, f"precision.{part.name}")


_KEPT = re.compile(r"(^|\.)(beta_proj|gate_proj|to_gate_logits)$")
"""Narrow layers whose outputs are rates and gates: few weights, much effect. Gemma's gate_proj is not one."""
_NARROW = 64
_BLOCK = re.compile(r"(^|\.)(blocks|layers|transformer_blocks)\.\d+\.")
_NEEDS = {Precision.fp8: ((8, 9), "8.9 (Ada, Hopper) or later"),
          Precision.nvfp4: ((10, 0), "10.0 (Blackwell) or later")}


def check_precision(precision: Precision, device: torch.device, dtype: torch.dtype, key: str) -> None:
    """Raises ValueError, naming the setting, where `device` cannot multiply in it or torchao is absent."""
    if precision is Precision.bf16:
        return
    if precision in _NEEDS:
        least, named = _NEEDS[precision]
        found = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        if found is None or found < least:
            has = "a CPU" if found is None else f"a GPU of compute capability {found[0]}.{found[1]}"
            raise ValueError(f"{key}={precision.value}: needs a GPU of compute capability {named}, this is "
                             f"{has}; int8 runs anywhere")
        if dtype is not torch.bfloat16:
            raise ValueError(f"{key}={precision.value}: needs dtype=bfloat16, found {dtype}")
    try:
        import torchao  # noqa: F401
    except ImportError:
        raise ValueError(f"{key}={precision.value}: torchao is not installed; pip install "
                         "'sana-wm-open[quant]'") from None


def transformer_linears(module: nn.Module) -> Iterator[str]:
    """Names of the linear layers inside blocks, whose weights are nearly all of a transformer's."""
    for name, inner in module.named_modules():
        if isinstance(inner, nn.Linear | PointwiseConv) and _BLOCK.search(name) and not _is_kept(name, inner):
            yield name


def quantise(module: nn.Module, precision: Precision, device: torch.device) -> int:
    """Put the weights of a part's transformer linears into `precision` and these layers on `device`, one at a
    time, so that the part need never be there as a whole. Returns how many weights it were."""
    if precision is Precision.bf16:
        return 0
    from torchao.quantization import quantize_

    names, weights = list(transformer_linears(module)), 0
    for name in names:
        parent, _, own = name.rpartition(".")
        linear = _as_linear(module.get_submodule(name))
        weights += linear.weight.numel()
        linear.to(device)
        quantize_(linear, _config(precision))
        setattr(module.get_submodule(parent), own, linear)
    return weights


def _is_kept(name: str, layer: nn.Linear | PointwiseConv) -> bool:
    return layer.weight.shape[0] < _NARROW and _KEPT.search(name) is not None


def _as_linear(layer: nn.Module) -> nn.Linear:
    """The layer as torch has it; a convolution of kernel 1 is one."""
    if isinstance(layer, nn.Linear):
        return layer
    assert isinstance(layer, PointwiseConv)
    linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(layer.weight.detach().flatten(1), False)
    linear.register_parameter("bias", layer.bias)
    return linear


def _config(precision: Precision) -> Any:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, Int8WeightOnlyConfig, PerRow

    if precision is Precision.int8:
        return Int8WeightOnlyConfig()
    if precision is Precision.fp8:
        return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    from torchao.prototype.mx_formats import NVFP4DynamicActivationNVFP4WeightConfig

    return NVFP4DynamicActivationNVFP4WeightConfig()
