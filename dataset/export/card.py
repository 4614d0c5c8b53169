"""The Hugging Face card of a data set: a README.md whose header the hub reads and whose text people read.

Every number comes from the index, so the card can be written at any time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataset.clip import Kind, Verdict
from dataset.funnel import COLUMNS as FUNNEL_COLUMNS
from dataset.funnel import duration, funnel, render_text

COLUMNS = (*FUNNEL_COLUMNS, "source", "licence", "scale_status", "motion", "caption", "width", "height",
           "shard", "path_length")
"""Columns of the index that `dataset_card` reads."""

_HUB_LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
                 "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "gpl-3.0", "odc-by", "odbl", "cdla-permissive-2.0"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"))
UNSTATED = "not stated"


@dataclass(frozen=True)
class Group:
    """The kept clips of one source under one licence."""

    source: str
    licence: str
    clips: int
    seconds: float
    metric: int
    captions: int


def dataset_card(index: pa.Table, name: str, description: str = "") -> bytes:
    """The card of the data set that this index (at least `COLUMNS`) describes; bytes of README.md."""
    clips = index.filter(pc.equal(index["kind"], Kind.CLIP.value))
    kept = clips.filter(pc.equal(clips["verdict"], Verdict.KEPT.value)).to_pylist()
    groups, found = kept_groups(kept), funnel(index)
    text = [
        _header(name, groups, sum(g.clips for g in groups)), f"# {name}", "",
        description or "Video clips with a camera for every frame, made by the open SANA-WM pipeline.", "",
        "## Counts", "",
        f"**{found.kept:,} clips, {duration(found.kept_seconds)} of video**, out of {found.rows:,} pieces "
        f"of {found.videos:,} videos.", "",
        *_table(("source", "licence", "clips", "hours", "metric scale", "with caption"), [
            (g.source, g.licence, f"{g.clips:,}", f"{g.seconds / 3600:.2f}", f"{g.metric:,}",
             f"{g.captions:,}") for g in groups]), "",
        *_counted("scale of the translations", kept, "scale_status"),
        *_counted("camera motion", kept, "motion"), *_sizes(kept),
        "## Licences", "", *_licences(groups), "",
        "## What was filtered out", "", "```", render_text(found), "```", "",
        "## Files", "",
        "`shards/kept-*.tar` are WebDataset shards: `{clip}.mp4`, `{clip}.camera.npz` (camera-to-world, "
        "OpenCV axes, intrinsics in pixels with centres at +0.5), `{clip}.depth.npz` where there is depth, "
        "and `{clip}.json`. `index/*.parquet` has a row for every clip, kept or not, with all scores.", "",
        "```python", "import duckdb",
        "duckdb.sql(\"SELECT clip_id, source, scale_status FROM 'index/*.parquet' WHERE verdict = 'kept'\")",
        "```", "",
    ]
    return "\n".join(text).encode()


def kept_groups(kept: Sequence[dict[str, Any]]) -> list[Group]:
    """Rows of kept clips by source and licence, the largest group first."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in kept:
        found.setdefault((row["source"] or UNSTATED, row["licence"] or UNSTATED), []).append(row)
    groups = [
        Group(source, licence, len(rows), sum((r["frames"] or 0) / r["fps"] for r in rows if r["fps"]),
              sum((r["scale_status"] or "").startswith("metric") for r in rows),
              sum(bool(r["caption"]) for r in rows))
        for (source, licence), rows in found.items()]
    return sorted(groups, key=lambda g: (-g.clips, g.source, g.licence))


def _header(name: str, groups: Sequence[Group], clips: int) -> str:
    """YAML that the hub reads; its strings are JSON strings, which are YAML too."""
    licences = {group.licence.lower() for group in groups}
    known = licences & _HUB_LICENCES
    licence = known.pop() if len(licences) == 1 and known else "other"
    size = next((label for most, label in _SIZES if clips < most), "n>10M")
    lines = ["---", f"license: {licence}"]
    if licence == "other":
        lines.append(f"license_name: {json.dumps('see the table of licences')}")
    lines += [
        f"pretty_name: {json.dumps(name)}", "task_categories:", "- text-to-video", "- image-to-video",
        "tags:", "- camera-pose", "- webdataset", "- video", "size_categories:", f"- {size}", "configs:",
        "- config_name: default", "  data_files:", "  - split: train",
        f"    path: {json.dumps('shards/kept-*.tar')}", "---", ""]
    return "\n".join(lines)


def _licences(groups: Sequence[Group]) -> list[str]:
    by_licence: dict[str, int] = {}
    for group in groups:
        by_licence[group.licence] = by_licence.get(group.licence, 0) + group.clips
    if not by_licence:
        return ["No clip was kept."]
    lines = [f"- {licence}: {clips:,} clips" for licence, clips in by_licence.items()]
    if UNSTATED in by_licence:
        lines += ["", f"**The licence of {by_licence[UNSTATED]:,} clips is not stated: find it out before "
                  "sharing them.**"]
    return ["Every clip keeps the licence of its source, in the column `licence` of the index.", "", *lines]


def _counted(what: str, rows: Sequence[dict[str, Any]], column: str) -> list[str]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[column] or "unknown"] = counts.get(row[column] or "unknown", 0) + 1
    if not counts:
        return []
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    parts = [f"{name} {count:,}" for name, count in ordered]
    return [f"{what.capitalize()}: {', '.join(parts)}.", ""]


def _sizes(rows: Sequence[dict[str, Any]]) -> list[str]:
    sizes = sorted({(row["width"], row["height"], row["frames"], row["fps"]) for row in rows if row["width"]})
    lines = [f"Clips are {w}x{h}, {frames} frames at {fps:g} a second." for w, h, frames, fps in sizes[:8]]
    return [*lines, *([f"And {len(sizes) - 8} other formats."] if len(sizes) > 8 else []), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *clean]]
