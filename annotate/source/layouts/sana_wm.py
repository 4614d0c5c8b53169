"""The example training set published with SANA-WM: zips of clips with finished cameras, and sidecars by zip.

    <stem>.zip                       <key>.json (width, height, prompt, ...) and <key>.mp4
    <stem>_camera.npz                ids, ranges (start, count), pose (n, 4, 4) c2w OpenCV, intrinsics (n, 4)
    <stem>_metric_scale_stats.json   key -> metres per unit, a number or an object with a central value
    <stem>_<score>.json or .jsonl    key -> score;   <stem>_*Caption*.json or .jsonl   key -> caption

Latents lie elsewhere, in zips of the same names: <key>.npz with z (C, T, h, w).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np

from annotate.source.cameras import BadCameras
from annotate.source.filesystem import filesystem
from annotate.source.layouts.folder import Folder
from dataset.camera import check_c2w

SCORES = {"_vmafmotion": "vmaf_motion", "_unimatch": "flow_unimatch", "_dover": "dover",
          "_vlm_entity_filter": "entities", "_vlm_quality_filter": "vlm_quality"}
"""Column of the index by the name of the sidecar."""

_SCALE = "_metric_scale_stats"
_CENTRAL = ("score", "median", "vmafmotion_score", "dover_score", "quality_pass", "entity_count",
            "unimatch_flow_score", "mean")
_CAMERA_ARRAYS = ("ids", "ranges", "pose", "intrinsics")


@dataclass(frozen=True)
class ZipClip:
    """One clip as published. c2w (F, 4, 4) in the set's unit, which times `metric_scale` is metres;
    intrinsics (F, 4) in pixels of `size` = (height, width)."""

    key: str
    mp4: bytes | None
    c2w: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]
    metric_scale: float
    caption: str | None
    scores: dict[str, float]


class ZipShard:
    """One zip and its sidecars. Raises BadCameras when the zip itself cannot be read."""

    def __init__(self, folder: Folder, path: str) -> None:
        self.folder, self.path = folder, path
        self.address = folder.address(path)
        self._stem = path.removesuffix(".zip")
        self._zip = open_zip(self.address)
        self._entries = {entry.filename: entry for entry in self._zip.infolist()}

    def __enter__(self) -> ZipShard:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._zip.close()

    @property
    def keys(self) -> list[str]:
        """Every clip, in the order of the zip."""
        return [name.removesuffix(".json") for name in self._entries if name.endswith(".json")]

    def identity(self, key: str) -> str:
        """20 hex digits that name a clip, by its place and the checksums the zip holds; reads no content."""
        digest = hashlib.blake2b(f"{PurePosixPath(self.path).name}|{key}".encode(), digest_size=10)
        for name in (f"{key}.json", f"{key}.mp4"):
            if name in self._entries:
                digest.update(f"|{name} {self._entries[name].CRC} {self._entries[name].file_size}".encode())
        return digest.hexdigest()

    def clip(self, key: str) -> ZipClip:
        """Raises BadCameras with the sentence that says what is missing or wrong with this clip."""
        notes = self._notes(key)
        c2w, intrinsics = self._cameras(key)
        scale = central_value(self._sidecar(_SCALE).get(key))
        if scale is None or not math.isfinite(scale) or scale <= 0:
            raise BadCameras(f"{self._stem}{_SCALE}.json: {key}: no scale above 0; without one the unit of "
                             "the poses is unknown, and it is not taken for 1")
        try:
            size = int(notes["height"]), int(notes["width"])
        except (KeyError, TypeError, ValueError):
            raise BadCameras(f"{self.path}: {key}.json: no width and height") from None
        found = {column: central_value(self._sidecar(suffix).get(key)) for suffix, column in SCORES.items()}
        scores = {column: v for column, v in found.items() if v is not None and math.isfinite(v)}
        name = f"{key}.mp4"
        mp4 = read_entry(self._zip, self.address, name) if name in self._entries else None
        return ZipClip(key, mp4, c2w, intrinsics, size, scale, self._caption(key, notes), scores)

    # parts

    def _notes(self, key: str) -> dict[str, Any]:
        try:
            notes = json.loads(read_entry(self._zip, self.address, f"{key}.json"))
        except ValueError as error:
            raise BadCameras(f"{self.path}: {key}.json: not JSON: {error}") from None
        if not isinstance(notes, dict):
            raise BadCameras(f"{self.path}: {key}.json: expected an object, found {type(notes).__name__}")
        return notes

    @cached_property
    def _camera_file(self) -> dict[str, np.ndarray] | str:
        """Its arrays, or why there are none: asked for every clip, read once."""
        path = f"{self._stem}_camera.npz"
        try:
            with np.load(io.BytesIO(self.folder.read(path)), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in _CAMERA_ARRAYS}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            return f"{path}: expected arrays {', '.join(_CAMERA_ARRAYS)}: {type(error).__name__}: {error}"

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        assert isinstance(self._camera_file, dict)
        ids, ranges = self._camera_file["ids"].tolist(), self._camera_file["ranges"].tolist()
        return {str(name): (int(start), int(count)) for name, (start, count) in zip(ids, ranges)}

    def _cameras(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        arrays = self._camera_file
        if isinstance(arrays, str):
            raise BadCameras(arrays)
        where = f"{self._stem}_camera.npz: {key}"
        if key not in self._places:
            raise BadCameras(f"{where}: no cameras; a clip without them is not taken for a still one")
        start, count = self._places[key]
        c2w = np.asarray(arrays["pose"][start:start + count], np.float64)
        intrinsics = np.asarray(arrays["intrinsics"][start:start + count], np.float64)
        if not len(c2w) == len(intrinsics) == count:
            raise BadCameras(f"{where}: rows {start} to {start + count} are stated, {len(c2w)} poses and "
                             f"{len(intrinsics)} intrinsics are there")
        try:
            check_c2w(c2w, where)
        except ValueError as error:
            raise BadCameras(str(error)) from None
        usable = intrinsics.shape == (count, 4) and np.isfinite(intrinsics).all()
        if not usable or (intrinsics[:, :2] <= 0).any():
            raise BadCameras(f"{where}: intrinsics of shape {intrinsics.shape}; expected finite fx fy cx cy "
                             "with fx, fy > 0 for every frame")
        return c2w, intrinsics

    def _caption(self, key: str, notes: dict[str, Any]) -> str | None:
        for suffix in self._captions:
            found = self._sidecar(suffix).get(key)
            if isinstance(found, dict):
                found = found.get("prompt") or next((v for v in found.values() if isinstance(v, str)), None)
            if isinstance(found, str) and found.strip():
                return found.strip()
        prompt = notes.get("prompt")
        return prompt.strip() or None if isinstance(prompt, str) else None

    @cached_property
    def _captions(self) -> list[str]:
        folder, _, stem = self._stem.rpartition("/")
        names = {name.rpartition(".")[0] for name, _ in self.folder.names(folder)
                 if name.startswith(f"{stem}_") and "Caption" in name and name.endswith((".json", ".jsonl"))}
        return sorted(name.removeprefix(stem) for name in names)

    def _sidecar(self, suffix: str) -> dict[str, Any]:
        cache = self.__dict__.setdefault("_sidecars", {})
        if suffix not in cache:
            cache[suffix] = _read_sidecar(self.folder, f"{self._stem}{suffix}")
        return cache[suffix]


def shards(folder: Folder) -> list[str]:
    """Paths of all zips below, sorted. Raises ValueError when there are none."""
    found = sorted(folder.by_name((".zip",)).values())
    if not found:
        raise ValueError(f"src={folder.src}: no zip there; docs/sources.md shows which files are expected")
    return found


def read_latents(archive: zipfile.ZipFile, where: str, key: str) -> np.ndarray:
    """z (C, T, h, w) of a clip. Raises BadCameras."""
    data = read_entry(archive, where, f"{key}.npz")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            z = np.asarray(arrays["z"])
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise BadCameras(f"{where}: {key}.npz: expected an array z: "
                         f"{type(error).__name__}: {error}") from None
    if z.ndim != 4 or not np.isfinite(z).all():
        raise BadCameras(f"{where}: {key}.npz: z of shape {z.shape}; expected finite (C, T, h, w)")
    return z


def open_zip(address: str) -> zipfile.ZipFile:
    """Raises BadCameras when the file is not there or is no whole zip."""
    try:
        fs, path = filesystem(address)
        return zipfile.ZipFile(fs.open(path, "rb"))
    except (OSError, zipfile.BadZipFile) as error:
        raise BadCameras(f"{address}: not a whole zip: {type(error).__name__}: {error}") from None


def read_entry(archive: zipfile.ZipFile, where: str, name: str) -> bytes:
    """Bytes of one entry, checked against its checksum. Raises BadCameras."""
    try:
        return archive.read(name)
    except (KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadCameras(f"{where}: {name}: {type(error).__name__}: {error}") from None


def central_value(value: Any) -> float | None:
    """The one number of a score: itself, the mean of a list, or the central value of an object; else None."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list):
        numbers = [float(v) for v in value if isinstance(v, int | float)]
        return sum(numbers) / len(numbers) if numbers else None
    if isinstance(value, dict):
        found = (central_value(value.get(name)) for name in _CENTRAL)
        return next((number for number in found if number is not None), None)
    return None


def _read_sidecar(folder: Folder, path: str) -> dict[str, Any]:
    """Values by key, from .json (an object, or a list of objects with `key`) or .jsonl; empty if absent."""
    for name in (f"{path}.json", f"{path}.jsonl"):
        try:
            text = folder.read(name).decode()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise BadCameras(f"{name}: {type(error).__name__}: {error}") from None
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()] if name.endswith("l") \
                else json.loads(text)
        except ValueError as error:
            raise BadCameras(f"{name}: not JSON: {error}") from None
        if isinstance(rows, dict):
            return rows
        return {str(row["key"]): row for row in rows if isinstance(row, dict) and "key" in row}
    return {}
