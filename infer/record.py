"""What lies beside a video so that it can be made again: all settings, and what they met."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infer.camera import locate
from infer.config import InferConfig
from infer.video import write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

    from infer.lens import Image
    from infer.pipeline import Request, WorldModel

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
_OF_A_RUN = ("out", "overwrite", "manifest", "repeat", "preview", "plan", "device", "offload", "overlap")
"""Settings that do not change what is made."""
_WORDS = ("hash", "none", "ltx2", "dct32", "dct16", "dct8")
"""Names of parts that are no files, whatever lies about."""
_INPUTS = ("image", "camera", "network", "codec", "text", "refiner")
_LOOKED_AT = 4096
"""Numbers of each tensor that its network is known by."""


def settings(config: InferConfig) -> dict[str, Any]:
    """As nested plain values, files by their full names: what `python -m infer repeat=` reads."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value.name if isinstance(value, Enum) else value

    found = plain(dataclasses.asdict(config))
    for key in ("image", "model", "codec", "text", "refiner"):
        place = Path(found[key] or "").expanduser()
        if found[key] and found[key] not in _WORDS and place.exists():
            found[key] = str(place.resolve())
    if found["camera"]:
        found["camera"] = locate(found["camera"], Path())
    return found


def same_video(config: InferConfig, folder: Path) -> bool:
    """Whether the settings in `folder` make the video that `config` does."""
    import yaml

    try:
        found = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    wanted = settings(config)
    return isinstance(found, dict) and all(
        found.get(key) == wanted[key] for key in wanted if key not in _OF_A_RUN)


def write_record(folder: Path, config: InferConfig, about: dict[str, Any]) -> None:
    """Settings and surroundings of a video that is about to be made."""
    import yaml

    text = yaml.safe_dump(settings(config), sort_keys=False, allow_unicode=True)
    write_whole(folder / CONFIG, text.encode())
    write_whole(folder / ENVIRONMENT, (json.dumps(about, indent=2) + "\n").encode())


def read_settings(config: InferConfig) -> InferConfig:
    """Those of the video in the folder `config.repeat`; of `config` count only where the new one goes and
    what is drawn beside it.

    Raises ValueError for a folder without settings, and where `config` asks for others as well.
    """
    import yaml

    from conf import restore

    folder = Path(config.repeat or "").expanduser()
    usual = settings(InferConfig(out=config.out, overwrite=config.overwrite, repeat=config.repeat))
    others = [key for key, value in settings(config).items() if value != usual[key]]
    if others:
        raise ValueError(f"repeat={config.repeat} takes all settings from there; {', '.join(others)} cannot "
                         "be given as well, only out and overwrite")
    try:
        found = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"repeat={config.repeat}: no {CONFIG} there; give the folder of a video that was "
                         "made here") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"repeat={config.repeat}: {CONFIG} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"repeat={config.repeat}: {CONFIG} holds no settings")
    again = restore(InferConfig, found, str(folder / CONFIG))
    return dataclasses.replace(again, out=config.out, overwrite=config.overwrite, repeat=config.repeat,
                               manifest=None)


def check_same(about: dict[str, Any], folder: Path) -> list[str]:
    """What differs between `about` and the surroundings in `folder`, and may change the bytes of a video.

    Raises ValueError where an input is another than it was.
    """
    try:
        before = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / ENVIRONMENT}: cannot be read: {error}") from None
    changed = [key for key in _INPUTS if before.get(key) != about.get(key)]
    if changed:
        raise ValueError(f"{folder}: its video cannot be made again: {', '.join(changed)} changed since "
                         f"(found {about.get(changed[0])}, it was {before.get(changed[0])})")
    earlier = before.get("made_with") or {}
    return [f"{key} was {earlier.get(key)}, here {value}" for key, value in about["made_with"].items()
            if earlier.get(key) != value]


def describe_making(world: WorldModel, request: Request, image: Image) -> dict[str, Any]:
    """What the settings of a video met: each input by its digest, and what it was made with."""
    import importlib.metadata
    import platform

    import torch

    device = world.placed.device
    return {
        "seed": request.seed, "path": request.path.source, "intrinsics": request.lens.origin,
        "image": digest(image.pixels), "camera": digest(request.path.c2w, request.lens.intrinsics),
        "network": network_digest(world.network), "codec": world.codec.fingerprint,
        "text": world.text.fingerprint,
        "refiner": None if world.refiner is None else network_digest(world.refiner.refiner.network),
        "made_with": {
            "version": importlib.metadata.version("sana-wm-open"), "python": platform.python_version(),
            "torch": torch.__version__, "numpy": np.__version__,
            **{name: importlib.metadata.version(name) for name in ("av", "diffusers", "transformers")},
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "threads": torch.get_num_threads()},
    }


def digest(*arrays: np.ndarray) -> str:
    """Of shapes and values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def network_digest(network: nn.Module) -> str:
    """Of the names and shapes of a network's tensors, and of the beginning of each."""
    import torch

    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            found.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            for part in _plain_tensors(tensor):
                found.update(part.detach().flatten()[:_LOOKED_AT].float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def _plain_tensors(tensor: Any) -> list[Tensor]:
    """The tensor, or those that a quantised one is made of."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    return [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
