"""The whole network in one pass, its residual stream after every block, without camera, and clamped."""

from torch import Tensor

from model.config import CameraClamp
from model.dit import SanaWM
from model.mask import Mask
from tests.golden.dit_tiny_weights import load_network
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-5
_INPUTS = ("latents", "timesteps", "caption", "caption_mask", "camera_conditions", "chunk_plucker")


def check(fixture: Fixture) -> list[Comparison]:
    network = load_network(fixture.network_weights())
    mask = Mask(tuple(fixture.metadata.get("chunk_starts", (0,))))
    velocity, after = trace(network, fixture, mask)
    found = [Comparison("out.velocity", velocity, fixture["out.velocity"], _TOLERANCE)]
    found += [Comparison(key, after[int(key.removeprefix("mid.block"))], expected, _TOLERANCE)
              for key, expected in fixture.tensors.items() if key.startswith("mid.block")]
    if "out.velocity_no_camera" in fixture:
        plain = network(*(fixture[f"in.{name}"] for name in _INPUTS[:4]), mask=mask)
        found.append(Comparison("out.velocity_no_camera", plain, fixture["out.velocity_no_camera"],
                                _TOLERANCE))
    for kinds in ("softmax", "both"):
        if f"var.rms_clamp_{kinds}.velocity" in fixture:
            clamp: CameraClamp = "softmax" if kinds == "softmax" else "all"
            clamped = load_network(fixture.network_weights(), camera_clamp=clamp)
            found.append(Comparison(f"var.rms_clamp_{kinds}.velocity", trace(clamped, fixture, mask)[0],
                                    fixture[f"var.rms_clamp_{kinds}.velocity"], _TOLERANCE))
    return found


def trace(network: SanaWM, fixture: Fixture, mask: Mask) -> tuple[Tensor, list[Tensor]]:
    """The velocity, and the residual stream (B, N, d) after every block."""
    after: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _, __, x: after.append(x.flatten(1, 2)))
             for block in network.blocks]
    velocity = network(*(fixture[f"in.{name}"] for name in _INPUTS), mask=mask)
    for hook in hooks:
        hook.remove()
    return velocity, after
