"""How much of the picture is text: a text detector (DB, PP-OCR's by default) that OpenCV runs on the CPU."""

from __future__ import annotations

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
_IS_TEXT, _SURE = 0.3, 0.5  # probability of a pixel, and mean probability of a line
_LEAST_SIDE = 3  # pixels
_GROWTH = 2.0


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
    """The network of an ONNX file, (1, 3, 736, 736) RGB to the probability of text (1, 1, 736, 736)."""
    return cv2.dnn.readNetFromONNX(path)


def text_share(network: Any, frame: np.ndarray) -> float:
    """The part of a frame (h, w, 3) RGB uint8 that lies within boxes of text."""
    network.setInput(cv2.dnn.blobFromImage(frame, 1 / 255, (SIDE, SIDE), _MEAN))
    likely = np.asarray(network.forward(), np.float32).reshape(SIDE, SIDE)
    return float(text_boxes(likely).mean())


def text_boxes(likely: np.ndarray) -> np.ndarray:
    """(h, w) of 0 and 1: upright boxes around what is text by its probability (h, w) float32.

    The network marks the kernels of lines; a kernel of area A and perimeter L grows by 2 A / L on all sides,
    as differentiable binarisation has it (Liao et al., AAAI 2020).
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((likely > _IS_TEXT).astype(np.uint8))
    sums = np.bincount(labels.ravel(), likely.ravel(), count)
    boxes = np.zeros(likely.shape, np.uint8)
    for label in range(1, count):
        left, top, width, height, area = stats[label].tolist()
        if min(width, height) < _LEAST_SIDE or sums[label] < _SURE * area:
            continue
        grow = round(_GROWTH * width * height / (2 * (width + height)))
        boxes[max(0, top - grow):top + height + grow, max(0, left - grow):left + width + grow] = 1
    return boxes
