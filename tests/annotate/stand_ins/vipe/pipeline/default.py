import os
from types import SimpleNamespace

from vipe.slam.system import SLAMSystem
from vipe.streams.base import FrameAttribute, ProcessedVideoStream


class GeoCalibIntrinsicsProcessor:
    def __init__(self, stream, camera_type=None, model_cache=None):
        pass

    def __call__(self, index, frame):
        return frame


class DefaultAnnotationPipeline:
    def __init__(self, arguments):
        assert arguments["pipeline.slam.keyframe_depth"] == "null"
        assert arguments["pipeline.init.instance"] == "null"
        assert arguments["pipeline.post.depth_align_model"] == "null"
        self.slam_cfg = SimpleNamespace(optimize_intrinsics=None)

    def run(self, stream):
        assert FrameAttribute.METRIC_DEPTH not in stream.attributes() and self.return_payload
        lens = GeoCalibIntrinsicsProcessor(stream, camera_type="pinhole", model_cache=None)
        slam = SLAMSystem("cpu", self.slam_cfg, os.environ["STAND_IN_VIPE"])
        return SimpleNamespace(payload=slam.run(ProcessedVideoStream(stream, [lens])))
