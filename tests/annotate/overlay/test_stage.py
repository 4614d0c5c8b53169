import json
from fractions import Fraction

import numpy as np
import pytest

from annotate.frames import ArrayFrames
from annotate.overlay.stage import OverlayConfig, OverlayStage
from annotate.stage import Clip
from dataset.clip import ClipRecord, Kind


class Video(ArrayFrames):
    fps = Fraction(16)


def clip(frames: np.ndarray) -> Clip:
    return Clip(ClipRecord("c", "v", Kind.CLIP), {}, Video(frames))


def test_share_and_boxes_are_stored_or_absent():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (64, 90, 160), dtype=np.uint8)
    stage = OverlayStage()
    assert stage.process(clip(frames)).fields == {"overlay_share": 0.0, "overlay_boxes": "[]"}
    frames[:, 10:40, 20:70] = np.kron(rng.integers(0, 2, (6, 10)), np.ones((5, 5))) * 250
    fields = stage.process(clip(frames)).fields
    assert 0.05 < fields["overlay_share"] < 0.25 and len(json.loads(fields["overlay_boxes"])) == 1
    still = np.repeat(frames[:1], 64, axis=0)
    assert stage.process(clip(still)).fields == {"overlay_share": None, "overlay_boxes": None}
    off = OverlayStage(OverlayConfig(enabled=False))
    assert off.process(clip(frames)).fields == {} and off.gray_widths((90, 160)) == []


@pytest.mark.parametrize(("settings", "key"), [({"every_s": 0.0}, "every_s"), ({"width": 20}, "width")])
def test_wrong_settings_are_refused(settings, key):
    with pytest.raises(ValueError, match=f"overlay.{key}"):
        OverlayStage(OverlayConfig(**settings))
