"""DiFix as a child of `annotate.child.process`: repairs drawn frames one by one, in its own environment.

Interface as in the README of nv-tlabs/Difix3D: `src/pipeline_difix.py` has `DifixPipeline`, a diffusers
pipeline that takes a prompt, a PIL image, one step at time 199 and no guidance. Python 3.10; the standard
library, numpy and what DiFix3D requires.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

PROMPT = "remove degradation"
_STEP = 199
_MULTIPLE = 8  # of its image sides


def load(settings: dict[str, Any]) -> Any:
    """An engine for requests {"rgb" (n, h, w, 3) uint8}; it answers with the same."""
    sys.path.insert(0, str(Path(settings["repository"]) / "src"))
    from PIL import Image
    from pipeline_difix import DifixPipeline

    pipeline = DifixPipeline.from_pretrained(settings["model"], trust_remote_code=True)
    pipeline = pipeline.to(settings["device"])
    pipeline.set_progress_bar_config(disable=True)

    def engine(
        arrays: dict[str, np.ndarray], meta: dict[str, Any],
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        height, width = arrays["rgb"].shape[1:3]
        beyond = ((0, 0), (0, -height % _MULTIPLE), (0, -width % _MULTIPLE), (0, 0))
        repaired = []
        for rgb in np.pad(arrays["rgb"], beyond, mode="edge"):
            found = pipeline(PROMPT, image=Image.fromarray(rgb), num_inference_steps=1, timesteps=[_STEP],
                             guidance_scale=0.0).images[0]
            if found.size != (rgb.shape[1], rgb.shape[0]):
                found = found.resize((rgb.shape[1], rgb.shape[0]), Image.Resampling.LANCZOS)
            repaired.append(np.asarray(found.convert("RGB"))[:height, :width])
        return {"rgb": np.stack(repaired)}, {}

    return engine
