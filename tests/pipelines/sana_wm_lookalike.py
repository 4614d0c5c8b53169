"""A tiny look-alike of the example training set published with SANA-WM, written from its documented layout.

Also a command that imports one, for tests that kill it: python sana_wm_lookalike.py SRC OUT LATENTS
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from annotate.clip_video import ClipVideo
from annotate.cut.encode import ClipWriter
from model.dct import DCTCodec
from pipelines.import_set_config import ImportSetConfig, LatentImportConfig
from pipelines.import_set_run import run

FRAMES, SIZE, ENCODED = 17, (72, 96), (64, 96)
INTRINSICS = np.array([80.0, 82.0, 47.0, 37.0])


def walk(seed: int) -> np.ndarray:
    """(FRAMES, 4, 4) in the set's own unit, in an arbitrary world."""
    rng = np.random.default_rng(seed)
    c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
    turns = np.cumsum(rng.normal(0, 0.02, (FRAMES, 3)), 0)
    c2w[:, :3, :3] = np.diag([1.0, -1, -1]) @ Rotation.from_rotvec(turns).as_matrix()
    c2w[:, :3, 3] = np.cumsum(rng.normal(0, 0.1, (FRAMES, 3)), 0)
    return c2w


def video(seed: int, fps: int = 16, frames: int = FRAMES) -> bytes:
    """A drifting texture."""
    noise = np.random.default_rng(seed).integers(40, 220, (12, 16, 3), np.uint8)
    texture = cv2.resize(noise, (SIZE[1] * 2, SIZE[0] * 2), interpolation=cv2.INTER_CUBIC)
    writer = ClipWriter(SIZE, fps)
    for number in range(frames):
        writer.add(texture[number:, number:][:SIZE[0], :SIZE[1]])
    return writer.finish()


def latents_of(mp4: bytes) -> np.ndarray:
    """(C, T, h, w) of the video, each side resized by its own ratio."""
    frames = [cv2.resize(frame, ENCODED[::-1], interpolation=cv2.INTER_AREA)
              for frame in ClipVideo(mp4).iter_rgb()]
    pixels = torch.from_numpy(np.stack(frames)).movedim(-1, 0)[None].float() / 127.5 - 1
    with torch.inference_mode():
        return DCTCodec(32).encode(pixels)[0].numpy()


def write_zip(path: Path, entries: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def write_set(root: Path, stems: dict[str, list[str]], with_video: bool = True) -> None:
    """Zips by stem with the given keys, all their sidecars, and latent zips below `latents/`."""
    raw = root / "sekai_game_train_961frames_16fps_ovl640"
    for stem, keys in stems.items():
        entries: dict[str, bytes] = {}
        latents: dict[str, bytes] = {}
        for key in keys:
            entries[f"{key}.json"] = json.dumps(
                {"width": SIZE[1], "height": SIZE[0], "prompt": f"prompt {key}"}).encode()
            mp4 = video(seed_of(key))
            if with_video:
                entries[f"{key}.mp4"] = mp4
            buffer = io.BytesIO()
            np.savez(buffer, z=latents_of(mp4))
            latents[f"{key}.npz"] = buffer.getvalue()
        write_zip(raw / f"{stem}.zip", entries)
        write_zip(root / f"latents/{stem}.zip", latents)
        write_sidecars(raw, stem, keys)


def write_sidecars(raw: Path, stem: str, keys: list[str]) -> None:
    starts = np.arange(len(keys)) * FRAMES
    np.savez(raw / f"{stem}_camera.npz", ids=np.array(keys),
             ranges=np.stack([starts, np.full(len(keys), FRAMES)], 1),
             pose=np.concatenate([walk(seed_of(key)) for key in keys]).astype(np.float64),
             intrinsics=np.tile(INTRINSICS, (FRAMES * len(keys), 1)))
    tables: dict[str, Any] = {
        "_metric_scale_stats": {key: {"median": scale_of(key), "std": 0.1} for key in keys},
        "_vmafmotion": {key: {"vmafmotion_score": 3.5} for key in keys},
        "_dover": {key: 0.6 for key in keys},
        "_LongSceneStaticCaption-Qwen3-VL-30B-A3B-Instruct": {
            key: {"prompt": f"a town, {key}"} for key in keys}}
    for suffix, table in tables.items():
        (raw / f"{stem}{suffix}.json").write_text(json.dumps(table))
    lines = [json.dumps({"key": key, "unimatch_flow_score": 12.0}) for key in keys]
    (raw / f"{stem}_unimatch.jsonl").write_text("\n".join(lines))


def seed_of(key: str) -> int:
    return sum(key.encode())


def scale_of(key: str) -> float:
    """Metres per unit."""
    return 2.0 + seed_of(key) % 5


def config(src: Path, out: Path, latents: Path | None = None, **options: Any) -> ImportSetConfig:
    """Settings of an import with small shards, so that there is more than one."""
    given = ImportSetConfig(src=str(src), out=str(out), selfcheck=0)  # the pictures know no cameras
    given.write.shard_mb, given.write.report = options.pop("shard_mb", 0.02), False  # type: ignore[assignment]
    if latents is not None:
        given.latents = LatentImportConfig(
            src=str(latents), codec="dct32", text_tokens=8, text_channels=12, name="dct", **options)
    return given


if __name__ == "__main__":
    source, out, latents = (Path(argument) for argument in sys.argv[1:])
    sys.exit(run(config(source, out, latents)))
