"""The interface of a vision-language model, and the one model of a worker that all its stages share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

from annotate.frames import Frames
from annotate.stage import Resources
from annotate.vlm.config import EndpointConfig, VlmConfig, VlmEngine
from annotate.weights import Needs

INSTALL = "run `pip install 'transformers==5.23.*' pillow torchvision`"


@dataclass(frozen=True)
class Question:
    """What is asked about one clip: pictures (h, w, 3) RGB uint8 in order of time, and words."""

    clip_id: str
    pictures: tuple[np.ndarray, ...]
    text: str
    temperature: float = 0.0


@dataclass(frozen=True)
class Answer:
    """Words, and the clip that they are about."""

    clip_id: str
    text: str
    is_whole: bool = True  # False: cut off at `max_tokens`


class Vlm(Protocol):
    """Answers questions, several at once; `answers[i]` is about `questions[i].clip_id`."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]: ...


def ask(vlm: Vlm, questions: Sequence[Question]) -> list[Answer]:
    """The answers of a model, once it is certain that each is about the clip that was asked about.

    Raises ValueError where one is not: words on the wrong clip are worse than none.
    """
    answers = vlm.ask(questions)
    asked, told = [q.clip_id for q in questions], [a.clip_id for a in answers]
    if asked != told:
        raise ValueError(f"the model was asked about clips {asked} and answered about {told}")
    return answers


def load(config: VlmConfig) -> Vlm:
    """The model that the settings name; stages of one worker that ask for the same one share it."""
    return _load(json.dumps(dataclasses.asdict(config), sort_keys=True))


@lru_cache(maxsize=1)
def _load(settings: str) -> Vlm:
    values = json.loads(settings)
    config = VlmConfig(**values | {"endpoint": EndpointConfig(**values["endpoint"])})
    if config.engine == VlmEngine.endpoint:
        from annotate.vlm.endpoint import Endpoint

        return Endpoint(config)
    if config.engine == VlmEngine.transformers:
        from annotate.vlm.local import load_local

        return load_local(config)
    raise ValueError("vlm.engine=none: there is no model to ask; set vlm.engine to endpoint or transformers")


def needs(config: VlmConfig) -> Needs:
    """What the model needs before a run may start."""
    if config.engine == VlmEngine.transformers:
        return Needs(f"vlm:{config.model}", config.licence, INSTALL, ("transformers", "PIL", "torchvision"),
                     weights=config.model)
    return Needs(f"vlm:{config.model}", config.licence, INSTALL)


def resources(config: VlmConfig) -> Resources:
    """What a worker occupies that asks this model."""
    is_local = config.engine == VlmEngine.transformers
    return Resources(num_cpus=1.0, num_gpus=config.gpus if is_local else 0.0, batch_size=config.batch)


def pictures(frames: Frames, count: int, long_side: int) -> tuple[np.ndarray, ...]:
    """`count` frames of a clip (h, w, 3) RGB uint8, evenly spaced from the first to the last, at most
    `long_side` long."""
    count = min(count, len(frames))
    height, width = frames.size
    share = min(1.0, long_side / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    shown = []
    for index in np.linspace(0, len(frames) - 1, count).round().astype(int):
        frame = frames.rgb(int(index))
        shown.append(frame if share == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    return tuple(shown)


def settings(config: VlmConfig) -> dict[str, object]:
    """What of the settings changes an answer: not where the model runs, nor how fast."""
    return {name: getattr(config, name) for name in
            ("model", "frames", "long_side", "max_tokens", "temperature", "licence")}
