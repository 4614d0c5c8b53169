"""Settings of the learned scores; which device they run on says `learned`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FlowNetwork(StrEnum):
    """Which network estimates optical flow, beside the embedded one."""

    none = "none"
    raft = "raft"
    unimatch = "unimatch"


@dataclass
class ScoresConfig:
    """Learned scores; each is absent where its network is off."""

    flow: FlowNetwork = FlowNetwork.none  # none; raft (torchvision) for flow_raft, unimatch for
    # flow_unimatch
    raft_weights: str | None = None  # file of raft_large's weights; null: torchvision fetches its own,
    # before the run
    unimatch_code: str | None = None  # folder of a checkout of github.com/autonomousvision/unimatch
    unimatch_weights: str | None = None  # file gmflow-scale2-regrefine6-mixdata of its model zoo
    dover: bool = False  # dover, dover_technical and dover_aesthetic
    dover_weights: str = "teowu/DOVER"  # folder, file or hub id of DOVER.pth
    aesthetic: bool = False  # aesthetic, and embedding for the search for near-duplicates
    clip_weights: str = "openai/clip-vit-large-patch14"  # folder or hub id of the CLIP behind it
    aesthetic_weights: str = "shunk031/aesthetics-predictor-v2-sac-logos-ava1-l14-linearMSE"  # folder, file
    # or hub id of the layers that make a score of its embedding
    text: bool = False  # text_share
    text_weights: str = "opencv/text_detection_ppocr"  # folder, file or hub id of a text detector as ONNX
    sample_s: float = 1.0  # seconds between the frames that aesthetic and text look at

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        self.flow = FlowNetwork(self.flow)
        if self.sample_s <= 0:
            raise ValueError(f"scores.sample_s={self.sample_s:g}, allowed more than 0")
        if self.flow == FlowNetwork.unimatch and self.unimatch_weights is None:
            raise ValueError("scores.flow=unimatch needs scores.unimatch_weights; MODEL_ZOO.md in its "
                             "repository links to them")
