"""Main branch of one block from the modulated stream to the output projection, with its values on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.attention import Attention
from model.camera import Rays
from model.config import CameraClamp
from model.gdn_prepare import key_growth
from model.mask import Mask
from model.positions import Positions, make_positions
from tests.golden.dit_tiny_weights import config_of
from tests.golden.fixture import Comparison, Fixture

TOLERANCE = 2e-6


def check(fixture: Fixture) -> list[Comparison]:
    watched = Watched(fixture, camera=False)
    values = {"out.y": watched.run(), "out.y_chunk_causal": watched.run(chunks=True),
              "out.y_small": watched.run(divide_by=100)}
    values |= watched.on_the_way()
    return [Comparison(key, value, fixture[key], TOLERANCE)
            for key, value in values.items() if key in fixture]


class Watched:
    """One block's attention, with the file's weights."""

    def __init__(self, fixture: Fixture, camera: bool, clamp: CameraClamp = "none",
                 dtype: torch.dtype = torch.float32) -> None:
        about = fixture.metadata
        config = replace(config_of(fixture), camera_clamp=clamp)
        self.fixture, self.camera, self.dtype = fixture, camera, dtype
        self.attention = Attention(config, softmax=int(about["block_index"]) in config.softmax_blocks)
        report = self.attention.load_state_dict(fixture.under("w."), strict=False)
        absent = [name for name in report.missing_keys if camera or "_cam" not in name]
        assert not report.unexpected_keys, f"no place for {report.unexpected_keys}"
        assert not absent, f"the file has no {absent}"
        self.attention.to(dtype).requires_grad_(False)
        self.x = fixture["in.x"].to(dtype).unflatten(1, (about["grid"][0], -1))

    def run(self, chunks: bool = False, divide_by: float = 1.0) -> Tensor:
        """The block's attention (B, N, d)."""
        return self.attention(self.x / divide_by, self.positions(chunks)).flatten(1, 2)

    def positions(self, chunks: bool = False) -> Positions:
        about = self.fixture.metadata
        mask = Mask(tuple(about["chunk_starts"])) if chunks else Mask()
        conditions = self.fixture["in.camera_conditions"] if self.camera else None
        return make_positions(tuple(about["grid"]), self.attention.config.head_width, self.dtype,
                              conditions, mask)

    def on_the_way(self) -> dict[str, Tensor]:
        """What passes between the parts of one bidirectional run, by the names of the files."""
        seen: dict[str, Any] = {}
        attention, positions = self.attention, self.positions()
        hooks = [attention.out_proj_cam.register_forward_hook(
            lambda _, inputs, output: seen.update({"mid.cam_before_out_proj": inputs[0],
                                                   "mid.cam_contribution": output}))]
        if attention.conv_k is not None:
            hooks.append(attention.conv_k.register_forward_hook(
                lambda _, inputs, output: seen.update({"mid.k_after_conv": output})))
        gated = attention._gated
        attention._gated = lambda mixed, gate: seen.update(mixed=mixed) or gated(mixed, gate)  # type: ignore
        self.run()
        del attention._gated
        for hook in hooks:
            hook.remove()
        contribution = seen.get("mid.cam_contribution", 0)
        seen["mid.main_raw"] = seen.pop("mixed") - contribution
        if attention.conv_k is not None:
            keys = attention.qkv(self.x).chunk(3, -1)[1]
            seen["mid.k_after_conv_chunk_causal"] = attention.conv_k(keys, self.positions(chunks=True).mask)
        values = {name: value.flatten(1, 2) for name, value in seen.items()}
        if positions.rays is not None:
            values["mid.ray_from_world"] = positions.rays.from_world.flatten(1, 2)
        if not attention.softmax:
            values["mid.beta"], values["mid.decay"] = attention.gates(self.x, None)
            if positions.rays is not None:
                values["mid.beta_discount"] = self._discount(positions.rays)
        return values

    def _discount(self, rays: Rays) -> Tensor:
        """What beta is divided by (B, T, h)."""
        attention = self.attention
        assert attention.conv_k_cam is not None
        keys = attention.conv_k_cam(attention.k_proj_cam(self.x), Mask())
        keys = attention.k_norm_cam(keys, attention.config.scaled_key(keys.shape[2])).relu()
        keys = keys.unflatten(-1, (attention.config.heads, -1))
        return key_growth(keys, rays.keys(keys))[:, :, 0]
