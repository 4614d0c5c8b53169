"""Imaging quality early and late in a video, and LPIPS of revisits, by the scorer that is asked for.

pyiqa and VBench pin libraries that ours cannot share, so each runs as a child process of the Python of its
own environment.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset.scratch import Scratch
from pipelines.evaluation import quality

SCORERS = ("proxy", "pyiqa", "vbench")
_METRICS = {"pyiqa": "musiq-spaq", "vbench": "imaging_quality"}
_CHILDREN = Path(__file__).parent / "scorers"
_TOLD = 400
"""Characters of a child's last words that are passed on."""


@dataclass
class QualityConfig:
    """How imaging quality is scored."""

    scorer: str = "proxy"  # proxy: edges against noise, no weights; pyiqa or vbench: a child process
    python: str | None = None  # of the environment that pyiqa or vbench is installed in
    metric: str | None = None  # of the scorer; null: musiq-spaq of pyiqa, imaging_quality of vbench
    lpips: bool = False  # also LPIPS of revisits, by pyiqa
    device: str = "cpu"  # the child's
    window_s: float = 10.0  # seconds at the beginning and at the end that are compared
    pictures: int = 20  # looked at in each of the two
    limit_s: float = 1800.0  # wall time of a child

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.scorer not in SCORERS:
            raise ValueError(f"quality.scorer={self.scorer}, allowed {', '.join(SCORERS)}")
        for name in ("window_s", "pictures", "limit_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"quality.{name}={getattr(self, name)}, allowed more than 0")
        if self.lpips and self.scorer == "vbench":
            raise ValueError("quality.lpips=true: vbench has no LPIPS; use quality.scorer=pyiqa")
        for library in self.libraries:
            _check_child(library, self.python)

    @property
    def libraries(self) -> list[str]:
        """What the child's environment must hold."""
        found = {self.scorer} - {"proxy"} | ({"pyiqa"} if self.lpips else set())
        return sorted(found)

    @property
    def name(self) -> str:
        """Of the score, for the report."""
        if self.scorer == "proxy":
            return quality.NAME
        return f"{self.scorer}: {self.metric or _METRICS[self.scorer]}"


@dataclass(frozen=True)
class Scores:
    """Of the first and the last seconds, means; LPIPS of pairs, mean, or None where not asked for."""

    first: float
    last: float
    lpips: float | None
    scorer: str


def score(
    first: Sequence[np.ndarray], last: Sequence[np.ndarray], pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    config: QualityConfig,
) -> Scores:
    """Of pictures (H, W, 3) uint8 from a video. Raises RuntimeError when a child fails."""
    with Scratch("scorer") as here:
        found, early, late = "", [np.nan], [np.nan]
        if config.scorer == "proxy":
            early, late = ([quality.proxy_score(picture) for picture in part] for part in (first, last))
        elif config.scorer == "vbench":
            answer = _ask("vbench", config, here, {"videos": _films(here / "videos", first, last)})
            (early, late), found = ([value] for value in answer["videos"]), answer["version"]
        if config.scorer == "pyiqa" or config.lpips:
            told = [*first, *last] if config.scorer == "pyiqa" else []
            asked = {"pictures": _pictures(here, "picture", told),
                     "pairs": [_pictures(here, f"pair-{i}", pair) for i, pair in enumerate(pairs)]
                     if config.lpips else []}
            answer = _ask("pyiqa", config, here, asked)
            if told:
                found = answer["version"]
                early, late = answer["pictures"][: len(first)], answer["pictures"][len(first) :]
        lpips = answer["pairs"] if config.lpips else []
    name = f"{config.name} ({found})" if found else config.name
    return Scores(float(np.mean(early)), float(np.mean(late)), float(np.mean(lpips)) if lpips else None, name)


def _pictures(folder: Path, name: str, pictures: Sequence[np.ndarray]) -> list[str]:
    import cv2

    paths = [folder / f"{name}-{number:04d}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
    return [str(path) for path in paths]


def _films(folder: Path, *parts: Sequence[np.ndarray]) -> list[str]:
    from infer.video import write_video

    paths = [folder / f"{number}.mp4" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        for _ in write_video(path, [np.stack(part)], crf=2):
            pass
    return [str(path) for path in paths]


def _ask(library: str, config: QualityConfig, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    metric = (config.metric if config.scorer == library else None) or _METRICS[library]
    request, answer = folder / f"{library}.request.json", folder / f"{library}.answer.json"
    request.write_text(json.dumps({"metric": metric, "device": config.device, **asked}))
    command = [_python(config.python), str(_CHILDREN / f"{library}_child.py"), str(request), str(answer)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=config.limit_s, cwd=folder)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{library}: not done after quality.limit_s={config.limit_s:g} s") from None
    if done.returncode or not answer.is_file():
        raise RuntimeError(f"{library}: its process ended with code {done.returncode}: "
                           f"{done.stderr.strip()[-_TOLD:]}")
    return json.loads(answer.read_text())


def _check_child(library: str, python: str | None) -> None:
    """Raises ValueError where the environment is not there or has no such library."""
    how = (f"python -m venv scorers && scorers/bin/pip install {library}, then "
           "quality.python=scorers/bin/python")
    if python is None:
        raise ValueError(f"quality.python is missing: {library} needs an environment of its own; {how}")
    command = [_python(python), "-c", f"import importlib.util as u; assert u.find_spec('{library}')"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"quality.python={python}: cannot be run ({error}); {how}") from None
    if done.returncode:
        raise ValueError(f"quality.python={python}: has no {library}; {how}")


def _python(python: str | None) -> str:
    return str(Path(python or "").expanduser().absolute())
