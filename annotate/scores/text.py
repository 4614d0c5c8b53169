"""How much of the picture is text: a text detector (DB, PP-OCR's by default) that OpenCV runs on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from annotate.learned import LearnedConfig
from annotate.scores.config import ScoresConfig
from annotate.scores.stage import ScoreStage, every
from annotate.stage import Clip, Resources
from annotate.weights import Needs, locate

FILE = "text_detection_en_ppocrv3_2023may.onnx"
SIDE = 736  # of what the detector sees; a multiple of 32
_MEAN = (122.67891434, 116.66876762, 104.00698793)  # RGB, as it was trained with


class TextStage(ScoreStage):
    """Scores `text_share`: the part of sampled frames that lies within boxes of text."""

    name = "text"

    def __init__(self, config: ScoresConfig, learned: LearnedConfig) -> None:
        super().__init__(config, learned)
        self.resources = Resources(num_cpus=1.0)

    def needs(self) -> list[Needs]:
        return [Needs("text", "Apache-2.0", "", weights=self._config.text_weights, file=FILE)]

    def settings(self) -> dict[str, Any]:
        return {"weights": self._config.text_weights, "sample_s": self._config.sample_s}

    def load(self) -> Any:
        return load_detector(str(locate(self._config.text_weights, FILE, "text")))

    def score(self, clip: Clip) -> dict[str, Any]:
        frames = (clip.frames.rgb(index) for index in every(clip, self._config.sample_s))
        return {"text_share": float(np.mean([text_share(self._network, frame) for frame in frames]))}


def load_detector(path: str) -> Any:
    """The detector of an ONNX file, as OpenCV runs it."""
    detector = cv2.dnn.TextDetectionModel_DB(path)
    detector.setBinaryThreshold(0.3)
    detector.setPolygonThreshold(0.5)
    detector.setMaxCandidates(200)
    detector.setUnclipRatio(2.0)
    detector.setInputParams(1 / 255, (SIDE, SIDE), _MEAN, swapRB=False)
    return detector


def text_share(detector: Any, frame: np.ndarray) -> float:
    """The part of a frame (h, w, 3) RGB uint8 that lies within boxes of text."""
    seen = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    boxes: Sequence[Any] = detector.detect(seen)[0]
    covered = np.zeros((SIDE, SIDE), np.uint8)
    for box in boxes:
        cv2.fillPoly(covered, [np.asarray(box, np.int32).reshape(-1, 2)], 1)
    return float(covered.mean())
