"""What a vision-language model counts in a clip: people, vehicles and animals, and whether it is of use.

Table 6 of the paper (arXiv 2605.15178) bounds their sum, and a quality flag around 1.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from annotate.stage import Clip, StageOutput
from annotate.vlm import engine
from annotate.vlm.config import VlmConfig, VlmEngine
from annotate.vlm.engine import Question, Vlm
from annotate.weights import Needs, licence_fields

KINDS = ("people", "vehicles", "animals")
_MOST = 10_000
_WARMER = 0.7
_ASK = (
    "These pictures come from one video, in order of time. Count what is to be seen in them, each "
    "individual once however many pictures show it, and none that is only drawn, painted or printed. Judge "
    "the quality: 1 if it is one continuous view of a real or rendered scene that can be made out well, 0 if "
    "it is a slide, a menu, a split screen, a collage, heavily covered by text, or too dark, blurred or "
    "damaged to make out. "
    'Answer with JSON alone: {"people": <count>, "vehicles": <count>, "animals": <count>, '
    '"quality": <0 or 1>}'
)
_AGAIN = "\n\nYour last answer could not be read: {fault}. Answer with the JSON object and nothing else."
_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)


@dataclass
class EntitiesConfig:
    """Counts of people, vehicles and animals, and a quality flag, by the model of `vlm`."""

    enabled: bool = False  # ask for them
    attempts: int = 3  # times the model is asked until its answer can be read

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if self.attempts < 1:
            raise ValueError(f"entities.attempts={self.attempts}, allowed 1 or more")


class EntitiesStage:
    """Scores `people`, `vehicles`, `animals`, their sum `entities`, and `vlm_quality`.

    Where the model's answers cannot be read they are None and `vlm_failure` says why.
    """

    name = "entities"
    version = "1"

    def __init__(self, config: EntitiesConfig, vlm: VlmConfig) -> None:
        config.check()
        vlm.check()
        if vlm.engine == VlmEngine.none:
            raise ValueError("entities.enabled=true asks the model of vlm, but vlm.engine=none; set it to "
                             "endpoint or transformers")
        self._config, self._vlm = config, vlm
        self.resources = engine.resources(vlm)
        self._model: Vlm | None = None

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self._config) | {"vlm": engine.settings(self._vlm)}

    def needs(self) -> Sequence[Needs]:
        return [engine.needs(self._vlm)]

    def setup(self) -> None:
        self._model = engine.load(self._vlm)

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return []

    def process(self, clip: Clip) -> StageOutput:
        return self.process_batch([clip])[0]

    def process_batch(self, clips: Sequence[Clip]) -> list[StageOutput]:
        """Counts for clips; only those whose answers cannot be read are asked about again."""
        assert self._model is not None
        fields: list[dict[str, Any]] = [{} for _ in clips]
        shown = [engine.pictures(clip.frames, self._vlm.frames, self._vlm.long_side) for clip in clips]
        pending = {at: _ASK for at in range(len(clips))}
        heat = self._vlm.temperature
        for _ in range(self._config.attempts):
            if not pending:
                break
            asked = [Question(clips[at].record.clip_id, shown[at], text, heat)
                     for at, text in pending.items()]
            for at, answer in zip(list(pending), engine.ask(self._model, asked), strict=True):
                try:
                    fields[at] = {**read_counts(answer.text), "vlm_failure": None}
                    del pending[at]
                except ValueError as error:
                    fields[at] = {"vlm_failure": f"{self._config.attempts} attempts, the last: {error}"}
                    pending[at] = _ASK + _AGAIN.format(fault=error)
            heat = max(heat, _WARMER)
        return [StageOutput(found | licence_fields(clip.record, self.needs()))
                for found, clip in zip(fields, clips, strict=True)]


def read_counts(answer: str) -> dict[str, float]:
    """The scores in a model's answer, the last JSON object in it. Raises ValueError saying what is wrong."""
    objects = _OBJECT.findall(answer)
    if not objects:
        raise ValueError(f"there is no JSON object in {answer[:80]!r}")
    try:
        found = json.loads(objects[-1])
    except json.JSONDecodeError as error:
        raise ValueError(f"{objects[-1][:80]!r} is not JSON ({error.msg})") from None
    scores: dict[str, float] = {}
    for name in (*KINDS, "quality"):
        value = found.get(name)
        most = 1 if name == "quality" else _MOST
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{name} is {value!r}, expected a number from 0 to {most}")
        scores[name] = float(value)
    scores["vlm_quality"] = scores.pop("quality")
    scores["entities"] = sum(scores[name] for name in KINDS)
    return scores
