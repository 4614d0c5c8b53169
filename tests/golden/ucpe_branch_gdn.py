"""Attention of one block with its camera: ray frames, discount, contribution, output, and the clamp."""

from tests.golden.fixture import Comparison, Fixture
from tests.golden.gdn_attention_block import Watched

TOLERANCE = 2e-5


def check(fixture: Fixture, tolerance: float = TOLERANCE) -> list[Comparison]:
    watched = Watched(fixture, camera=True)
    values = {"out.y": watched.run(), "out.y_chunk_causal": watched.run(chunks=True)}
    values |= watched.on_the_way()
    values["var.rms_clamp.y"] = Watched(fixture, camera=True, clamp="all").run()
    # The file holds the mean growth of a frame's keys; beta is divided by it where it exceeds one.
    return [Comparison(key, value, fixture[key].clamp(min=1) if key == "mid.beta_discount" else fixture[key],
                       tolerance) for key, value in values.items() if key in fixture]
