"""The text detector's adapter on a network made here, which takes whatever is bright for text."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from videos import clip

from annotate.learned import LearnedConfig
from annotate.scores.config import ScoresConfig
from annotate.scores.text import TextStage
from annotate.weights import EngineMissing, prepare


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def tensor(name: str, array: np.ndarray) -> bytes:
    body = b"".join(field(1, side) for side in array.shape)
    return body + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def value_info(name: str, shape: list[int]) -> bytes:
    sides = b"".join(field(1, field(1, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sides)))


def node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind) + attributes


def attribute(name: str, values: list[int]) -> bytes:
    return field(5, field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7))


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """ONNX: sigmoid of the sum of the three channels, scaled so that white gives 1 and grey 0."""
    weight = np.full((1, 3, 1, 1), 20.0)
    graph = (
        field(1, node("Conv", ["x", "w", "b"], "y", attribute("kernel_shape", [1, 1])))
        + field(1, node("Sigmoid", ["y"], "p")) + field(2, "bright")
        + field(5, tensor("w", weight)) + field(5, tensor("b", np.array([-10.0])))
        + field(11, value_info("x", [1, 3, 736, 736])) + field(12, value_info("p", [1, 1, 736, 736])))
    model = field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))
    path = tmp_path_factory.mktemp("text") / "bright.onnx"
    path.write_bytes(model)
    return path


def test_the_share_of_the_picture_within_boxes(detector):
    stage = TextStage(ScoresConfig(text=True, text_weights=str(detector)), LearnedConfig(device="cpu"))
    prepare([stage])
    stage.setup()
    frames = np.full((17, 180, 320, 3), 60, np.uint8)
    fields = stage.process(clip(frames)).fields
    assert fields["text_share"] == 0.0 and "Apache-2.0" in fields["engine_licences"]
    for frame in frames:
        cv2.rectangle(frame, (120, 80), (199, 95), (255, 255, 255), -1)
    share = stage.process(clip(frames)).fields["text_share"]
    width, height = 80 * 736 / 320, 16 * 736 / 180
    grow = width * height / (width + height)  # the network marks the middle of lines
    assert share == pytest.approx((width + 2 * grow) * (height + 2 * grow) / 736**2, rel=0.02)
    assert stage.resources.num_gpus == 0


def test_missing_weights_are_said_before_the_run(tmp_path):
    with pytest.raises(EngineMissing, match="holds no"):
        prepare([TextStage(ScoresConfig(text=True, text_weights=str(tmp_path)), LearnedConfig())])
