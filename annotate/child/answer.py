"""What an engine may answer: shapes and numbers, checked before anything is built on them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from annotate.child.process import ChildFailed
from dataset.camera import check_c2w


def check_shapes(found: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raise ChildFailed unless the answer holds floats of these shapes under these names."""
    for key, shape in shapes.items():
        if key not in found or found[key].shape != shape or found[key].dtype.kind != "f":
            what = f"{found[key].dtype} {found[key].shape}" if key in found else "nothing"
            raise ChildFailed(f"{name} answered {what} as {key}, expected floats {shape}")


def checked_cameras(found: Mapping[str, np.ndarray], count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Cameras (F, 4, 4) and intrinsics (F, 4) of an answer. Raises ChildFailed for what no camera can be."""
    check_shapes(found, {"c2w": (count, 4, 4), "intrinsics": (count, 4)}, name)
    try:
        c2w = check_c2w(found["c2w"], f"{name}'s cameras")
    except ValueError as error:
        raise ChildFailed(str(error).splitlines()[0]) from None
    intrinsics = found["intrinsics"].astype(np.float64)
    if not (np.isfinite(intrinsics).all() and (intrinsics[:, :2] > 0).all()):
        raise ChildFailed(f"{name} answered focal lengths that are not positive numbers")
    return c2w, intrinsics
