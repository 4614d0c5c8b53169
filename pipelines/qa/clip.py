"""Everything about one clip: its row, what the thresholds say, its cameras over time, points of its depth."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from annotate.filters import Thresholds
from dataset.camera import rotation_angle_deg, unproject
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, FrameVerdict, to_row
from dataset.report.scores import SCORES
from dataset.trajectory import align_tracks, apply_sim3
from pipelines.qa.index import ClipIndex
from pipelines.qa.rules import explain

_CLOUD_MAPS, _CLOUD_POINTS = 12, 700
_DIGITS = 6
_PROVENANCE = ("uri", "source", "licence", "video_id", "shot", "start_s", "end_s", "source_width",
               "source_height", "source_fps", "source_codec", "corrupt_frames", "frames", "fps", "width",
               "height", "pose_engine", "depth_engine", "scale_status", "metric_scale", "scale_sigma_log",
               "scale_origin", "motion", "agreement", "pose_doubts", "config_hash", "code_version",
               "shard", "annotated_at")
_WHY = ("detail", "pose_failure", "depth_failure")


def describe(index: ClipIndex, record: ClipRecord, thresholds: Thresholds) -> dict[str, Any]:
    """The page of a clip, without pixels and cameras."""
    columns = ("final", "judged", "note", "reviewer", "judged_at", "trouble", "seconds")
    (state,) = index.ask(f"select {', '.join(columns)} from clips where clip_id = ?", [record.clip_id])
    row = to_row(record)
    return {
        "clip_id": record.clip_id, "kind": str(record.kind), "verdict": str(record.verdict),
        "reasons": record.reasons, "caption": record.caption, **dict(zip(columns, state)),
        "why": [row[name] for name in _WHY if row[name]], "rules": explain(record, thresholds),
        "provenance": {name: row[name] for name in _PROVENANCE if row[name] is not None},
        "engines": json.loads(record.engines or "{}"),
        "stage_seconds": json.loads(record.stage_seconds or "{}"),
        "members": [member.name.removeprefix(f"{record.clip_id}.") for member in record.members],
        "frames": record.frames, "fps": record.fps, "percentiles": _percentiles(index, record),
    }


def _percentiles(index: ClipIndex, record: ClipRecord) -> dict[str, float]:
    """Share of all clips whose score is lower, for every score of this one."""
    known = [score.column for score in SCORES if getattr(record, score.column) is not None]
    if not known:
        return {}
    parts = ", ".join(f"count(*) filter (where {name} < ?)::double / nullif(count({name}), 0)"
                      for name in known)
    (row,) = index.ask(f"select {parts} from clips where kind = 'clip'", [getattr(record, n) for n in known])
    return {name: value for name, value in zip(known, row) if value is not None}


def path(track: CameraTrack, truth: CameraTrack | None, record: ClipRecord) -> dict[str, Any]:
    """Cameras of a clip frame by frame, for the 3-D view and the plots; null where a frame has no pose."""
    posed = track.posed & np.isfinite(track.c2w).all((1, 2))
    speed, turn = motion(track)
    unit = {"m": "m", "path": "path lengths"}.get(track.unit, track.unit)
    found = {
        "failure": track.failure, "unit": unit, "size": list(track.size), "engine": track.engine,
        "times": _plain(track.timestamps), "c2w": [
            _plain(pose[:3].reshape(-1)) if there else None for pose, there in zip(track.c2w, posed)],
        "intrinsics": [_plain(k) for k in track.intrinsics],
        "verdicts": [FrameVerdict(v).name.lower() for v in track.frame_verdict.tolist()],
        "speed": _plain(speed), "turn": _plain(turn), "focal": _plain(track.intrinsics[:, 0]),
        "sigma_position": _plain(track.sigma_position), "sigma_rotation": _plain(track.sigma_rotation_deg),
        "scale": record.metric_scale, "scale_sigma": record.scale_sigma_log,
        "scale_status": record.scale_status, "truth": None,
    }
    if truth is not None and track.failure is None and (posed & truth.posed).sum() > 1:
        both = posed & truth.posed
        reference = apply_sim3(align_tracks(truth.c2w[both], track.c2w[both]), truth.c2w[both])
        found["truth"] = [_plain(centre) for centre in reference[:, :3, 3]]
    return found


def motion(track: CameraTrack) -> tuple[np.ndarray, np.ndarray]:
    """Speed in units of the track a second, and turn in degrees a second, both (F,): of the step that leads
    to a frame. NaN at the first frame and wherever one end of the step has no pose."""
    count = len(track.c2w)
    speed, turn = np.full(count, np.nan), np.full(count, np.nan)
    posed = track.posed & np.isfinite(track.c2w).all((1, 2))
    periods = np.diff(track.timestamps)
    steps = np.flatnonzero(posed[:-1] & posed[1:] & (periods > 0))
    moved = track.c2w[steps + 1, :3, 3] - track.c2w[steps, :3, 3]
    speed[steps + 1] = np.linalg.norm(moved, axis=1) / periods[steps]
    turned = track.c2w[steps, :3, :3].swapaxes(1, 2) @ track.c2w[steps + 1, :3, :3]
    turn[steps + 1] = rotation_angle_deg(turned) / periods[steps]
    return speed, turn


def cloud(track: CameraTrack, maps: DepthMaps) -> dict[str, Any]:
    """Points of some depth maps in the world, with the frame each was seen from: wrong poses smear them."""
    chosen = np.unique(np.linspace(0, len(maps.frames) - 1, _CLOUD_MAPS).round().astype(int))
    points, seen = [], []
    for place in chosen.tolist() if len(maps.frames) else []:
        frame = int(maps.frames[place])
        if frame >= len(track.c2w) or not np.isfinite(track.c2w[frame]).all():
            continue
        rows, columns = np.nonzero(maps.valid[place] & (maps.depth[place] > 0))
        if not len(rows):
            continue
        few = np.unique(np.linspace(0, len(rows) - 1, _CLOUD_POINTS).round().astype(int))
        rows, columns = rows[few], columns[few]
        pixels = np.stack([columns + 0.5, rows + 0.5], axis=-1).astype(np.float64)
        depth = maps.depth[place][rows, columns].astype(np.float64)
        local = unproject(pixels, depth, maps.intrinsics[place])
        points.append(local @ track.c2w[frame, :3, :3].T + track.c2w[frame, :3, 3])
        seen.append(np.full(len(rows), frame))
    if not points:
        return {"points": [], "frames": []}
    return {"points": [_plain(p) for p in np.concatenate(points)], "frames": np.concatenate(seen).tolist()}


def _plain(values: np.ndarray) -> list[float | None]:
    """Rounded floats for JSON, null for what is not finite."""
    return [round(v, _DIGITS) if np.isfinite(v) else None for v in np.asarray(values, np.float64).tolist()]
