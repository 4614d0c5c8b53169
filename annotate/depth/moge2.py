"""MoGe-2 in a child process: depth in metres of single frames, sky left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotate.batches import Batches
from annotate.child.answer import check_shapes
from annotate.child.process import Child
from annotate.depth.maps import to_maps
from annotate.frames import Frames, gray_height, shrink
from annotate.learned import LearnedConfig, needs_of, start_child
from annotate.weights import Needs
from dataset.camera import fov_deg
from dataset.clip import DepthMaps


class Moge2Engine:
    """`annotate.depth.engine.MetricDepthEngine`. A known field of view is passed on: else the network guesses
    one, and its scale goes with it."""

    name = "moge2"
    version = "1"

    def __init__(self, learned: LearnedConfig, width: int) -> None:
        self._learned = learned
        self._width = width
        self._batches = Batches(learned.batch_size)
        self._child: Child | None = None

    def needs(self) -> list[Needs]:
        return [needs_of(self.name, self._learned)]

    def close(self) -> None:
        """End the engine's process, if there is one."""
        if self._child is not None:
            self._child.close()

    def estimate(self, frames: Frames, chosen: Sequence[int], intrinsics: np.ndarray | None) -> DepthMaps:
        if self._child is None:
            self._child = start_child(self.name, self._learned)
        width = min(self._width, frames.size[1])
        size = (gray_height(frames.size, width), width)
        fov = None if intrinsics is None else fov_deg(intrinsics, frames.size)[0]

        def ask(batch: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
            assert self._child is not None
            request = {"rgb": np.stack([shrink(frames.rgb(k), size) for k in batch])}
            if fov is not None:
                request["fov_x_deg"] = fov[list(batch)]
            found, _ = self._child.ask(request, {}, self._learned.limit_s)
            check_shapes(found, {"depth": (len(batch), *size), "intrinsics": (len(batch), 4)}, self.name)
            return list(zip(found["depth"], found["intrinsics"]))

        maps, columns = zip(*self._batches.run(ask, list(chosen)))
        return to_maps(np.stack(maps), np.stack(columns), chosen, self.name)
