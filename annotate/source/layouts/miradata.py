"""MiraData: tables of captions and time stamps for videos that everybody fetches for themselves; no cameras.

v0: index = <download>_<video>-<clip>, video_id, start_frame, end_frame, fps, ..._caption
v1: clip_id = <download>.<clip>, video_id, framestamp or timestamp, fps, ..._caption
Videos lie anywhere below: whole ones named by <download>_<video>, <download> or <video>, or finished clips
named by the index.
"""

from __future__ import annotations

import logging
import re
from pathlib import PurePosixPath

from annotate.decode import VideoInfo
from annotate.source.item import SourceConfig, SourceItem
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import Given

log = logging.getLogger(__name__)

_SCENE_CAPTIONS = ("main_object_caption", "background_caption")
"""Captions that tell what is there. The camera caption and the dense one, which cites it, are no prompts."""

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def items(folder: Folder, config: SourceConfig) -> list[SourceItem]:
    """The rows whose video is there, each the stated span of it."""
    videos = {PurePosixPath(name).stem: path for name, path in folder.by_name(tuple(config.suffixes)).items()}
    rows = [*folder.rows(("index", "video_id")), *folder.rows(("clip_id", "video_id"))]
    if not rows:
        raise ValueError(f"src={folder.src}: no table (.csv) with the columns index or clip_id, and video_id")
    found: dict[str, SourceItem] = {}
    for row in rows:
        name = row.get("index") or row["clip_id"]
        download = name.rpartition("-")[0] if row.get("index") else name.rpartition(".")[0]
        start_s, end_s, fault = None, None, None
        if name in videos:
            path = videos[name]
        else:
            stems = (download, row["video_id"], download.partition("_")[0])
            path = next((videos[stem] for stem in stems if stem in videos), "")
            if not path:
                continue
            try:
                start_s, end_s = _span(row)
            except (ValueError, KeyError, ZeroDivisionError) as error:
                fault = (f"clip {name}: start_frame and end_frame, framestamp or timestamp give no span: "
                         f"{type(error).__name__}: {error}")
        found.setdefault(name, SourceItem(folder.address(path), name, start_s, end_s, given=config.given,
                                          caption=_caption(row), fault=fault))
    if len(rows) > len(found):
        log.info("src=%s: %d of %d clips of the tables have their video here; the others are passed over",
                 folder.src, len(found), len(rows))
    return list(found.values())


def cameras(item: SourceItem, info: VideoInfo) -> Given:
    """None come with this set."""
    return Given()


def _caption(row: dict[str, str]) -> str | None:
    parts = [row.get(column, "").strip() for column in _SCENE_CAPTIONS]
    return " ".join(part for part in parts if part) or row.get("short_caption", "").strip() or None


def _span(row: dict[str, str]) -> tuple[float, float]:
    frames = [row.get("start_frame", ""), row.get("end_frame", "")]
    if not all(frames):
        frames = re.findall(r"\d+", row.get("framestamp", ""))
    if len(frames) == 2:
        start_s, end_s = (float(frame) / float(row["fps"]) for frame in frames)
    else:
        start_s, end_s = (3600 * int(hours or 0) + 60 * int(minutes) + float(seconds)
                          for hours, minutes, seconds in _CLOCK.findall(row.get("timestamp", "")))
    if not 0 <= start_s < end_s:
        raise ValueError(f"{start_s:g} to {end_s:g} s")
    return start_s, end_s
