"""Clips as a folder that FiftyOne opens: videos in `data/`, and `samples.json` with every score of the index.

    fo.Dataset.from_dir("out", dataset_type=fo.types.FiftyOneDataset)

Without a `metadata.json` FiftyOne reads the fields from the samples themselves, whatever its version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dataset.clip import ClipRecord, to_row

SAMPLES = "samples.json"
VIDEO = "data/{}.mp4"
# `frames` means the labels of single frames there; the number of frames is in the metadata.
_NOT_FIELDS = ("members", "shard", "schema_version", "reasons", "engines", "stage_seconds", "frames")


def samples_json(records: Iterable[ClipRecord]) -> bytes:
    """`samples.json` of clips whose video lies at `VIDEO`."""
    return json.dumps({"samples": [_sample(record) for record in records]}, indent=1).encode()


def _sample(record: ClipRecord) -> dict[str, Any]:
    """What is unknown is left out: FiftyOne takes the type of a field from its first value."""
    fields = {name: value for name, value in to_row(record).items()
              if value is not None and name not in _NOT_FIELDS}
    kind = {name: fields.pop(name) for name in ("kind", "verdict")}
    sample: dict[str, Any] = {
        "filepath": VIDEO.format(record.clip_id), "tags": [str(kind["verdict"]), *record.reasons], **fields}
    if record.frames and record.fps:
        sample["metadata"] = {
            "_cls": "VideoMetadata", "mime_type": "video/mp4", "frame_width": record.width,
            "frame_height": record.height, "frame_rate": record.fps, "total_frame_count": record.frames,
            "duration": record.frames / record.fps, "encoding_str": "avc1"}
    return sample
