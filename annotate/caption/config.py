"""Settings of captions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

TABLES = (".csv", ".jsonl", ".parquet")


class CaptionEngine(StrEnum):
    """Where captions come from."""

    none = "none"  # from the manifest or the published set alone
    vlm = "vlm"  # from the model of `vlm`
    file = "file"  # from a table


@dataclass
class CaptionConfig:
    """Captions say what is there and never how the camera moves; one rule checks all of them."""

    engine: CaptionEngine = CaptionEngine.none  # for clips without a caption that passes the rule: none, vlm
    # (the model of vlm), or file
    path: str | None = None  # for file: .csv, .jsonl or .parquet with columns caption, and clip_id or uri
    replace: bool = False  # also where a caption came with the video
    attempts: int = 3  # times the model is asked until a caption passes the rule
    least_words: int = 8  # of a model's caption
    most_words: int = 150  # of a model's caption

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        self.engine = CaptionEngine(self.engine)
        if self.attempts < 1:
            raise ValueError(f"caption.attempts={self.attempts}, allowed 1 or more")
        if not 1 <= self.least_words <= self.most_words:
            raise ValueError(f"caption.least_words={self.least_words}, caption.most_words={self.most_words}: "
                             "allowed 1 or more, the least not above the most")
        if (self.engine == CaptionEngine.file) != (self.path is not None):
            raise ValueError(f"caption.engine={self.engine}, caption.path={self.path}: a path belongs to "
                             "caption.engine=file, and that engine needs one")
        if self.path is not None and PurePosixPath(self.path).suffix.lower() not in TABLES:
            raise ValueError(f"caption.path={self.path}: expected one of {', '.join(TABLES)}")
