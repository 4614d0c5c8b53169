"""The whole network in one pass, its residual stream after every block, without camera, and clamped."""

import torch
from torch import Tensor

from model.dit import SanaWM
from model.mask import Mask
from tests.golden.dit_tiny_weights import load_network
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-5


def check(fixture: Fixture) -> list[Comparison]:
    network = load_network(fixture.network_weights())
    mask = Mask(tuple(fixture.metadata.get("chunk_starts", (0,))))
    velocity, after = trace(network, fixture, mask)
    found = [Comparison("out.velocity", velocity, fixture["out.velocity"], _TOLERANCE)]
    found += [Comparison(key, after[int(key.removeprefix("mid.block"))], expected, _TOLERANCE)
              for key, expected in fixture.tensors.items() if key.startswith("mid.block")]
    if "out.velocity_no_camera" in fixture:
        inputs = fixture.under("in.")
        plain = network(inputs["latents"], inputs["timesteps"], inputs["caption"], inputs["caption_mask"], mask=mask)
        found.append(Comparison("out.velocity_no_camera", plain, fixture["out.velocity_no_camera"], _TOLERANCE))
    return found


def trace(network: SanaWM, fixture: Fixture, mask: Mask) -> tuple[Tensor, list[Tensor]]:
    """The velocity, and the residual stream (B, N, d) after every block."""
    after: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, x: after.append(x.flatten(1, 2))) for block in network.blocks]
    inputs = fixture.under("in.")
    dtype = next(network.parameters()).dtype
    names = ("latents", "timesteps", "caption", "caption_mask", "camera_conditions", "chunk_plucker")
    velocity = network(*(inputs[name].to(dtype) if inputs[name].is_floating_point() else inputs[name]
                         for name in names), mask=mask)
    for hook in hooks:
        hook.remove()
    return velocity, after
