"""What `python -m infer` does: check everything, then plan, draw the path, or make the video."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Any

from infer.config import InferConfig

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def run(config: InferConfig) -> int:
    """The exit code: 2 for input that cannot be used, with nothing written."""
    try:
        config.check()
        if config.plan:
            from infer.plan import describe_plan
            print(describe_plan(config))
            return 0
        return _preview(config) if config.preview else _generate(config)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


def _preview(config: InferConfig) -> int:
    from infer.camera import find_path
    from infer.preview import draw_preview
    from infer.video import write_whole

    path = find_path(_camera(config), config.path, config.frames, config.sampler.streams)
    target = Path(config.out).expanduser() / "preview.png"
    write_whole(target, draw_preview(path))
    print(f"{target}: {len(path)} frames of {path.source}")
    return 0


def _generate(config: InferConfig) -> int:
    # Paths and pictures are read before weights are: a slip costs a second, not minutes.
    from infer.camera import find_path
    from infer.lens import find_lens, read_image
    from infer.video import save_camera, write_video, write_whole

    folder = Path(config.out).expanduser()
    if (folder / "video.mp4").exists() and not config.overwrite:
        raise FileExistsError(f"{folder / 'video.mp4'} is there; name another folder by out=, or say "
                              "overwrite=true")
    image = read_image(config.image or "")
    path = find_path(_camera(config), config.path, config.frames, config.sampler.streams)
    size = (config.size[0], config.size[1])
    find_lens(image, size, len(path), config.intrinsics, config.fov, path.trajectory)

    from infer.sampler import evaluations

    world = _load(config)
    request = world.prepare(
        image, config.prompt, _camera(config), seed=config.seed, frames=config.frames, size=size,
        intrinsics=config.intrinsics, fov=config.fov, negative=config.negative, path=config.path)
    print(f"{len(request.path)} frames along {request.path.source}; intrinsics {request.lens.origin}",
          flush=True)
    write_whole(folder / "config.yaml", _settings(config).encode())
    about = {"path": request.path.source, "intrinsics": request.lens.origin, **_environment(world)}
    write_whole(folder / "environment.json", (json.dumps(about, indent=2) + "\n").encode())
    steps = evaluations(config.sampler, (len(request.path) - 1) // 8 + 1)
    made, begun = 0, time.monotonic()
    for frames in write_video(folder / "video.mp4", world.generate(request, _Bar(steps)), config.crf):
        made += len(frames)
    first = len(request.path) - made
    save_camera(folder / "camera.npz", request.path.c2w[first:], request.lens.intrinsics[first:], size)
    print(f"\n{folder / 'video.mp4'}: {made} frames in {time.monotonic() - begun:.1f} s")
    return 0


def _camera(config: InferConfig) -> str:
    return config.camera or config.action or ""


def _load(config: InferConfig) -> Any:
    import torch

    from infer.pipeline import WorldModel

    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    return WorldModel.from_pretrained(
        config.model, codec=config.codec, text=config.text, sampler=config.sampler, refiner=config.refiner,
        device=config.device, dtype=dtype, offload=config.offload)


class _Bar:
    """Steps done and time to go, on one line of the terminal."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.begun = steps, 0, time.monotonic()

    def __call__(self, step: int, of: int) -> None:
        self.done += 1
        left = (time.monotonic() - self.begun) / self.done * (self.steps - self.done)
        print(f"\rstep {self.done}/{self.steps}  {left:.0f} s left ", end="", file=sys.stderr, flush=True)


def _settings(config: InferConfig) -> str:
    """The settings as YAML that `python -m infer` would be given."""
    import yaml

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value.name if isinstance(value, Enum) else value

    return yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)


def _environment(world: Any) -> dict[str, Any]:
    import importlib.metadata
    import platform

    import numpy
    import torch

    return {
        "version": importlib.metadata.version("sana-wm-open"), "python": platform.python_version(),
        "torch": torch.__version__, "numpy": numpy.__version__,
        "device": str(world.network.x_embedder.proj.weight.device), "codec": world.codec.fingerprint,
        "text": world.text.fingerprint}
