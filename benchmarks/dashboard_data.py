"""A data set of any number of clips with invented scores and no files: to time what only reads the index."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from annotate.config import AnnotateConfig
from annotate.filters import Bound, Thresholds, to_sql
from conf import load
from dataset.catalog import INDEX, SHARDS, open_dataset, write_table
from dataset.clip import SCHEMA_VERSION, index_schema
from dataset.store import Store

SHARD_CLIPS = 300
FRAMES, FPS = 161, 16.0
_MEMBERS = (("camera.npz", 21_000), ("depth.npz", 180_000), ("json", 3_000), ("mp4", 4_000_000))
_SOURCES = (("walks", "CC-BY-4.0", 0.55), ("drone", "CC-BY-NC-4.0", 0.3), ("games", None, 0.15))
_SKEWED = {  # score: median, spread of its logarithm
    "flow_dis": (14.0, 1.0), "vmaf_motion": (9.0, 0.9), "sharpness": (120.0, 1.0), "speed_max": (2.2, 0.6),
    "acceleration_max": (6.0, 0.8), "angular_speed_max_deg": (35.0, 0.8), "angular_jump_deg": (1.1, 0.9),
    "jerk_ratio": (2.0, 0.4), "reprojection_px": (0.45, 0.4), "path_length": (14.0, 0.7),
    "selfcheck_sampson_px": (0.28, 0.5), "agreement_position": (0.004, 1.0), "focal_px": (900.0, 0.2),
    "agreement_rotation_deg": (0.2, 0.8), "agreement_focal": (0.01, 0.9), "scale_sigma_log": (0.1, 0.3),
    "focal_divergence": (0.01, 0.8), "focal_range": (0.01, 1.0), "scale_mad_log": (0.03, 0.5),
}
_SHARES = {  # share: how often it is near one, how far from it
    "posed_share": 0.02, "selfcheck_cheirality": 0.02, "depth_valid_share": 0.3, "pose_inlier_share": 0.2,
}
_PLAIN = {  # score: mean, deviation, low, high
    "saturation": (70.0, 30.0, 0, 255), "exposure": (118.0, 34.0, 0, 255), "dark_share": (0.05, 0.08, 0, 1),
    "bright_share": (0.03, 0.05, 0, 1), "fov_x_deg": (72.0, 14.0, 12, 150), "fov_y_deg": (44.0, 9.0, 8, 130),
    "fov_outside_share": (0.0, 0.02, 0, 1),
}


def default_thresholds() -> Thresholds:
    """Those of conf/thresholds/default.yaml."""
    return load(AnnotateConfig, "annotate", ["src=none", "out=none"]).thresholds


def write_index(folder: Path, clips: int, seed: int = 0) -> Store:
    """A data set whose index has so many clips, judged by the default thresholds, in two segments."""
    store, thresholds = Store(folder), default_thresholds()
    plain = json.loads(json.dumps(dataclasses.asdict(thresholds)))
    open_dataset(store, "invented", {"invented": True}, plain)
    table = judged(invented(clips, np.random.default_rng(seed)), thresholds)
    half = len(table) // 2
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        write_table(store, f"{INDEX}/{number:020x}.parquet", part)
    return store


def invented(count: int, rng: np.random.Generator) -> pa.Table:
    """Rows of the index, all kept; scores as skewed as real ones, some of them missing."""
    schema = index_schema()
    columns: dict[str, object] = {field.name: pa.nulls(count, field.type) for field in schema}
    ids = np.array([value.hex() for value in _chunks(rng.bytes(10 * count))])
    source = rng.choice(len(_SOURCES), count, p=[share for *_, share in _SOURCES])
    video, number = np.arange(count) // 6, np.arange(count) % 6
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    fixed = {"kind": "clip", "schema_version": SCHEMA_VERSION, "frames": FRAMES, "fps": FPS, "width": 1280,
             "height": 720, "source_width": 1920, "source_height": 1080, "source_fps": 30.0, "cuts": 0.0,
             "source_codec": "h264", "verdict": "kept", "pose_engine": "klt", "scale_origin": "ground plane",
             "engines": "{}", "config_hash": "invented", "code_version": "invented"}
    columns |= {name: [value] * count for name, value in fixed.items()}
    columns |= {
        "clip_id": ids, "video_id": [f"video{one:07d}" for one in video],
        "uri": [f"/videos/{one:07d}.mp4" for one in video], "source": [_SOURCES[one][0] for one in source],
        "licence": [_SOURCES[one][1] for one in source],
        "start_s": number * 10.0, "end_s": number * 10 + 10.0,
        "caption": [f"a street with {one % 97} houses and a canal" for one in range(count)],
        "reasons": [[]] * count,
        "motion": rng.choice(["parallax", "planar", "rotation_only", "static"], count, p=[.8, .08, .09, .03]),
        "scale_status": rng.choice(["metric_prior", "relative"], count, p=[0.7, 0.3]),
        "shard": [f"{SHARDS}/kept-{one // SHARD_CLIPS:020x}.tar" for one in range(count)],
        "members": _members(ids),
        "annotated_at": [(start + datetime.timedelta(seconds=9 * one)).isoformat() for one in range(count)],
        "stage_seconds": [f'{{"cut": {6 + one % 5}, "pose": {9 + one % 7}, "depth": 5, "quality": 2}}'
                          for one in range(count)],
    }
    for name, (median, spread) in _SKEWED.items():
        columns[name] = _with_gaps(median * np.exp(spread * rng.standard_normal(count)), name, rng)
    for name, width in _SHARES.items():
        columns[name] = np.clip(1 - np.abs(width * rng.standard_normal(count)), 0, 1)
    for name, (mean, deviation, low, high) in _PLAIN.items():
        columns[name] = np.clip(mean + deviation * rng.standard_normal(count), low, high)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def judged(table: pa.Table, thresholds: Thresholds) -> pa.Table:
    """The same rows with the verdict of the thresholds, for a reason the first bound a clip exceeds."""
    cases = []
    for item in dataclasses.fields(thresholds):
        bound = getattr(thresholds, item.name)
        if isinstance(bound, Bound):
            cases += [f"when {item.name} {sign} {value!r} then '{item.name}{sign}{value:g}'"
                      for sign, value in (("<", bound.min), (">", bound.max)) if value is not None]
    kept = to_sql(thresholds)
    with duckdb.connect() as connection:
        connection.register("clips", table)
        found = connection.execute(
            f"select ({kept}) as kept, case {' '.join(cases)} else 'motion=static' end from clips").fetchall()
    verdicts = ["kept" if kept else "rejected" for kept, _ in found]
    reasons = [[] if kept else [why] for kept, why in found]
    for name, values in (("verdict", verdicts), ("reasons", reasons)):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def _members(ids: np.ndarray) -> list[list[dict[str, object]]]:
    rows, offset = [], 0
    for row, name in enumerate(ids):
        offset = 0 if row % SHARD_CLIPS == 0 else offset
        members = []
        for member, size in _MEMBERS:
            offset += 512
            members.append({"name": f"{name}.{member}", "offset": offset, "size": size, "sha256": name * 3})
            offset += -(-size // 512) * 512
        rows.append(members)
    return rows


def _with_gaps(values: np.ndarray, name: str, rng: np.random.Generator) -> pa.Array:
    """Scores of a second engine, which is asked for a tenth of the clips, have gaps."""
    return pa.array(values, mask=rng.random(len(values)) > 0.1 if name.startswith("agreement") else None)


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + 10] for at in range(0, len(data), 10)]
