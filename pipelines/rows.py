"""What travels between the workers: names, scores and references to staged files, never pixels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.ledger import StagedFile


@dataclass
class VideoRow:
    """A source on its way to the cutter."""

    video: str  # its name in the ledger
    item: dict[str, Any]  # the SourceItem's fields
    committed: list[str]  # its clips that are in the index already

    def to_row(self) -> dict[str, Any]:
        return {"video": self.video, "body": json.dumps([self.item, self.committed])}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> VideoRow:
        item, committed = json.loads(row["body"])
        return cls(row["video"], item, committed)


@dataclass
class ClipRow:
    """A row of the index on its way to the sink, or (`ended`) the end of a video."""

    video: str
    clip: str
    fields: dict[str, Any] = field(default_factory=dict)  # of the ClipRecord, so far
    files: dict[str, StagedFile] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # stage -> wall time
    failure: str | None = None  # "stage: sentence": a stage could not answer
    reason: str | None = None  # the short name of the failure
    lost: str | None = None  # staging was damaged: neither annotated nor failed; the next run does it
    ended: list[str] | None = None  # every row of the video, when this is its end
    share: float | None = None  # of the video that lies before the end of this clip, where known

    def to_row(self) -> dict[str, Any]:
        body = asdict(self)
        return {"video": body.pop("video"), "clip": body.pop("clip"), "body": json.dumps(body)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ClipRow:
        body = json.loads(row["body"])
        body["files"] = {name: StagedFile(**file) for name, file in body["files"].items()}
        return cls(video=row["video"], clip=row["clip"], **body)
