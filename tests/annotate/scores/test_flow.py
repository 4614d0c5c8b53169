"""The adapters of the flow networks, on networks of the recorded signatures whose flow is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from videos import clip, noise

from annotate.learned import LearnedConfig
from annotate.quality.stage import FLOW_SIZE, DisFlow
from annotate.scores.config import FlowNetwork, ScoresConfig
from annotate.scores.flow import FlowStage, NetworkFlow, raft_flow, unimatch_flow
from annotate.weights import EngineMissing


def shifted(before, after):
    """Flow (B, 2, h, w) whose length is the mean difference of the two images."""
    import torch

    length = (after - before).mean(dim=(1, 2, 3))
    flow = torch.stack([length, torch.zeros_like(length)], 1)
    return flow[..., None, None].expand(-1, -1, *before.shape[2:])


def pairs(count: int):
    """Images of which the second is brighter by 3, 4, 5, ..."""
    base = np.full((64, 96, 3), 50, np.uint8)
    return [(base, base + 3 + k) for k in range(count)]


def test_lengths_are_those_of_the_flow_whatever_the_batch():
    for batch in (1, 2, 8):
        engine = NetworkFlow("flow_raft", shifted, "cpu", batch)
        assert np.allclose(engine.magnitudes(pairs(5)), [3, 4, 5, 6, 7], atol=1e-4)
    assert np.isclose(engine.magnitude(*pairs(1)[0]), 3, atol=1e-4)
    assert np.isclose(engine.magnitude(*(image[..., 0] for image in pairs(1)[0])), 3, atol=1e-4)
    assert {"column", "magnitude"} <= set(dir(engine)) & set(dir(DisFlow()))  # the interface of the embedded


def test_memory_that_runs_out_halves_the_batch():
    import torch

    sizes = []

    def scarce(before, after):
        sizes.append(len(before))
        if len(before) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return shifted(before, after)

    assert np.allclose(NetworkFlow("flow_raft", scarce, "cpu", 8).magnitudes(pairs(5)), [3, 4, 5, 6, 7])
    assert sizes == [5, 2, 2, 1]


def test_raft_is_given_what_it_was_trained_with_and_its_last_refinement_counts():
    """Recorded from torchvision: (B, 3, H, W) in -1..1, sides multiples of 8; a list of flows."""
    import torch

    def raft(before, after):
        assert before.dtype == torch.float32 and before.abs().max() <= 1
        assert before.shape[1] == 3 and not (before.shape[2] % 8 or before.shape[3] % 8)
        return [torch.full_like(before[:, :2], 9.0), shifted(before, after) * 127.5]

    engine = NetworkFlow("flow_raft", raft_flow(raft), "cpu", 4)
    assert np.allclose(engine.magnitudes(pairs(2)), [3, 4], atol=1e-3)


def test_unimatch_is_given_what_it_was_trained_with():
    """Recorded from its `evaluate_flow.py` for two scales and six refinements."""
    def unimatch(before, after, attn_type, attn_splits_list, corr_radius_list, prop_radius_list,
                 num_reg_refine, task):
        assert (attn_type, attn_splits_list, corr_radius_list, prop_radius_list, num_reg_refine, task) == (
            "swin", [2, 8], [-1, 4], [-1, 1], 6, "flow")
        assert before.max() > 1  # 0..255: it normalises by itself
        return {"flow_preds": [before[:, :2], shifted(before, after)]}

    engine = NetworkFlow("flow_unimatch", unimatch_flow(unimatch), "cpu", 4)
    assert np.allclose(engine.magnitudes(pairs(2)), [3, 4], atol=1e-3)


def test_flow_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="flow of shape"):
        NetworkFlow("flow_raft", lambda a, b: a, "cpu", 2).magnitudes(pairs(1))


class Measured(FlowStage):
    """The stage on a network that is none, for neither has weights here."""

    seen: list[tuple[int, ...]]

    def load(self) -> NetworkFlow:
        self.seen = []

        def look(before, after):
            self.seen.append(tuple(before.shape))
            return shifted(before, after)

        return NetworkFlow(f"flow_{self._config.flow}", look, "cpu", 3)


@pytest.mark.parametrize(("size", "expected"), [((36, 64), FLOW_SIZE), ((64, 36), FLOW_SIZE[::-1])])
def test_the_stage_measures_every_half_second_at_the_size_of_the_embedded_flow(size, expected):
    frames = np.repeat(np.repeat(np.arange(33, dtype=np.uint8)[:, None, None, None], 3, 3), size[0], 1)
    frames = np.repeat(frames, size[1], 2)  # brighter by 8 every half second
    stage = Measured(ScoresConfig(flow=FlowNetwork.raft), LearnedConfig(device="cpu"))
    stage.setup()
    fields = stage.process(clip(frames)).fields
    assert fields["flow_raft"] == pytest.approx(8.0, abs=1e-3)
    assert "BSD-3-Clause" in fields["engine_licences"]
    assert stage.seen == [(3, 3, *expected), (1, 3, *expected)]
    assert stage.process(clip(noise(5, size))).fields["flow_raft"] is None
    assert stage.resources.num_gpus == 0
    assert FlowStage(ScoresConfig(flow=FlowNetwork.raft), LearnedConfig(gpus=0.25)).resources.num_gpus == 0.25


def test_what_is_missing_is_said_at_the_start(tmp_path):
    with pytest.raises(ValueError, match="unimatch_weights"):
        FlowStage(ScoresConfig(flow=FlowNetwork.unimatch), LearnedConfig())
    config = ScoresConfig(flow=FlowNetwork.unimatch, unimatch_weights="x.pth", unimatch_code=str(tmp_path))
    with pytest.raises(EngineMissing, match="git clone"):
        FlowStage(config, LearnedConfig())
