"""Settings of `python -m pipelines.export`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ExportFormat(StrEnum):
    """Whom the files are for."""

    rerun = "rerun"
    colmap = "colmap"
    fiftyone = "fiftyone"
    card = "card"


@dataclass
class ExportConfig:
    """A data set in, files of another tool out."""

    data: str = "???"  # folder or URL of the data set
    to: ExportFormat = ExportFormat.rerun  # rerun: {clip}.mcap; colmap: {clip}/ with a text model and images;
    # fiftyone: data/ and samples.json; card: README.md for the Hugging Face hub
    out: str = "???"  # folder or URL; with to=card it may be the data set itself
    where: str = "verdict = 'kept'"  # which clips, as SQL over the index; a card is always of all
    limit: int | None = None  # clips at most; null: all
    images: bool = True  # with to=colmap: also write the pictures, as JPEG
    jpeg_quality: int = 95  # of these pictures
    name: str | None = None  # with to=card: of the data set; null: of its folder
    description: str = ""  # with to=card: a sentence or two at the top

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit}, allowed 1 or more")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality={self.jpeg_quality}, allowed 1 to 100")
