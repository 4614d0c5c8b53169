"""Optical flow by RAFT (torchvision) or UniMatch, behind the interface of the embedded flow.

Measured where and as the embedded one is (`annotate.quality.stage`), but in colour.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from annotate.batches import Batches
from annotate.frames import shrink
from annotate.learned import LearnedConfig
from annotate.quality.stage import FLOW_SIZE
from annotate.scores.config import FlowNetwork, ScoresConfig
from annotate.scores.stage import ScoreStage, every
from annotate.stage import Clip
from annotate.weights import EngineMissing, Needs, locate

STEP_S, UNTIL_S = 0.5, 60.0
_TORCHVISION = "run `pip install torchvision==0.28.*` (on Linux with CUDA)"
_UNIMATCH_SHAPE = {"num_scales": 2, "feature_channels": 128, "upsample_factor": 4, "num_head": 1,
                   "ffn_dim_expansion": 4, "num_transformer_layers": 6, "reg_refine": True, "task": "flow"}
_UNIMATCH_CALL = {"attn_type": "swin", "attn_splits_list": [2, 8], "corr_radius_list": [-1, 4],
                  "prop_radius_list": [-1, 1], "num_reg_refine": 6, "task": "flow"}

Images = Any
"""(B, 3, h, w) float32 RGB in 0..255, on the network's device."""


class NetworkFlow:
    """A network as a `FlowEngine`; `flow` maps two Images to the flow (B, 2, h, w) in pixels."""

    def __init__(self, column: str, flow: Callable[[Images, Images], Any], device: str, batch: int) -> None:
        self.column = column
        self._flow, self._device, self._batches = flow, device, Batches(batch)

    def magnitude(self, before: np.ndarray, after: np.ndarray) -> float:
        """Mean length of the flow between two images (h, w[, 3]) uint8."""
        return self.magnitudes([(before, after)])[0]

    def magnitudes(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """The same for pairs of images of one size; memory that runs out halves the batch."""
        return self._batches.run(self._measure, pairs)

    def _measure(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        import torch

        sides = []
        for side in zip(*pairs):
            images = np.stack([image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
                               for image in side])
            sides.append(torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float())
        with torch.inference_mode():
            flow = self._flow(*sides)
        if flow.shape != (len(pairs), 2, *sides[0].shape[2:]):
            raise ValueError(f"{self.column}: the network gave flow of shape {tuple(flow.shape)} for images "
                             f"of {tuple(sides[0].shape)}")
        return flow.float().norm(dim=1).mean(dim=(1, 2)).tolist()


class FlowStage(ScoreStage):
    """Scores `flow_raft` or `flow_unimatch`: mean |flow| over and every half second, in 320 x 576 pixels."""

    name = "flow"

    def __init__(self, config: ScoresConfig, learned: LearnedConfig) -> None:
        super().__init__(config, learned)
        if config.flow == FlowNetwork.unimatch:
            check_unimatch(config.unimatch_code)
        elif config.flow == FlowNetwork.none:
            raise ValueError("scores.flow=none: there is no network to measure with; allowed: raft, unimatch")

    def needs(self) -> list[Needs]:
        if self._config.flow == FlowNetwork.raft:
            return [Needs("raft", "BSD-3-Clause (torchvision)", _TORCHVISION, ("torchvision",),
                          weights=self._config.raft_weights, fetch=_fetch_raft)]
        return [Needs("unimatch", "MIT", "", weights=self._config.unimatch_weights)]

    def settings(self) -> dict[str, Any]:
        return {"flow": str(self._config.flow), "raft": self._config.raft_weights,
                "unimatch": self._config.unimatch_weights}

    def load(self) -> NetworkFlow:
        build = raft if self._config.flow == FlowNetwork.raft else unimatch
        flow = build(self._config, self._learned.device)
        return NetworkFlow(f"flow_{self._config.flow}", flow, self._learned.device, self._learned.batch_size)

    def score(self, clip: Clip) -> dict[str, Any]:
        height, width = clip.frames.size
        size = FLOW_SIZE if width >= height else FLOW_SIZE[::-1]
        images = [shrink(clip.frames.rgb(index), size) for index in every(clip, STEP_S, UNTIL_S)]
        found = self._network.magnitudes(list(pairwise(images)))
        return {self._network.column: float(np.mean(found)) if found else None}


def raft(config: ScoresConfig, device: str) -> Callable[[Images, Images], Any]:
    """RAFT, large, by torchvision."""
    import torch
    from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

    if config.raft_weights is None:
        network = raft_large(weights=Raft_Large_Weights.C_T_SKHT_V2)
    else:
        network = raft_large(weights=None)
        network.load_state_dict(torch.load(locate(config.raft_weights, None, "raft"), weights_only=True))
    return raft_flow(network.eval().to(device))


def _fetch_raft() -> None:
    from torchvision.models.optical_flow import Raft_Large_Weights

    Raft_Large_Weights.C_T_SKHT_V2.get_state_dict(progress=False, check_hash=True)


def raft_flow(network: Any) -> Callable[[Images, Images], Any]:
    """Flow by a RAFT: images in -1..1, the last of its refinements."""
    return lambda before, after: network(before / 127.5 - 1, after / 127.5 - 1)[-1]


def unimatch(config: ScoresConfig, device: str) -> Callable[[Images, Images], Any]:
    """GMFlow of UniMatch, two scales and six refinements, from a checkout."""
    import torch

    assert config.unimatch_code is not None and config.unimatch_weights is not None
    sys.path.insert(0, str(Path(config.unimatch_code).expanduser()))
    try:
        from unimatch.unimatch import UniMatch  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    network = UniMatch(**_UNIMATCH_SHAPE)
    states = torch.load(locate(config.unimatch_weights, None, "unimatch"), weights_only=True)
    network.load_state_dict(states.get("model", states))
    return unimatch_flow(network.eval().to(device))


def unimatch_flow(network: Any) -> Callable[[Images, Images], Any]:
    """Flow by a UniMatch, which takes 0..255 and gives every stage's flow."""
    return lambda before, after: network(before, after, **_UNIMATCH_CALL)["flow_preds"][-1]


def check_unimatch(code: str | None) -> None:
    """Raise EngineMissing unless the folder is a checkout of UniMatch."""
    if code is None or not (Path(code).expanduser() / "unimatch/unimatch.py").is_file():
        raise EngineMissing(f"scores.unimatch_code={code}: holds no unimatch/unimatch.py; run `git clone "
                            "https://github.com/autonomousvision/unimatch` and give its folder")
