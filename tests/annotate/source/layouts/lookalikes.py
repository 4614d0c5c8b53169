"""Tiny look-alikes of published sets, written from their documented layouts: what goes in is known exactly.

Every writer takes camera-to-world OpenCV poses (F, 4, 4) and intrinsics (4,) in pixels of the pictures, and
lays them down as the set would.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from annotate.cut.encode import ClipWriter

SIZE = (72, 96)
INTRINSICS = np.array([80.0, 82.0, 48.0, 36.0])
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def walk(count: int, seed: int = 3) -> np.ndarray:
    """(count, 4, 4): a smooth path in an arbitrary world whose first camera hangs upside down."""
    rng = np.random.default_rng(seed)
    turns = np.cumsum(np.cumsum(rng.normal(0, 0.004, (count, 3)), 0), 0)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = OPENGL[:3, :3] @ Rotation.from_rotvec(turns).as_matrix()
    c2w[:, :3, 3] = np.cumsum(np.cumsum(rng.normal(0, 0.01, (count, 3)), 0), 0) + [0.1, 0.2, 0.3]
    return c2w


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3): a drifting texture."""
    texture = np.random.default_rng(1).integers(60, 200, (6, 8, 3), np.uint8)
    large = cv2.resize(texture, (size[1] * 3, size[0] * 3), interpolation=cv2.INTER_CUBIC)
    return large[number:, number:][:size[0], :size[1]]


