"""Published latents into a latent set, once it is seen that the codec at hand is the one that made them."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from annotate.clip_video import ClipVideo
from annotate.source.cameras import BadCameras
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.sana_wm import ZipShard, open_zip, read_latents
from dataset.catalog import CatalogError, committed_ids, query
from dataset.clip import ClipRecord, from_row
from dataset.fit import Framing, fit_clip, fit_frame
from dataset.latents import (
    CAMERA_MEMBER,
    DESCRIPTION,
    FAMILY,
    LATENTS,
    LATENTS_MEMBER,
    TEXT_MEMBER,
    LatentRecord,
    LatentSet,
    Status,
    default_name,
    latent_store,
    latents_to_npy,
    open_set,
)
from dataset.lock import DatasetLock
from dataset.reader import read_files
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import recover
from pipelines.import_set_config import ImportSetConfig, LatentImportConfig
from pipelines.latents_config import LatentsConfig
from pipelines.latents_encode import Encoder

if TYPE_CHECKING:
    from model.codec import Codec

_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True)
class Made:
    """What an import of latents did."""

    url: str
    new: int
    failed: int


def import_latents(config: ImportSetConfig, folder: Folder, paths: list[str], data: Store) -> Made:
    """Latents of every clip of the data set that came from these zips and has no row in the latent set yet.

    Raises CatalogError when the latents are not of the codec that is named, LockHeld while the latent set is
    being written.
    """
    options = config.latents
    assert options.src is not None
    root = options.src.rstrip("/")
    rows = query(data, "kind = 'clip' and verdict != 'failed' and shard is not null").to_pylist()
    source = _Source(folder, paths, root, {record.uri: record for record in map(from_row, rows)})
    encoder = Encoder(LatentsConfig(
        codec=options.codec, text=options.text, chi_prompt=options.chi_prompt,
        text_tokens=options.text_tokens, text_channels=options.text_channels), options.device)
    stride = encoder.codec.space_stride
    first = next((z for _, z in source.latents() if not isinstance(z, BadCameras)), None)
    if first is None:
        raise CatalogError(f"latents.src={root}: no zip there holds latents of a clip of {folder.src}")
    described = encoder.describe((first.shape[2] * stride, first.shape[3] * stride))
    described.framing = str(options.framing)
    if len(first) != described.channels:
        raise CatalogError(f"latents.src={root}: latents of {len(first)} channels, {options.codec} has "
                           f"{described.channels}: latents.codec is not what made them")
    store = latent_store(data, options.name or default_name(options.codec, _size(described)))
    if options.check is not None and not store.exists(DESCRIPTION):
        _verify(source, data, encoder, described, options)
    with DatasetLock(store) as lock:
        open_set(store, described, lambda: encoder.null_text.to_npz())
        recover(store, rows=LATENTS)
        job = _Job(config, data, store, lock, encoder, described)
        for record, z in source.latents(committed_ids(store, rows=LATENTS)):
            job.take(record, z)
        job.commit()
    return Made(store.url, job.new, job.failed)


@dataclass(frozen=True)
class _Source:
    """The clips of the data set by their addresses, and where their published latents lie."""

    folder: Folder
    paths: list[str]
    root: str
    records: dict[str, ClipRecord]

    def latents(self, done: Collection[str] = ()) -> Iterator[tuple[ClipRecord, np.ndarray | BadCameras]]:
        """Row and latents, or what is wrong with them, of every clip that is not done."""
        for path in self.paths:
            cache = f"{self.root}/{path.rpartition('/')[2]}"
            try:
                shard = ZipShard(self.folder, path)
            except BadCameras:
                continue  # its row says so
            with shard, contextlib.ExitStack() as stack:
                archive: zipfile.ZipFile | BadCameras
                try:
                    archive = stack.enter_context(open_zip(cache))
                except BadCameras as error:
                    archive = error
                for key in shard.keys:
                    record = self.records.get(f"{shard.address}#{key}")
                    if record is None or record.clip_id in done:
                        continue
                    try:
                        if isinstance(archive, BadCameras):
                            raise archive
                        z = read_latents(archive, cache, key)
                    except BadCameras as error:
                        yield record, error
                    else:
                        yield record, z


class _Job:
    """Writes latents and the rows of those that cannot be had."""

    def __init__(
        self, config: ImportSetConfig, data: Store, store: Store, lock: DatasetLock, encoder: Encoder,
        described: LatentSet,
    ) -> None:
        self._data, self._lock = data, lock
        self._encoder, self._set = encoder, described
        self._writer = ShardWriter(store, FAMILY, config.write.shard_mb * _BYTES_PER_MB, rows=LATENTS)
        self._rows: list[LatentRecord] = []
        self.new = self.failed = 0

    def take(self, record: ClipRecord, z: np.ndarray | BadCameras) -> None:
        """One clip; commits a shard when one is full."""
        begun = time.monotonic()
        try:
            if isinstance(z, BadCameras):
                raise z
            files = self._files(record, z)
        except BadCameras as error:
            self._rows.append(self._row(record, None, str(error)))
            self.failed += 1
        else:
            row = self._row(record, z.shape, None)
            row.seconds = round(time.monotonic() - begun, 3)
            self._writer.add(row, files)
        self.new += 1
        if self._writer.is_full:
            self.commit()

    def commit(self) -> None:
        """Put everything taken so far into the latent set."""
        self._lock.check()
        self._writer.commit(self._rows)
        self._rows = []

    def _files(self, record: ClipRecord, z: np.ndarray) -> dict[str, bytes]:
        """Raises BadCameras where the latents are not of the clip."""
        assert record.frames is not None
        wanted = (self._set.channels, (record.frames - 1) // self._set.time_stride + 1,
                  *(side // self._set.space_stride for side in self._set.size))
        if z.shape != wanted:
            raise BadCameras(f"{record.uri}: latents of shape {z.shape}, expected {wanted}")
        with np.errstate(over="ignore"):
            half = z.astype(np.float16)
        if not np.isfinite(half).all():
            raise BadCameras(f"{record.uri}: latents beyond float16")
        stored = read_files(self._data, record, [CAMERA_MEMBER])  # unchanged: the set says how it was framed
        return {LATENTS_MEMBER: latents_to_npy(half), CAMERA_MEMBER: stored[CAMERA_MEMBER],
                TEXT_MEMBER: self._encoder.states(record.caption).to_npz()}

    def _row(self, record: ClipRecord, shape: tuple[int, ...] | None, failure: str | None) -> LatentRecord:
        row = LatentRecord(
            record.clip_id, Status.OK if failure is None else Status.FAILED, source=record.source,
            caption=record.caption, frames=record.frames, fps=record.fps, config_hash=self._set.key(),
            reason=None if failure is None else "bad_latents", detail=failure,
            encoded_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
        if shape is not None:
            row.latent_frames, row.latent_height, row.latent_width = shape[1:]
        return row


def _verify(
    source: _Source, data: Store, encoder: Encoder, described: LatentSet, options: LatentImportConfig,
) -> None:
    """Encode the first frame of a clip both ways it may have been made; the stated one must give its latents.

    Raises CatalogError where it does not. A set without video cannot be checked, which is said.
    """
    assert options.check is not None
    for record, z in source.latents():
        if isinstance(z, BadCameras):
            continue
        mp4 = read_files(data, record, ["mp4"]).get("mp4")
        if mp4 is None:
            continue
        frame = next(ClipVideo(mp4).iter_rgb())
        differ = {framing: first_frame_difference(encoder.codec, frame, z, framing, _size(described))
                  for framing in Framing}
        stated, table = differ[options.framing], ", ".join(f"{f} {share:.1%}" for f, share in differ.items())
        if stated > options.check or stated > min(differ.values()):
            raise CatalogError(
                f"{record.uri}: its first frame, encoded by {options.codec}, differs from the published "
                f"latents by these shares of their energy: {table}; allowed {options.check:.0%}, and no more "
                "than the other framing.\n  latents.codec or latents.framing is not what made them; "
                "latents.check=null takes them on trust")
        print(f"latents checked against {options.codec}: the first frame differs by {table} of the energy",
              file=sys.stderr)
        return
    print("latents taken on trust: no clip comes with video to encode", file=sys.stderr)


def first_frame_difference(
    codec: Codec, frame: np.ndarray, z: np.ndarray, framing: Framing, size: tuple[int, int],
) -> float:
    """Energy of the difference between the first latent frame and that of `frame` (H, W, 3), over its own."""
    import torch

    shown = fit_frame(frame, fit_clip(frame.shape[:2], size, codec.space_stride, framing))
    video = torch.from_numpy(shown).movedim(-1, 0)[None, :, None].float() / 127.5 - 1
    with torch.inference_mode():
        weight = next(iter(codec.parameters()), codec.latent_mean)
        encoded: Any = codec.encode(video.to(weight.device, weight.dtype)).float().cpu().numpy()
    published = z[:, :1].astype(np.float64)
    return float(((encoded[0, :, :1] - published) ** 2).sum() / max((published**2).sum(), 1e-12))


def _size(described: LatentSet) -> tuple[int, int]:
    return described.size[0], described.size[1]
