from dataclasses import dataclass
from enum import Enum
from typing import Any


class FrameAttribute(Enum):
    INTRINSICS = "intrinsics"
    METRIC_DEPTH = "metric_depth"


@dataclass(kw_only=True, slots=True)
class VideoFrame:
    raw_frame_idx: int
    rgb: Any
    camera_type: Any = None
    intrinsics: Any = None
    metric_depth: Any = None

    def size(self):
        return self.rgb.shape[0], self.rgb.shape[1]


class VideoStream:
    def attributes(self):
        return set()


class StreamProcessor:
    pass


class ProcessedVideoStream(VideoStream):
    def __init__(self, stream, processors):
        self.stream, self.processors = stream, processors

    def __len__(self):
        return len(self.stream)

    def __iter__(self):
        for index, frame in enumerate(self.stream):
            for processor in self.processors:
                frame = processor(index, frame)
            yield frame

    def cache(self, desc):
        return self
