"""Posed image sequences for the pose benchmark: our renderer's, and the real ones of a shared folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from annotate.frames import ArrayFrames
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.clip import CameraTrack, FrameVerdict, Motion

SYNTHETIC = {
    "room walk": "room-walk?seed=1", "room orbit": "room-orbit?seed=2", "room s-curve": "room-s_curve?seed=3",
    "street walk": "street-walk?seed=4", "street forward": "street-forward?seed=5",
    "room walk, zoom": "room-walk?seed=6&zoom=1.3",
    "room walk, moving object": "room-walk?seed=7&moving=true",
    "room walk, repeated texture": "room-walk?seed=8&texture=repeated",
    "rotation only": "room-rotation_only?seed=9", "static": "room-static?seed=10",
}
BESIDE_PYCOLMAP = ("room walk", "street forward", "room walk, zoom")
"""Rendered sequences that plain pycolmap is run on as well, besides all real ones; it takes minutes."""
QUICK = ("room walk", "street forward", "rotation only")
REAL = ("kitti06", "tote", "fox")
_DEPTH_EVERY, _DEPTH_SIZE = 8, (180, 320)


@dataclass
class Sequence:
    """One sequence on disk: `gray.npy` (F, H, W) uint8, `truth.npz` a CameraTrack, maybe `depth.npz`."""

    name: str
    folder: str
    real: bool
    fps: float
    pycolmap_step: int = 1  # plain pycolmap gets every so many frames,
    pycolmap_width: int = 10**6  # shrunk to this width where they are wider

    def save(self) -> Path:
        path = Path(self.folder) / "sequence.json"
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> Sequence:
        return cls(**json.loads(path.read_text()))

    def gray(self) -> np.ndarray:
        return np.load(Path(self.folder) / "gray.npy", mmap_mode="r")

    def frames(self) -> ArrayFrames:
        return ArrayFrames(np.asarray(self.gray()))

    def truth(self) -> CameraTrack:
        return CameraTrack.from_npz((Path(self.folder) / "truth.npz").read_bytes())

    def depth(self) -> dict[int, np.ndarray]:
        """True depth in metres of some frames; empty where nobody knows it."""
        path = Path(self.folder) / "depth.npz"
        if not path.exists():
            return {}
        with np.load(path) as arrays:
            return dict(zip(arrays["frames"].tolist(), arrays["depth"]))


def sequences(folder: Path, shared: Path | None, quick: bool) -> Iterator[Sequence]:
    """Make the sequences one after the other below `folder`."""
    for name in QUICK if quick else SYNTHETIC:
        yield _rendered(name, folder / name.replace(" ", "_").replace(",", ""), 81 if quick else 161)
    for name in REAL if shared is not None else ():
        assert shared is not None
        yield _recorded(name, shared / "poses" / name, folder / name)


def _rendered(name: str, folder: Path, count: int) -> Sequence:
    folder.mkdir(parents=True)
    spec = SyntheticSpec.parse("synthetic://" + SYNTHETIC[name] + "&noise=1.5")
    images, truth, depth = render_sequence(spec, frames=count, width=1280, height=720)
    np.save(folder / "gray.npy", np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]))
    (folder / "truth.npz").write_bytes(truth.to_npz())
    frames = np.arange(0, count, _DEPTH_EVERY)
    maps = [cv2.resize(depth(int(i)), _DEPTH_SIZE[::-1], interpolation=cv2.INTER_NEAREST) for i in frames]
    np.savez(folder / "depth.npz", frames=frames, depth=np.stack(maps))
    return Sequence(name, str(folder), False, 16.0, pycolmap_step=4, pycolmap_width=640)


def _recorded(name: str, source: Path, folder: Path) -> Sequence:
    folder.mkdir(parents=True)
    capture, images = cv2.VideoCapture(str(source / "video.mp4")), []
    while (image := capture.read()[1]) is not None:
        images.append(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    np.save(folder / "gray.npy", np.stack(images))
    meta = json.loads((source / "meta.json").read_text())
    c2w, intrinsics = np.load(source / "c2w.npy"), np.load(source / "intrinsics.npy").astype(np.float64)
    intrinsics[:, 2:] += 0.5  # integer pixel centres
    unknown = np.full(len(c2w), np.nan)
    truth = CameraTrack(
        c2w, intrinsics, images[0].shape[:2], np.arange(len(c2w)) / meta["fps"], unknown, unknown.copy(),
        np.full(len(c2w), FrameVerdict.GIVEN, np.uint8), Motion.PARALLAX, "truth",
        unit="m" if meta["metric"] else "engine")
    (folder / "truth.npz").write_bytes(truth.to_npz())
    return Sequence(name, str(folder), True, float(meta["fps"]))
