"""Who makes the videos: our networks, the renderer of synthetic scenes, or files that others have made."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.cases import Case
from pipelines.evaluation.config import RELEASED, EvaluateConfig, NetworksConfig
from pipelines.evaluation.rendered import room_at
from pipelines.evaluation.scenes import SYNTHETIC

NETWORKS = ("bidirectional", "chunk_causal", "distilled")
TRUTH, WRONG = "truth", "wrong path"
_KINDS = (".mp4", ".mov", ".mkv", ".webm")


@dataclass(frozen=True)
class Generator:
    """A generator by its name. network: of one of our samplers; pattern: of other generators' files."""

    name: str
    network: str | None = None
    pattern: str | None = None

    def file(self, case: Case) -> Path | None:
        """Another generator's video of a case, or None where it has none."""
        assert self.pattern is not None
        path = Path(self.pattern.format(case=case.name, scene=case.scene, path=case.path)).expanduser()
        return path if path.is_file() else None

    def identity(self, case: Case, others: list[Case], config: EvaluateConfig) -> dict[str, Any]:
        """All that a video of this generator depends on, beside its case. others: all cases."""
        if self.pattern is not None:
            path = self.file(case)
            return {"file": str(path), "state": [] if path is None else _state(path)}
        if self.network is not None:
            return {"network": self.network, "state": _state(Path(self.network).expanduser()),
                    **_as_dict(config.networks)}
        shown: dict[str, Any] = {"rendered": self.name, "crf": config.networks.crf}
        if self.name == WRONG and (other := _another(case, others)) is not None:
            shown["path"] = other.path
        return shown


@dataclass(frozen=True)
class Made:
    """What making a video took; None where another has made it."""

    seconds: float | None = None
    peak_gb: float | None = None
    peak_of: str | None = None


def find_generators(config: EvaluateConfig) -> list[Generator]:
    """In the order of the report. Raises ValueError for names that clash or cannot be files,
    and for true videos of scenes that are not rendered."""
    if (config.truth or config.wrong) and config.scenes != SYNTHETIC:
        asked = "truth" if config.truth else "wrong"
        raise ValueError(f"{asked}=true with scenes={config.scenes}: only rendered scenes have true videos; "
                         f"use scenes={SYNTHETIC}, or leave {asked} out")
    found = [Generator(TRUTH)] * config.truth
    found += [Generator(name, network=getattr(config, name)) for name in NETWORKS if getattr(config, name)]
    for part in filter(None, ((config.videos or "").split(","))):
        name, given, pattern = (piece.strip() for piece in part.partition("="))
        if not given or not pattern or not name or "/" in name or name.startswith("."):
            raise ValueError(f"videos={config.videos}: {part!r} is not name=folder or "
                             "name=folder/{case}.mp4")
        found.append(Generator(name, pattern=_pattern(name, pattern)))
    found += [Generator(WRONG)] * config.wrong
    names = [generator.name for generator in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"videos={config.videos}: the name {name!r} is taken; give another")
    return found


def _pattern(name: str, pattern: str) -> str:
    try:
        pattern.format(case="", scene="", path="")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"videos: {name}={pattern}: {error!r}; {{case}}, {{scene}} and {{path}} stand for "
                         "names") from None
    if Path(pattern).suffix.lower() in _KINDS:
        return pattern
    folder = Path(pattern).expanduser()
    if not folder.is_dir():
        raise ValueError(f"videos: {name}={pattern}: there is no such folder")
    return f"{str(folder).replace('{', '{{').replace('}', '}}')}/{{case}}.mp4"


class NetworkMaker:
    """One of our networks, loaded once. Raises what `WorldModel.from_pretrained` raises."""

    def __init__(self, generator: Generator, config: NetworksConfig) -> None:
        import torch

        from infer.pipeline import WorldModel

        self._config = config
        self.world = WorldModel.from_pretrained(
            None if generator.network == RELEASED else generator.network, codec=config.codec,
            text=config.text, sampler=sampler_of(generator.name, config), refiner=config.refiner,
            device=config.device, dtype=None if config.dtype == "auto" else getattr(torch, config.dtype),
            offload=config.offload, precision=config.precision)

    def make(self, case: Case, image: Path, target: Path) -> Made:
        """Write the video of a case. Raises ValueError for a case the network cannot do."""
        import torch

        from infer.video import write_video

        request = self.world.prepare(
            image, case.prompt, case.c2w, seed=self._config.seed, size=case.size,
            intrinsics=case.intrinsics, negative=self._config.negative)  # type: ignore[arg-type]
        cuda = torch.cuda.is_available() and self._config.device != "cpu"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        begun = time.monotonic()
        for _ in write_video(target, self.world.generate(request), self._config.crf):
            pass
        seconds = time.monotonic() - begun
        if cuda:
            return Made(seconds, torch.cuda.max_memory_allocated() / 1e9, "cuda")
        return Made(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "process")


def sampler_of(name: str, config: NetworksConfig) -> Any:
    """The sampler as released, with the steps and guidance of this run."""
    import yaml

    from infer.sampler import Kind, SamplerConfig

    released = yaml.safe_load((resources.files("conf") / "sampler" / f"{name}.yaml").read_text())
    sampler = SamplerConfig(**{**released, "kind": Kind[name]}, steps=config.steps, guidance=config.guidance)
    sampler.check()
    return sampler


def make_file(generator: Generator, case: Case, others: list[Case], target: Path, crf: int) -> Made:
    """Put the video of a case in place that needs no network: rendered, or made by another.

    others: all cases, of which WRONG takes the path of another one of the same length. Raises ValueError
    where there is none.
    """
    if generator.pattern is not None:
        path = generator.file(case)
        if path is None:
            where = generator.pattern.format(case=case.name, scene=case.scene, path=case.path)
            raise ValueError(f"{where}: there is no such file")
        _link(path, target)
        return Made()
    if case.room is None:
        raise ValueError(f"{generator.name}: scene {case.scene} is not rendered, so its true video is not "
                         "known")
    taken = case if generator.name == TRUTH else _another(case, others)
    if taken is None:
        raise ValueError(f"{WRONG}: there is no other path; ask for more than one of them")
    _write(room_at(case.room, case.size).film(taken.c2w), target, crf)
    return Made()


def _another(case: Case, others: list[Case]) -> Case | None:
    """The next case that goes elsewhere for as long, or None."""
    names = [other.name for other in others]
    for step in range(1, len(others)):
        other = others[(names.index(case.name) + step) % len(others)]
        if other.path != case.path and len(other.c2w) == len(case.c2w):
            return other
    return None


def _write(frames: Iterator[np.ndarray], target: Path, crf: int) -> None:
    from infer.video import write_video

    for _ in write_video(target, frames, crf):
        pass


def _link(path: Path, target: Path) -> None:
    """The same bytes under another name, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:
        shutil.copyfile(path, partial)
    partial.replace(target)


def _state(path: Path) -> list[Any]:
    """Sizes and times of the files of a network on this disk, so that one trained further is another."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def _as_dict(config: NetworksConfig) -> dict[str, Any]:
    """What videos depend on: not the device that made them, nor what waits where."""
    kept = asdict(config)
    del kept["device"], kept["offload"]
    return kept
