"""Optional repair of drawn frames by DiFix, in a process and an environment of its own.

It invents detail frame by frame, which need not move as the camera does: whether the cameras still fit is
asked of every clip by the pose stage's self-check.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from annotate.child.process import Child
from annotate.splats.config import RefineConfig
from annotate.splats.scene import SceneError

_FRAMES = 8
"""Sent at once."""
_ENGINE = str(Path(__file__).with_name("difix.py"))


def check_refine(config: RefineConfig) -> None:
    """Raises ValueError, with what to install, where DiFix cannot be started."""
    if config.repository is None:
        return
    code = Path(config.repository).expanduser() / "src" / "pipeline_difix.py"
    if not code.is_file():
        raise ValueError(f"source.splats.refine.repository={config.repository}: no {code}; clone "
                         "https://github.com/nv-tlabs/Difix3D there")
    if shutil.which(str(Path(config.python).expanduser())) is None:
        raise ValueError(f"source.splats.refine.python={config.python}: no such interpreter; make a virtual "
                         "environment and install DiFix3D's requirements.txt into it")


def repaired(frames: Iterable[np.ndarray], config: RefineConfig) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8, each repaired. Raises SceneError where that fails."""
    assert config.repository is not None
    child = _child(str(Path(config.repository).expanduser()), config.python, config.model, config.device)
    waiting = iter(frames)
    while some := list(islice(waiting, _FRAMES)):
        rgb = np.stack(some)
        try:
            found = child.ask({"rgb": rgb}, {}, config.time_limit_s)[0].get("rgb")
        except RuntimeError as error:  # it died, hung, raised, or ran out of memory
            raise SceneError("refine_failed", str(error)) from None
        if found is None or found.shape != rgb.shape or found.dtype != np.uint8:
            what = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise SceneError("refine_failed", f"DiFix answered {what}, expected uint8 {rgb.shape}")
        yield from found


@lru_cache(maxsize=1)  # loading it takes longer than a video
def _child(repository: str, python: str, model: str, device: str) -> Child:
    return Child(_ENGINE, {"repository": repository, "model": model, "device": device}, python)
