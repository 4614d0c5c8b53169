"""The feed-forward part: whole, chunk-causal, and chunk by chunk with the tail it carries."""

from itertools import pairwise

import torch

from model.cache import LayerState, ScanState
from model.ffn import MixFFN
from model.mask import Mask
from tests.golden.dit_tiny_weights import config_of
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 3e-6


def check(fixture: Fixture) -> list[Comparison]:
    config, (frames, *size) = config_of(fixture), fixture.metadata["grid"]
    ffn = MixFFN(config.width, config.ffn_width)
    ffn.load_state_dict(fixture.under("w."), strict=True)
    x = fixture["in.x"].unflatten(1, (frames, -1))
    starts = tuple(fixture.metadata["chunk_starts"])
    cache, streamed, tails = LayerState(ScanState(), ScanState()), [], []
    for start, end in pairwise([*starts, frames]):
        streamed.append(ffn(x[:, start:end], tuple(size), Mask(), cache=cache, write=True))
        tails.append(cache.ffn_tail)
    values = {"out.y": ffn(x, tuple(size), Mask()).flatten(1, 2),
              "out.y_chunk_causal": ffn(x, tuple(size), Mask(starts)).flatten(1, 2),
              "out.y_chunk_causal streamed": torch.cat(streamed, 1).flatten(1, 2),
              "mid.tail_after_chunk0": tails[0]}
    return [Comparison(key, value, fixture[key.split(" ")[0]], _TOLERANCE) for key, value in values.items()]
