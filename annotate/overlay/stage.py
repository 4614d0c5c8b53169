"""The overlay stage: how much of a clip's picture lies under what stands still in it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from annotate.overlay.find import find_overlays
from annotate.pose.tracks import working_size
from annotate.stage import Clip, Resources, StageOutput


@dataclass
class OverlayConfig:
    """Logos, watermarks and text that stand still while the camera moves, found without weights."""

    enabled: bool = True  # look for them
    every_s: float = 0.25  # seconds between the frames that are compared
    width: int = 640  # of these frames; as pose.classical.width, it costs no decoding of its own

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if self.every_s <= 0:
            raise ValueError(f"overlay.every_s={self.every_s:g}, allowed more than 0")
        if self.width < 160:
            raise ValueError(f"overlay.width={self.width}, allowed 160 or more")


class OverlayStage:
    """Scores `overlay_share` and where the overlays are; None where a still camera lets nothing be said."""

    name = "overlay"
    version = "1"
    resources = Resources(num_cpus=1.0)

    def __init__(self, config: OverlayConfig | None = None) -> None:
        self._config = config or OverlayConfig()
        self._config.check()

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self._config)

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [working_size(size, self._config.width)[1]] if self._config.enabled else []

    def process(self, clip: Clip) -> StageOutput:
        if not self._config.enabled:
            return StageOutput()
        [width] = self.gray_widths(clip.frames.size)
        step = max(1, round(self._config.every_s * float(clip.frames.fps)))
        found = find_overlays(clip.frames.gray(width)[::step])
        boxes = [[round(edge, 4) for edge in box] for box in found.boxes]
        return StageOutput({"overlay_share": found.share,
                            "overlay_boxes": json.dumps(boxes) if found.share is not None else None})
