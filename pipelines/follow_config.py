"""Settings of `python -m pipelines.follow`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.evaluation.recovery import RecoveryConfig


@dataclass
class FollowConfig:
    """One video and the path it was made for."""

    video: str = "???"  # a video file
    camera: str = "???"  # an .npz with c2w (F, 4, 4) and intrinsics (F, 4) in pixels of the video's frames,
    # such as the camera.npz beside a video of `python -m infer`
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("video", "camera"):
            if not Path(getattr(self, name)).is_file():
                raise ValueError(f"{name}={getattr(self, name)}: no such file")
        self.recovery.check()
