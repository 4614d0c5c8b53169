"""The caption stage: a caption that came with the video, else one from a table or a vision-language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annotate.caption import wording
from annotate.caption.config import CaptionConfig, CaptionEngine
from annotate.caption.table import CaptionTable
from annotate.stage import Clip, Resources, StageOutput
from annotate.vlm import engine as vlm_engine
from annotate.vlm.config import VlmConfig, VlmEngine
from annotate.vlm.engine import Question, Vlm
from annotate.weights import Needs, licence_fields

GIVEN = "given"
_WARMER = 0.7
"""Temperature of attempts after the first: at 0 a model would say the same thing again."""


class CaptionStage:
    """The record's caption, checked by the rule; what fails it has `caption_failure`.

    A caption that came with the video stays if it passes the rule, or if there is no engine. A model's
    caption that never passes is not written: the clip has none then. Raises ValueError for settings that
    contradict each other and for a table that cannot be read.
    """

    name = "caption"

    def __init__(self, config: CaptionConfig | None = None, vlm: VlmConfig | None = None) -> None:
        self._config, self._vlm = config or CaptionConfig(), vlm or VlmConfig()
        self._config.check()
        self._vlm.check()
        self.version = f"1+{wording.VERSION}"
        self._asks = self._config.engine == CaptionEngine.vlm
        if self._asks and self._vlm.engine == VlmEngine.none:
            raise ValueError("caption.engine=vlm asks the model of vlm, but vlm.engine=none; set it to "
                             "endpoint or transformers")
        self._table = CaptionTable.read(self._config.path) if self._config.path else None
        self.resources = vlm_engine.resources(self._vlm) if self._asks else Resources()
        self._model: Vlm | None = None

    def settings(self) -> dict[str, Any]:
        values = dataclasses.asdict(self._config)
        if self._asks:
            values["vlm"] = vlm_engine.settings(self._vlm)
        if self._table is not None:
            values["path"] = self._table.digest
        return values

    def needs(self) -> Sequence[Needs]:
        return [vlm_engine.needs(self._vlm)] if self._asks else []

    def setup(self) -> None:
        if self._asks:
            self._model = vlm_engine.load(self._vlm)

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return []

    def process(self, clip: Clip) -> StageOutput:
        return self.process_batch([clip])[0]

    def process_batch(self, clips: Sequence[Clip]) -> list[StageOutput]:
        """Captions of clips; those that the model has to write are asked for together."""
        found = [self._known(clip) for clip in clips]
        wanting = [at for at, fields in enumerate(found) if fields is None]
        written = self._write([clips[at] for at in wanting]) if wanting else []
        answers = dict(zip(wanting, written, strict=True))
        return [StageOutput(fields if fields is not None else answers[at]) for at, fields in enumerate(found)]

    def _known(self, clip: Clip) -> dict[str, Any] | None:
        """The caption's columns where no model has to be asked."""
        given = clip.record.caption
        fault = wording.camera_fault(given) if given is not None else None
        is_wanted = fault is None and not self._config.replace
        if given is not None and (is_wanted or self._config.engine == CaptionEngine.none):
            return {"caption_engine": GIVEN, "caption_failure": fault}
        if self._asks:
            return None
        caption = self._table.find(clip.record.clip_id, clip.record.uri) if self._table else None
        if caption is None:
            return {"caption": None, "caption_failure": "the table has none" if self._table else None}
        return {"caption": caption, "caption_engine": str(CaptionEngine.file),
                "caption_failure": wording.camera_fault(caption)}

    def _write(self, clips: Sequence[Clip]) -> list[dict[str, Any]]:
        """Captions by the model, asked again for those that have a fault."""
        assert self._model is not None
        drafts = [_Draft(clip.record.clip_id,
                         vlm_engine.pictures(clip.frames, self._vlm.frames, self._vlm.long_side),
                         wording.ask_text(self._config), self._vlm.temperature) for clip in clips]
        for attempt in range(1, self._config.attempts + 1):
            pending = [draft for draft in drafts if draft.fault is not None]
            if not pending:
                break
            questions = [Question(d.clip_id, d.pictures, d.text, d.temperature) for d in pending]
            for draft, answer in zip(pending, vlm_engine.ask(self._model, questions), strict=True):
                draft.caption, draft.attempts = wording.plain_words(answer.text), attempt
                draft.fault = wording.fault_of(draft.caption, self._config, answer.is_whole)
                if draft.fault is not None:
                    draft.text = wording.again_text(self._config, draft.caption, draft.fault)
                    draft.temperature = max(self._vlm.temperature, _WARMER)
        return [self._fields(draft, clip) for draft, clip in zip(drafts, clips, strict=True)]

    def _fields(self, draft: _Draft, clip: Clip) -> dict[str, Any]:
        failure = None
        if draft.fault is not None:
            failure = f"{draft.attempts} attempts, the last: {draft.fault}"
        return {"caption": draft.caption if failure is None else None, "caption_failure": failure,
                "caption_engine": f"vlm:{self._vlm.model}", "caption_attempts": draft.attempts,
                **licence_fields(clip.record, self.needs())}


@dataclass
class _Draft:
    clip_id: str
    pictures: tuple[np.ndarray, ...]
    text: str  # of the next question
    temperature: float
    fault: str | None = field(default="not asked yet")
    caption: str = ""
    attempts: int = 0
