import torch


def pose_encoding_to_extri_intri(pose_encoding, image_size_hw):
    w2c, angles = pose_encoding[..., :16].unflatten(-1, (4, 4)), pose_encoding[..., 16:]
    height, width = image_size_hw
    matrix = torch.zeros(*w2c.shape[:2], 3, 3)
    matrix[..., 0, 0] = width / 2 / torch.tan(angles[..., 1] / 2)
    matrix[..., 1, 1] = height / 2 / torch.tan(angles[..., 0] / 2)
    matrix[..., 0, 2], matrix[..., 1, 2], matrix[..., 2, 2] = width / 2, height / 2, 1.0
    return w2c[..., :3, :], matrix
