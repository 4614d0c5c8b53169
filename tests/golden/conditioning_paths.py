"""Timesteps, caption and null caption to vectors; cross-attention with and without mask; the final layer."""

from dataclasses import replace

from torch import Tensor

from model.dit import SanaWM
from tests.golden.dit_tiny_weights import config_of
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 2e-6


def check(fixture: Fixture) -> list[Comparison]:
    network = SanaWM(replace(config_of(fixture), depth=1, softmax_blocks=()))
    unexpected = network.load_state_dict(fixture.under("w."), strict=False).unexpected_keys
    assert not unexpected, f"no place for {unexpected}"
    inputs = fixture.under("in.")
    x, mask = inputs["x"], inputs["caption_mask"]
    level, text = network.t_embedder(inputs["timesteps"]), network.text(inputs["caption"])
    small = network.text(inputs["caption"] * 0.01)
    frames = network.t_embedder(inputs["final_timesteps"])[None].expand(len(x), -1, -1)

    def cross(x: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        return network.blocks[0].cross_attn(x[:, None], text, network.text_bias(mask))[:, 0]

    def final(x: Tensor) -> Tensor:
        return network.final_layer(x.unflatten(1, (frames.shape[1], -1)), frames).flatten(1, 2)

    values = {
        "t_embedding": level, "t_block": network.t_block(level),
        "text_tokens": text, "text_tokens_small": small,
        "null_text_tokens": network.text(network.y_embedder.y_embedding[None]),
        "cross_attention": cross(x, text, mask), "cross_attention_unmasked": cross(x, text, None),
        "cross_attention_small": cross(x * 0.01, text * 0.01, mask),
        "final_layer": final(x), "final_layer_small": final(x * 0.001),
    }
    return [Comparison(f"out.{key}", value, fixture[f"out.{key}"], _TOLERANCE)
            for key, value in values.items()]
