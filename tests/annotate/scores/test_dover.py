"""What DOVER sees of a clip, and what becomes of its two numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from videos import clip, noise

from annotate.learned import LearnedConfig
from annotate.scores import dover
from annotate.scores.config import ScoresConfig
from annotate.scores.dover import DoverStage


def test_chunks_are_whole_and_the_rest_is_left_out():
    assert dover.chunks(161, 16) == [range(0, 80), range(80, 160)]
    assert dover.chunks(961, 16)[-1] == range(880, 960) and len(dover.chunks(961, 16)) == 12
    assert dover.chunks(41, 16) == [range(0, 41)] and dover.chunks(0, 16) == []


def test_views_of_a_chunk_take_the_frames_they_should():
    technical = np.array(dover.technical_frames(range(80, 160))).reshape(3, 32)
    assert (np.diff(technical, axis=1) == 2).all()
    assert technical[:, 0].tolist() == [80, 88, 96] and technical[-1, -1] == 158
    assert dover.aesthetic_frames(range(80, 160)) == [81 + 2 * k for k in range(32)]
    for chunk in (range(5, 25), range(1)):
        frames = dover.technical_frames(chunk) + dover.aesthetic_frames(chunk)
        assert len(frames) == 128 and set(frames) <= set(chunk)


@pytest.mark.parametrize("size", [(720, 1280), (300, 230), (224, 224)])
def test_fragments_are_patches_of_the_frame_as_they_are(size):
    frame = noise(1, size)[0]
    taken = dover.fragments(frame)
    assert taken.shape == (224, 224, 3)
    cell = size[0] // 7, size[1] // 7
    for row in range(7):
        for column in range(7):
            patch = taken[32 * row:32 * row + 32, 32 * column:32 * column + 32]
            top, left = (cell[a] * k + (cell[a] - 32) // 2 for a, k in enumerate((row, column)))
            assert np.array_equal(patch, frame[top:top + 32, left:left + 32])


def test_a_small_frame_is_enlarged_first():
    assert dover.fragments(noise(1, (100, 180))[0]).shape == (224, 224, 3)
    assert (dover.fragments(np.full((50, 60, 3), 7, np.uint8)) == 7).all()


def test_scores_lie_between_0_and_1_and_an_average_video_in_the_middle():
    assert dover.fused(0.1107, -0.08285) == pytest.approx(
        {"dover": 0.5, "dover_technical": 0.5, "dover_aesthetic": 0.5})
    one = dover.fused(0.1107 + 0.07355, -0.08285)  # technical quality one deviation above
    assert one["dover_technical"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert one["dover"] == pytest.approx(1 / (1 + np.exp(-0.6104)))
    assert dover.fused(-1e9, -1e9)["dover"] == pytest.approx(0, abs=1e-9)


class Recorded(DoverStage):
    """DOVER's signature: a view (n, 3, 32, 224, 224) by name in, a list of one map of scores out."""

    def load(self):
        import torch

        self.seen = []

        def network(views):
            [(name, video)] = views.items()
            self.seen.append((name, tuple(video.shape)))
            assert video.dtype == torch.float32
            value = video.mean(dim=(1, 2, 3, 4), keepdim=True) * (0.1 if name == "technical" else 0.05)
            return [value.expand(-1, 1, 16, 7, 7)]

        return network


def test_a_clip_has_the_mean_over_its_chunks_without_the_rest():
    frames = noise(90, (230, 260))
    stage = Recorded(ScoresConfig(dover=True), LearnedConfig(device="cpu", batch_size=2))
    stage.setup()
    fields = stage.process(clip(frames)).fields
    assert stage.seen == [("technical", (2, 3, 32, 224, 224)), ("technical", (1, 3, 32, 224, 224)),
                          ("aesthetic", (1, 3, 32, 224, 224))]
    assert "S-Lab" in fields.pop("engine_licences")
    assert set(fields) == {"dover", "dover_technical", "dover_aesthetic"}
    assert fields["dover"] == stage.process(clip(frames[:80])).fields["dover"]
    assert all(0 < value < 1 for value in fields.values())
