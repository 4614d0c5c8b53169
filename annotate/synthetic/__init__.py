"""Our own renderer: textured rooms and streets seen by a moving camera, with exact cameras and depth."""

from annotate.synthetic.spec import SyntheticSpec, demo_items
from annotate.synthetic.video import SyntheticTruth, render_frames, render_sequence, render_video

__all__ = [
    "SyntheticSpec", "SyntheticTruth", "demo_items", "render_frames", "render_sequence", "render_video",
]
