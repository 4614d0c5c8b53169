from types import SimpleNamespace

import numpy as np
import torch
from truth import Truth


class DepthAnything3(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.truth = Truth(weights)

    @classmethod
    def from_pretrained(cls, weights):
        return cls(weights)

    def inference(self, image, process_res=504, ref_view_strategy="saddle_balanced"):
        assert all(isinstance(one, np.ndarray) and one.dtype == np.uint8 for one in image)
        assert process_res == max(image[0].shape[:2])
        images = torch.from_numpy(np.stack(image)).permute(0, 3, 1, 2).float() / 255
        c2w, columns, depth = self.truth.look(images)
        matrix = np.zeros((len(image), 3, 3), np.float32)
        matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2] = columns.T.numpy()
        return SimpleNamespace(
            depth=torch.nan_to_num(depth, posinf=200.0).numpy(), is_metric=1,
            sky=~np.isfinite(depth.numpy()), conf=np.full(depth.shape, 9.0, np.float32),
            extrinsics=torch.linalg.inv(self.truth.world(c2w, 1.0).double()).numpy()[:, :3],
            intrinsics=matrix)
