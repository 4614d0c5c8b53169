"""Settings of learned engines, whichever stage uses them, and the terms they are under."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotate.child.process import Child
from annotate.weights import EngineMissing, Needs, locate


@dataclass
class EngineConfig:
    """Where one learned engine is found."""

    python: str | None = None  # interpreter of the environment it is installed in; null: this one
    weights: str | None = None  # local path, or hub repository (owner/name); null: the package's own

    def absolute(self) -> EngineConfig:
        """Local paths from the root; the link that an environment's interpreter is stays a link."""
        python = str(Path(self.python).expanduser().absolute()) if self.python else None
        weights = self.weights
        if weights and Path(weights).expanduser().exists():
            weights = str(Path(weights).expanduser().absolute())
        return EngineConfig(python, weights)


@dataclass
class LearnedConfig:
    """How learned engines run, whichever stage uses them."""

    device: str = "cuda"  # cuda, cuda:1, cpu
    gpus: float = 1.0  # GPUs of one worker; less than 1 lets several workers share one. Learned stages that
    # follow each other share a worker
    batch_size: int = 8  # images given to a model at once; halved when memory runs out
    start_limit_s: float = 900.0  # seconds an engine may take to load
    limit_s: float = 900.0  # seconds it may take for one request; then it is killed and the clip fails
    vipe: EngineConfig = field(default_factory=lambda: EngineConfig(".venv-vipe/bin/python"))
    pi3x: EngineConfig = field(default_factory=lambda: EngineConfig(None, "yyfz233/Pi3X"))
    vggt: EngineConfig = field(default_factory=lambda: EngineConfig(None, "facebook/VGGT-1B"))
    depth_anything3: EngineConfig = field(
        default_factory=lambda: EngineConfig(None, "depth-anything/DA3NESTED-GIANT-LARGE-1.1"))
    moge2: EngineConfig = field(default_factory=lambda: EngineConfig(None, "Ruicheng/moge-2-vitl-normal"))
    depth_pro: EngineConfig = field(default_factory=lambda: EngineConfig(None, "apple/DepthPro-hf"))

    def __post_init__(self) -> None:
        if not self.gpus > 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise ValueError(f"learned.gpus={self.gpus:g}, allowed a share of one GPU or a whole number")
        for name in ("batch_size", "start_limit_s", "limit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"learned.{name}={getattr(self, name)}, must be positive")
        if self.depth_pro.python is not None:
            raise ValueError(f"learned.depth_pro.python={self.depth_pro.python}: it runs in this "
                             "environment; leave it null")

    @property
    def num_gpus(self) -> float:
        """GPUs that Ray sets aside for one worker."""
        return 0.0 if self.device == "cpu" else self.gpus

    def absolute(self) -> LearnedConfig:
        """The same with paths that hold in any working folder, as those of workers elsewhere."""
        settled: dict[str, Any] = {name: self.engine(name).absolute() for name in _TERMS}
        return dataclasses.replace(self, **settled)

    def engine(self, name: str) -> EngineConfig:
        """Settings of one engine by its name."""
        found = getattr(self, name)
        assert isinstance(found, EngineConfig)
        return found


@dataclass(frozen=True)
class _Terms:
    code: str  # licence of the code
    modules: tuple[str, ...]
    install: str
    file: str | None = None  # of its weights, the one that is read


_TERMS = {
    "vipe": _Terms(
        "Apache-2.0 (its UniK3D part CC BY-NC-SA 4.0); it fetches weights of GeoCalib, DROID-SLAM, SAM, "
        "Grounding DINO and others at first use, each under its own terms", ("vipe", "torch"),
        "run `make vipe` on a machine with CUDA and nvcc, or set learned.vipe.python"),
    "pi3x": _Terms("BSD-3-Clause", ("pi3", "torch"),
                   "run `pip install git+https://github.com/yyfz/Pi3` in an environment with torch and set "
                   "learned.pi3x.python to its interpreter"),
    "vggt": _Terms("VGGT License", ("vggt", "torch"),
                   "run `pip install git+https://github.com/facebookresearch/vggt` in an environment with "
                   "torch and set learned.vggt.python to its interpreter"),
    "depth_anything3": _Terms(
        "Apache-2.0", ("depth_anything_3", "torch"),
        "run `pip install git+https://github.com/ByteDance-Seed/Depth-Anything-3` in an environment of its "
        "own and set learned.depth_anything3.python to its interpreter"),
    "moge2": _Terms("MIT (its DINOv2 part Apache-2.0)", ("moge", "torch"),
                    "run `pip install git+https://github.com/microsoft/MoGe` in an environment with torch "
                    "and set learned.moge2.python to its interpreter", "model.pt"),
    "depth_pro": _Terms("Apache-2.0", ("transformers", "torch"), "run `pip install transformers`"),
}

_WEIGHTS = {
    "yyfz233/Pi3X": "CC BY-NC 4.0",
    "facebook/VGGT-1B": "CC BY-NC 4.0",
    "facebook/VGGT-1B-Commercial": "VGGT License (commercial use with conditions)",
    "depth-anything/DA3NESTED-GIANT-LARGE-1.1": "CC BY-NC 4.0",
    "depth-anything/DA3-GIANT-1.1": "CC BY-NC 4.0",
    "depth-anything/DA3-LARGE-1.1": "CC BY-NC 4.0",
    "depth-anything/DA3-BASE": "Apache-2.0",
    "depth-anything/DA3-SMALL": "Apache-2.0",
    "Ruicheng/moge-2-vitl-normal": "MIT",
    "Ruicheng/moge-2-vitl": "MIT",
    "Ruicheng/moge-2-vitb-normal": "MIT",
    "Ruicheng/moge-2-vits-normal": "MIT",
    "apple/DepthPro-hf": "Apple AMLR (research only)",
}
"""Licences of released weights, as their pages state them."""


def needs_of(name: str, config: LearnedConfig) -> Needs:
    """What the engine `name` needs with these settings. Raises EngineMissing if its weights are not set."""
    terms, where = _TERMS[name], config.engine(name)
    licence = f"code {terms.code}"
    if name != "vipe":
        if where.weights is None:
            raise EngineMissing(f"learned.{name}.weights=null: give a local path or a hub repository")
        stated = _WEIGHTS.get(where.weights, "as their owner states, not known here")
        licence += f"; weights {where.weights} {stated}"
    return Needs(name, licence, terms.install, terms.modules, where.python, where.weights, terms.file)


def start_child(name: str, config: LearnedConfig, **settings: object) -> Child:
    """The engine `name` as a child process that starts with its first request; its weights are here."""
    needs = needs_of(name, config)
    weights = None if needs.weights is None else str(locate(needs.weights, needs.file, name).resolve())
    return Child(name, {"weights": weights, "device": config.device, **settings}, needs.python,
                 config.start_limit_s)