def write_video(path: Path, frames: int, fps: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ClipWriter(size, fps)
    for number in range(frames):
        writer.add(picture(number, size))
    path.write_bytes(writer.finish())


def write_csv(path: Path, rows: list[dict[str, object]], encoding: str = "utf-8") -> None:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def spatialvid(root: Path, name: str, c2w: np.ndarray, fps: int = 30) -> None:
    """One clip of group_0001; c2w has a pose a frame, of which every int(fps / 5)-th is kept."""
    write_video(root / f"videos/group_0001/{name}.mp4", len(c2w), fps)
    notes = root / f"annotations/group_0001/{name}"
    notes.mkdir(parents=True)
    kept = np.arange(0, len(c2w), int(fps / 5))
    w2c = np.linalg.inv(c2w[kept])
    quaternions = Rotation.from_matrix(w2c[:, :3, :3]).as_quat()  # x y z w
    np.save(notes / "poses.npy", np.concatenate([w2c[:, :3, 3], quaternions], 1))
    fx, fy = INTRINSICS[:2] / [SIZE[1], SIZE[0]]
    np.save(notes / "intrinsics.npy", np.tile([fx, fy, 0.5, 0.5], (len(kept), 1)))
    lines = [f"# {len(kept)} frames", *(f"{row} {frame}" for row, frame in enumerate(kept))]
    (notes / "indexes.txt").write_text("\n".join(lines) + "\n")
    (notes / "caption.json").write_text(json.dumps(
        {"SceneSummary": "A quiet street.", "OptCamMotion": "The camera pans left."}))


def dl3dv(
    root: Path, scene: str, c2w: np.ndarray, distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    size: tuple[int, int] = SIZE,
) -> None:
    """A scene with pictures of a quarter of the stated size; frames are listed out of order."""
    folder = root / "1K" / scene
    (folder / "images_4").mkdir(parents=True)
    frames = []
    for number, pose in enumerate(c2w):
        name = f"frame_{number + 1:05d}.png"
        cv2.imwrite(str(folder / "images_4" / name), picture(number, size)[..., ::-1])
        frames.append({"file_path": f"images/{name}", "transform_matrix": (pose @ OPENGL).tolist()})
    fx, fy, cx, cy = (4 * INTRINSICS).tolist()
    k1, k2, p1, p2 = distortion
    (folder / "transforms.json").write_text(json.dumps({
        "w": 4 * size[1], "h": 4 * size[0], "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "k1": k1, "k2": k2,
        "p1": p1, "p2": p2, "camera_model": "OPENCV", "frames": frames[::-1],
        "applied_transform": [[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]}))


def omniworld(root: Path, scene: str, c2w: np.ndarray, splits: list[list[int]], depth: np.ndarray) -> None:
    """A scene of len(c2w) pictures; depth (h, w) in the unit of the poses, the same for all, 0: invalid."""
    folder = root / "annotations/OmniWorld-Game" / scene
    color = root / "videos/OmniWorld-Game" / scene / "color"
    for path in (folder / "camera", folder / "depth", color):
        path.mkdir(parents=True)
    scaled = depth * 0.004
    share = np.where(depth > 0, 1000.0 * scaled / (1 + 999.0 * scaled), 0.0)
    for number in range(len(c2w)):
        cv2.imwrite(str(color / f"{number:06d}.png"), picture(number)[..., ::-1])
        cv2.imwrite(str(folder / f"depth/{number:06d}.png"), np.round(share * 65535).astype(np.uint16))
    for index, split in enumerate(splits):
        w2c = np.linalg.inv(c2w[split])
        quaternions = np.roll(Rotation.from_matrix(w2c[:, :3, :3]).as_quat(), 1, axis=1)  # w x y z
        (folder / f"camera/split_{index}.json").write_text(json.dumps({
            "focals": [80.0 + 0.01 * number for number in split], "cx": 48.0, "cy": 36.0,
            "quats": quaternions.tolist(), "trans": w2c[:, :3, 3].tolist()}))
    (folder / "split_info.json").write_text(json.dumps({"split_num": len(splits), "split": splits}))
    (folder / "fps.txt").write_text("FPS: 24.0\n")


def sekai(root: Path, names: list[str], c2w: np.ndarray, size: tuple[int, int] = SIZE) -> None:
    """Clips of the given names with the same cameras, listed in a table that names the first one twice."""
    (root / "camera").mkdir(parents=True)
    rows: list[dict[str, object]] = []
    fx, fy, cx, cy = INTRINSICS / [size[1], size[0], size[1], size[0]]
    for name in names:
        write_video(root / f"videos/{name}.mp4", len(c2w), 30, size)
        np.savez(root / f"camera/{name}.npz", extrinsic=c2w,
                 intrinsic=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
        rows.append({"videoFile": f"{name}.mp4", "cameraFile": f"{name}.npz", "caption": f"Town, {name}",
                     "location": "Oslo", "scene": "urban"})
    write_csv(root / "sekai-game-walking.csv", [*rows, rows[0]])


def miradata(root: Path, encoding: str = "utf-8") -> None:
    """Tables of both versions over whole videos and one finished clip."""
    write_video(root / "raw_video/000000000/000000000012_AJp_AN-oGoM.mp4", 90, 30)
    write_video(root / "raw_video/77.mp4", 90, 30)
    write_video(root / "clip_video/000000000012_AJp_AN-oGoM-000002.mp4", 30, 30)
    texts = {"main_object_caption": "A baker.", "background_caption": "A café in town.",
             "style_caption": "Bright.", "camera_caption": "The camera pans left.",
             "short_caption": "A baker works.", "dense_caption": "The camera follows a baker."}
    stated = {"video_id": "AJp_AN-oGoM", "fps": 30.0, **texts}
    write_csv(root / "miradata_v0.csv", [
        {"index": "000000000012_AJp_AN-oGoM-000001", "start_frame": 30, "end_frame": 75, **stated},
        {"index": "000000000012_AJp_AN-oGoM-000002", "start_frame": 0, "end_frame": 30, **stated},
        {"index": "000000000012_AJp_AN-oGoM-000003", "start_frame": 75, "end_frame": 30, **stated},
        {"index": "000000000013_nobodyhasit-000001", "start_frame": 30, "end_frame": 75, **stated,
         "video_id": "nobodyhasit"}], encoding)
    write_csv(root / "miradata_v1_9k.csv", [
        {"clip_id": "77.0", "video_id": "zzz", "fps": 30.0, "framestamp": "[15, 60]", "timestamp": "",
         **texts},
        {"clip_id": "77.1", "video_id": "zzz", "fps": 30.0, "framestamp": "",
         "timestamp": "['00:00:00.500', '00:00:02.500']", **texts}], encoding)
