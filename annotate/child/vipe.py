"""ViPE (package `nvidia-vipe` 1.2): dense SLAM over a whole clip, with the keyframe depth it is given.

Three things of its own pipeline are replaced, as the paper does (App. B): frames may bring metric depth,
which then is the sensor depth of the keyframes; intrinsics may be optimised although they do; known
intrinsics take the place of its calibration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from annotate.child.protocol import Arrays

_STRIDE, _OFFSET = 8, 3  # pixels of a frame at which ViPE keeps depth


def load(settings: dict[str, Any]) -> Any:
    """An engine for requests {"rgb" (F, h, w, 3) uint8, "fps"} with, each if known, "intrinsics" (F, 4) and
    metric depth as "depth" (K, h', w') of "depth_frames" (K,), NaN where unknown.

    settings: `pipeline` is ViPE's preset, `masks` whether it segments what moves, `own_depth` whether its own
    model gives keyframe depth.
    """
    import torch
    from vipe.config import parse_typed_config
    from vipe.pipeline import default, make_pipeline
    from vipe.streams.base import ProcessedVideoStream

    device = settings["device"]
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError("ViPE needs a CUDA device; there is none here")
    default.SLAMSystem = _given_depth_slam()
    arguments = [
        f"pipeline={settings['pipeline']}", "pipeline.post.depth_align_model=null",
        "pipeline.output.save_viz=false", f"pipeline.output.path={Path.cwd() / 'vipe'}",
        "streams=frame_dir_stream", f"streams.base_path={Path.cwd()}",
        *(["pipeline.init.instance=null"] if not settings["masks"] else []),
        *(["pipeline.slam.keyframe_depth=null"] if not settings["own_depth"] else [])]
    pipeline = make_pipeline(parse_typed_config("default", hydra_args=arguments).pipeline)
    pipeline.return_payload = True
    calibration = default.GeoCalibIntrinsicsProcessor

    def engine(arrays: Arrays, meta: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        known = arrays.get("intrinsics")
        default.GeoCalibIntrinsicsProcessor = calibration if known is None else _known_intrinsics(known)
        pipeline.slam_cfg.optimize_intrinsics = known is None
        stream = _stream(arrays, float(meta["fps"]), device)
        found = pipeline.run(ProcessedVideoStream(stream, []).cache(desc="frames")).payload
        count = len(arrays["rgb"])
        c2w = found.get_view_trajectory(0).matrix().double().cpu().numpy()
        intrinsics = known
        if intrinsics is None:
            intrinsics = np.tile(found.intrinsics[0, :4].double().cpu().numpy(), (count, 1))
        metric = settings["own_depth"] or "depth" in arrays
        return {"c2w": c2w, "intrinsics": intrinsics}, {"metric": bool(metric)}

    return engine


def _stream(arrays: Arrays, fps: float, device: str) -> Any:
    """ViPE's stream over the frames of a request, some of which bring depth."""
    import torch
    from vipe.streams.base import VideoFrame, VideoStream

    rgb, depth = arrays["rgb"], arrays.get("depth")
    number = {int(frame): k for k, frame in enumerate(arrays.get("depth_frames", ()))}

    class Frames(VideoStream):
        def frame_size(self) -> tuple[int, int]:
            return rgb.shape[1], rgb.shape[2]

        def name(self) -> str:
            return "clip"

        def fps(self) -> float:
            return fps

        def __len__(self) -> int:
            return len(rgb)

        def __iter__(self) -> Any:
            for index, image in enumerate(rgb):
                metric = None
                if depth is not None and index in number:
                    small = torch.from_numpy(depth[number[index]].astype(np.float32)).to(device)
                    metric = torch.nn.functional.interpolate(small[None, None], self.frame_size())[0, 0]
                yield VideoFrame(raw_frame_idx=index, rgb=torch.from_numpy(image).to(device).float() / 255,
                                 metric_depth=metric)

    return Frames()


def _given_depth_slam() -> Any:
    """ViPE's SLAM, taking the depth of frames that bring one while it may still optimise intrinsics."""
    import torch
    from vipe.slam.system import SLAMSystem

    class GivenDepthSLAM(SLAMSystem):
        def _add_keyframe(self, frame_idx: int, images: Any, buffer_masks: Any, frame_data_list: Any,
                          phase: int) -> None:
            keyframe = self.buffer.n_frames
            depths = [frame.metric_depth for frame in frame_data_list]
            for frame in frame_data_list:
                frame.metric_depth = None  # with depth in the frame, it refuses to optimise intrinsics
            super()._add_keyframe(frame_idx, images, buffer_masks, frame_data_list, phase)
            for view, (frame, depth) in enumerate(zip(frame_data_list, depths)):
                frame.metric_depth = depth
                if depth is not None:
                    near = depth[_OFFSET::_STRIDE, _OFFSET::_STRIDE].reciprocal()
                    good = torch.isfinite(near) & (near > 0)
                    self.buffer.disps_sens[keyframe, view] = torch.where(good, near, torch.zeros_like(near))

    return GivenDepthSLAM


def _known_intrinsics(intrinsics: np.ndarray) -> Any:
    """A stand-in for ViPE's calibration that hands out known intrinsics (F, 4)."""
    import torch
    from vipe.streams.base import FrameAttribute, StreamProcessor
    from vipe.utils.cameras import CameraType

    class KnownIntrinsics(StreamProcessor):
        def __init__(self, video_stream: Any, **unused: Any) -> None:
            super().__init__()

        def update_attributes(self, previous_attributes: Any) -> Any:
            return previous_attributes | {FrameAttribute.INTRINSICS}

        def __call__(self, frame_idx: int, frame: Any) -> Any:
            frame.intrinsics = torch.from_numpy(intrinsics[frame_idx]).float().to(frame.rgb.device)
            frame.camera_type = CameraType.PINHOLE
            return frame

    return KnownIntrinsics
