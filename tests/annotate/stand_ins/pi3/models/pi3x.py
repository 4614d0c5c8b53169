import torch
from truth import Truth


class Pi3X(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.truth = Truth(weights)
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    @classmethod
    def from_pretrained(cls, weights):
        return cls(weights)

    def forward(self, imgs, intrinsics=None):
        _, count, _, height, width = imgs.shape
        assert not height % 14 and not width % 14 and imgs.min() >= 0 and imgs.max() <= 1
        assert intrinsics is None or intrinsics.shape == (1, count, 3, 3)
        c2w, columns, depth = self.truth.look(imgs[0])
        units = self.truth.errors.get("units", [1.0])
        unit = units[(self.truth.calls - 1) % len(units)]
        depth = depth * unit
        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        fx, fy, cx, cy = (columns[:, k, None, None] for k in range(4))
        points = torch.stack([(u - cx) / fx * depth, (v - cy) / fy * depth, depth], -1)
        confidence = torch.where(torch.isfinite(depth), 4.0, -6.0)
        return {"local_points": points[None].float(), "camera_poses": self.truth.world(c2w, unit)[None],
                "conf": confidence[None, ..., None], "metric": torch.ones(1)}
