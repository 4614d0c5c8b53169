"""Which clips of a data set are trained on: the user's condition, what no clip may lack, and where each lies.

Asked of the Parquet index alone; no shard is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset.catalog import CatalogError, query, read_description, read_index, read_judged
from dataset.clip import Kind, ScaleStatus, Verdict
from dataset.fit import largest_size
from dataset.latents import (
    CAMERA_MEMBER,
    LATENTS,
    LATENTS_MEMBER,
    TEXT_MEMBER,
    LatentSet,
    Status,
    latent_sets,
    latent_store,
    read_set,
)
from dataset.loader.config import DataConfig, LatentSpace, Lengths, Scale, SourceConfig
from dataset.store import Store
from dataset.verdicts import REVIEWED

VIDEO_MEMBER = "mp4"
MEMBERS = (VIDEO_MEMBER, CAMERA_MEMBER)
LATENT_MEMBERS = (LATENTS_MEMBER, CAMERA_MEMBER, TEXT_MEMBER)
"""What is read of a clip, in a data set and in a latent set."""
_COLUMNS = ("clip_id", "kind", "verdict", "reasons", "shard", "members", "pose_failure", "posed_share",
            "scale_status", "caption", "frames", "width", "height")


@dataclass(frozen=True, order=True)
class Bucket:
    """Samples of one shape: video frames, and (height, width) of the video."""

    frames: int
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.frames}x{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Place:
    """Where a member lies in its shard."""

    offset: int
    size: int
    sha256: str

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass
class Selection:
    """The clips of one source that are trained on, ordered by shard and place; arrays have one value a clip.

    url: of the data set. store: of the shards that are read, the data set's own or a latent set's.
    shard: numbers into `shards`. bucket: numbers into `buckets`. left_out: clips by the reason.
    """

    url: str
    store: Store
    latents: LatentSet | None
    ids: list[str]
    captions: list[str]
    shards: list[str]
    shard: np.ndarray
    buckets: list[Bucket]
    bucket: np.ndarray
    members: dict[str, tuple[np.ndarray, np.ndarray, list[str]]]  # name: offsets, sizes, checksums
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, clip: int) -> dict[str, Place]:
        """Members of a clip that are read, by name."""
        return {name: Place(int(offsets[clip]), int(sizes[clip]), digests[clip])
                for name, (offsets, sizes, digests) in self.members.items()}

    @cached_property
    def summary(self) -> str:
        """One line: how many clips, of which shapes, and what was left out."""
        counts = np.bincount(self.bucket, minlength=len(self.buckets))
        shapes = ", ".join(f"{count} of {bucket}" for bucket, count in zip(self.buckets, counts) if count)
        line = f"{self.url}: {len(self)} clips ({shapes or 'none'})"
        if self.left_out:
            line += "; left out: " + ", ".join(f"{n} {why}" for why, n in self.left_out.items())
        return line


def select(source: SourceConfig, config: DataConfig, expect: LatentSpace | None = None) -> Selection:
    """The clips of a source. Raises CatalogError where there is no data set, for a condition the index cannot
    answer, for latents other than expected, and where no clip is left."""
    data = Store(source.path)
    read_description(data)
    table = _rows(data, source)
    latents, store = None, data
    if source.latents is not None:
        store = latent_store(data, source.latents)
        latents = _open_latents(data, store, source.latents)
        if expect is not None:
            check_space(store, latents, expect)
    left_out: dict[str, int] = {}
    table = _keep_usable(table, config, left_out)
    if latents is not None:
        table = _join_latents(table, store, left_out)
    elif expect is not None and expect.codec_fingerprint is not None:
        raise CatalogError(f"{data.url}: latents of the codec {expect.codec_fingerprint} are needed, and "
                           f"data.latents names none; there are {latent_sets(data) or 'none'}")
    wanted = MEMBERS if latents is None else LATENT_MEMBERS
    table, members = _place_members(table, wanted, left_out)
    table, buckets, number = _into_buckets(table, config, latents, left_out)
    shards, shard = np.unique(np.asarray(table["shard"].to_pylist(), str), return_inverse=True)
    order = np.lexsort((members[wanted[0]][0][table["row"].to_numpy()], shard))
    rows = table["row"].to_numpy()[order]
    selection = Selection(
        url=data.url, store=store, latents=latents, ids=_strings(table, "clip_id", order),
        captions=_strings(table, "caption", order), shards=shards.tolist(), shard=shard[order],
        buckets=buckets, bucket=number[order], left_out=left_out,
        members={name: (offsets[rows], sizes[rows], [digests[row] for row in rows])
                 for name, (offsets, sizes, digests) in members.items()},
    )
    if not len(selection):
        raise CatalogError(f"{selection.summary}.\n  No clip is left to train on; loosen data.where, "
                           "data.scale, data.frames or data.lengths, or annotate more video")
    return selection


def check_space(store: Store, found: LatentSet, expect: LatentSpace) -> None:
    """Raises CatalogError naming both where a latent set is not what the network takes."""
    differences = []
    if expect.codec_fingerprint not in (None, found.codec_fingerprint):
        differences.append(f"  codec: found {found.codec_fingerprint} ({found.codec}), "
                           f"expected {expect.codec_fingerprint}")
    if expect.size is not None and tuple(expect.size) != tuple(found.size):
        differences.append(f"  size: found {found.size[1]}x{found.size[0]}, "
                           f"expected {expect.size[1]}x{expect.size[0]}")
    if expect.text_fingerprint not in (None, found.text_fingerprint):
        differences.append(f"  text: found {found.text_fingerprint} ({found.text}), "
                           f"expected {expect.text_fingerprint}")
    if differences:
        raise CatalogError("\n".join([
            f"{store.url}: other latents than the network takes:", *differences,
            "Name another latent set by data.latents, or make one with python -m pipelines.latents."]))


# parts


def _rows(data: Store, source: SourceConfig) -> pa.Table:
    """Rows of the index that satisfy the condition."""
    if not source.where.strip():
        return read_judged(data, _COLUMNS)
    try:
        table = query(data, source.where)
    except CatalogError as error:
        raise CatalogError(f"data.where: {error}") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise CatalogError(f"data.where: {source.where!r} is a whole statement, expected a condition such as "
                           "\"flow_dis > 5 and caption is not null\"")
    return table.select(_COLUMNS)


def _open_latents(data: Store, store: Store, name: str) -> LatentSet:
    try:
        return read_set(store)
    except CatalogError as error:
        raise CatalogError(f"data.latents={name}: {error}; "
                           f"{data.url} holds {latent_sets(data) or 'none'}") from error


def _keep_usable(table: pa.Table, config: DataConfig, left_out: dict[str, int]) -> pa.Table:
    """Clips that were written and kept, with a camera for every frame and translations in a known unit."""
    table = table.filter(pc.equal(table["kind"], Kind.CLIP))
    reviewed = pc.fill_null(pc.equal(pc.binary_join(table["reasons"], " "), REVIEWED), False)
    table = _keep(table, pc.invert(reviewed), "rejected by a reviewer", left_out)
    table = _keep(table, pc.equal(table["verdict"], Verdict.KEPT), "not kept by annotation", left_out)
    table = _keep(table, pc.is_valid(table["shard"]), "without files", left_out)
    table = _keep(table, pc.is_null(table["pose_failure"]), "without cameras", left_out)
    share = pc.fill_null(table["posed_share"], 1.0)
    table = _keep(table, pc.greater_equal(share, 1.0), "with frames that have no camera", left_out)
    if config.scale is Scale.metric:
        metric = pa.array([str(status) for status in ScaleStatus if status.is_metric])
        table = _keep(table, pc.is_in(table["scale_status"], metric), "without metric scale", left_out)
    return table


def _keep(table: pa.Table, mask: pa.ChunkedArray, reason: str, left_out: dict[str, int]) -> pa.Table:
    kept = table.filter(pc.fill_null(mask, False))
    if kept.num_rows < table.num_rows:
        left_out[reason] = left_out.get(reason, 0) + table.num_rows - kept.num_rows
    return kept


def _join_latents(table: pa.Table, store: Store, left_out: dict[str, int]) -> pa.Table:
    """The same clips where they lie as latents; their caption is the one that was encoded."""
    encoded = read_index(store, ("clip_id", "status", "shard", "members", "caption", "frames"), LATENTS)
    encoded = encoded.filter(pc.equal(encoded["status"], Status.OK)).drop_columns("status")
    table = _keep(table, pc.is_in(table["clip_id"], encoded["clip_id"].combine_chunks()),
                  "without latents", left_out)
    return encoded.filter(pc.is_in(encoded["clip_id"], table["clip_id"].combine_chunks()))


def _place_members(
    table: pa.Table, wanted: tuple[str, ...], left_out: dict[str, int],
) -> tuple[pa.Table, dict[str, tuple[np.ndarray, np.ndarray, list[str]]]]:
    """Offset, size and checksum of every wanted member of every clip; `row` in the table points at them."""
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    lists = table["members"].combine_chunks()
    parents = pc.list_parent_indices(lists).to_numpy()
    flat = pc.list_flatten(lists)
    names = pc.struct_field(flat, "name")
    found, everywhere = {}, np.ones(table.num_rows, bool)
    for name in wanted:
        here = pc.ends_with(names, f".{name}").to_numpy(zero_copy_only=False)
        rows, chosen = parents[here], flat.filter(pa.array(here))
        offsets, sizes = np.zeros((2, table.num_rows), np.int64)
        digests = np.full(table.num_rows, "", "U64")
        offsets[rows] = pc.struct_field(chosen, "offset").to_numpy()
        sizes[rows] = pc.struct_field(chosen, "size").to_numpy()
        digests[rows] = pc.struct_field(chosen, "sha256").to_pylist()
        found[name] = offsets, sizes, digests.tolist()
        everywhere &= digests != ""
    return _keep(table, pa.array(everywhere), f"lacking one of {', '.join(wanted)}", left_out), found


def _into_buckets(
    table: pa.Table, config: DataConfig, latents: LatentSet | None, left_out: dict[str, int],
) -> tuple[pa.Table, list[Bucket], np.ndarray]:
    """Every clip's bucket, for those that fit one."""
    lengths = np.array(sorted(config.frames))
    frames = table["frames"].to_numpy().astype(np.int64)
    if config.lengths is Lengths.crop:
        place = np.searchsorted(lengths, frames, side="right") - 1  # the longest that the clip fills
        table = _keep(table, pa.array(place >= 0), f"shorter than {lengths[0]} frames", left_out)
        place = place[place >= 0]
    else:
        place = np.minimum(np.searchsorted(lengths, frames), len(lengths) - 1)
    if latents is not None:
        sizes = [(latents.size[0], latents.size[1])] * len(place)
    else:
        sizes = [_video_size((height, width), config)
                 for height, width in zip(table["height"].to_pylist(), table["width"].to_pylist())]
    keys = [Bucket(int(lengths[at]), size) for at, size in zip(place, sizes)]
    buckets = sorted(set(keys))
    numbers = {bucket: number for number, bucket in enumerate(buckets)}
    return table, buckets, np.array([numbers[key] for key in keys], np.int64)


def _video_size(size: tuple[int, int], config: DataConfig) -> tuple[int, int]:
    if config.size is None:
        return largest_size(size, config.cell)
    return config.size[0], config.size[1]


def _strings(table: pa.Table, name: str, order: np.ndarray) -> list[str]:
    values = table[name].to_pylist()
    return [values[row] or "" for row in order]
