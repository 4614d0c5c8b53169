from pathlib import Path

import torch
from truth import Truth


class MoGeModel(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.truth = Truth(weights)

    @classmethod
    def from_pretrained(cls, weights):
        assert Path(weights).name == "model.pt"
        return cls(weights)

    def infer(self, image, fov_x=None, use_fp16=True):
        assert fov_x is None or fov_x.shape == (len(image),)
        _, columns, depth = self.truth.look(image)
        height, width = image.shape[-2:]
        if fov_x is not None:  # a wrong field of view takes the scale along
            stated = width / 2 / torch.tan(torch.deg2rad(fov_x) / 2)
            depth = depth * (stated / columns[:, 0])[:, None, None]
        matrix = torch.zeros(len(image), 3, 3)
        matrix[:, 0, 0], matrix[:, 1, 1] = columns[:, 0] / width, columns[:, 1] / height
        matrix[:, 0, 2] = matrix[:, 1, 2] = 0.5
        matrix[:, 2, 2] = 1
        depth = torch.nan_to_num(depth, nan=float("inf"), posinf=float("inf"))
        return {"depth": depth, "mask": torch.isfinite(depth), "intrinsics": matrix}
