"""Clip by clip from a data set to the files of another tool."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import numpy as np

from dataset.catalog import CatalogError, read_description, read_index
from dataset.clip import CameraTrack, ClipRecord, DepthMaps
from dataset.export import card, fiftyone
from dataset.export.colmap import IMAGE_NAME, colmap_model
from dataset.export.frames import iter_frames
from dataset.export.rerun import write_recording
from dataset.reader import Sample, SampleError, read_samples
from dataset.store import Store
from pipelines.export_config import ExportConfig, ExportFormat

_MEMBERS = {
    ExportFormat.rerun: ("mp4", "camera.npz", "depth.npz"),
    ExportFormat.colmap: ("mp4", "camera.npz", "depth.npz"),
    ExportFormat.fiftyone: ("mp4",),
}


def run(config: ExportConfig) -> int:
    """Returns the exit code: 1 when a clip could not be exported; the others are. Raises CatalogError."""
    data, out = Store(config.data), Store(config.out)
    read_description(data)
    if config.to is ExportFormat.card:
        name = config.name or data.url.rstrip("/").rpartition("/")[2]
        out.write("README.md", card.dataset_card(read_index(data, card.COLUMNS), name, config.description))
        print(f"card: {out.name('README.md')}")
        return 0
    done: list[ClipRecord] = []
    failed: list[str] = []
    for sample in _samples(data, config):
        try:
            _export(sample, out, config)
            done.append(sample.record)
        except (SampleError, ValueError) as error:
            failed.append(f"clip {sample.record.clip_id}: {error}")
    if config.to is ExportFormat.fiftyone:
        out.write(fiftyone.SAMPLES, fiftyone.samples_json(done))
    if not done and not failed:
        raise CatalogError(f"{data.url}: no clip with files satisfies where={config.where!r}")
    print(f"{len(done):,} clips -> {out.url}")
    for sentence in failed:
        print(f"not exported: {sentence}", file=sys.stderr)
    return 1 if failed else 0


def _samples(data: Store, config: ExportConfig) -> Iterator[Sample]:
    for number, sample in enumerate(read_samples(data, config.where, _MEMBERS[config.to])):
        if config.limit is not None and number >= config.limit:
            return
        yield sample


def _export(sample: Sample, out: Store, config: ExportConfig) -> None:
    """Raises SampleError or ValueError for a clip that lacks what the format needs."""
    name, files = sample.record.clip_id, sample.files
    if config.to is ExportFormat.fiftyone:
        if "mp4" not in files:
            raise SampleError("it has no video")
        out.write(fiftyone.VIDEO.format(name), files["mp4"])
        return
    if "camera.npz" not in files:
        raise SampleError("it has no cameras")
    track = CameraTrack.from_npz(files["camera.npz"])
    if track.failure is not None or not track.posed.any():
        raise SampleError(f"its cameras were not found: {track.failure or 'no frame has a pose'}")
    depth = DepthMaps.from_npz(files["depth.npz"]) if "depth.npz" in files else None
    if config.to is ExportFormat.rerun:
        recording = io.BytesIO()
        write_recording(recording, sample.record, track, depth, files.get("mp4"))
        out.write(f"{name}.mcap", recording.getvalue())
        return
    colours = _pictures(files.get("mp4"), name, depth, out, config)
    for file_name, data in colmap_model(track, depth, colours).items():
        out.write(f"{name}/sparse/0/{file_name}", data)


def _pictures(
    mp4: bytes | None, name: str, depth: DepthMaps | None, out: Store, config: ExportConfig,
) -> dict[int, np.ndarray]:
    """Write the frames, and keep those that give points their colours."""
    import cv2

    kept: dict[int, np.ndarray] = {}
    wanted = set() if depth is None else set(depth.frames.tolist())
    if mp4 is None or not (wanted or config.images):
        return kept
    for number, frame in enumerate(iter_frames(mp4, f"clip {name}")):
        if number in wanted:
            kept[number] = frame
        if config.images:
            quality = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
            out.write(f"{name}/images/{IMAGE_NAME.format(number)}",
                      cv2.imencode(".jpg", frame[..., ::-1], quality)[1].tobytes())
    return kept
