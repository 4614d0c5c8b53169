"""Latent sets: the clips of a data set as a codec sees them, with their captions as a text encoder sees them.

A set lies in `latents/<name>/` of its data set and is a store of its own: `latents.json`, shards of
{clip}.latents.npy, {clip}.text.npz and {clip}.camera.npz, an index, and the empty caption's states.
Written like a data set, exactly once, by `ShardWriter(store, FAMILY, rows=LATENTS)`.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from dataset.catalog import INDEX, SHARDS, CatalogError, described
from dataset.clip import Member
from dataset.rows import RowType, arrow_schema
from dataset.store import Store

SCHEMA_VERSION = 1
FOLDER = "latents"
DESCRIPTION = "latents.json"
NULL_TEXT = "null_text.npz"
FAMILY = "latents"
LATENTS_MEMBER, TEXT_MEMBER, CAMERA_MEMBER = "latents.npy", "text.npz", "camera.npz"


class Status(StrEnum):
    """What became of a clip."""

    OK = "ok"
    FAILED = "failed"  # `reason` and `detail` say why


@dataclass
class LatentSet:
    """The `latents.json` of a latent set: which space its numbers live in."""

    codec: str  # as given to model.codec.load_codec
    codec_fingerprint: str
    channels: int
    space_stride: int
    time_stride: int
    size: list[int]  # (height, width) of the video that was encoded: dataset.fit.fit_clip of each clip
    text: str  # as given to the text encoder's loader
    text_fingerprint: str
    caption_tokens: int
    caption_channels: int
    dtype: str = "float16"
    framing: str = "cover"  # dataset.fit.Framing: how the clips became video of `size`
    schema_version: int = SCHEMA_VERSION
    created: str = ""

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1).encode()

    def key(self) -> str:
        """A short name of everything that decides the numbers."""
        return hashlib.blake2b(json.dumps(self._identity()).encode(), digest_size=10).hexdigest()

    def _identity(self) -> dict[str, Any]:
        # The same weights may be named by another path.
        return {name: value for name, value in dataclasses.asdict(self).items()
                if name not in ("codec", "text", "created")}


@dataclass
class LatentRecord:
    """One row of the index of a latent set."""

    clip_id: str
    status: Status
    schema_version: int = SCHEMA_VERSION
    reason: str | None = None  # short name of what went wrong
    detail: str | None = None  # the sentence
    source: str = ""  # name of the clip's data set, as in the index of clips
    caption: str | None = None  # None: the clip has none, and its states are the null text's
    frames: int | None = None  # of video
    fps: float | None = None
    latent_frames: int | None = None  # T, h and w of (C, T, h, w)
    latent_height: int | None = None
    latent_width: int | None = None
    config_hash: str = ""  # LatentSet.key
    # where it lies: not content
    shard: str | None = None
    members: list[Member] = field(default_factory=list)
    encoded_at: str | None = None  # ISO time
    seconds: float | None = None  # of wall time


@dataclass(frozen=True)
class TextStates:
    """A caption behind its encoder: states (L, Ct) float16, mask (L,) bool, and the caption's digest."""

    states: np.ndarray
    mask: np.ndarray
    caption_sha256: str  # of the empty text where there is no caption

    def to_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, states=self.states.astype(np.float16), mask=self.mask.astype(bool),
            caption_sha256=np.frombuffer(self.caption_sha256.encode(), np.uint8),
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> TextStates:
        with np.load(io.BytesIO(data)) as arrays:
            return cls(arrays["states"], arrays["mask"], arrays["caption_sha256"].tobytes().decode())


def caption_digest(caption: str | None) -> str:
    """SHA-256 of a caption, as text.npz names it."""
    return hashlib.sha256((caption or "").encode()).hexdigest()


def latents_to_npy(latents: np.ndarray) -> bytes:
    """Bytes of the `latents.npy` member: (C, T, h, w) float16."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(latents, np.float16), allow_pickle=False)
    return buffer.getvalue()


def latents_from_npy(data: bytes) -> np.ndarray:
    """Inverse of `latents_to_npy`. Raises ValueError where the bytes are no such array."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def default_name(codec: str, size: tuple[int, int]) -> str:
    """Name of a set that nobody named, such as "dct32-512x320": the codec, then width x height."""
    stem = codec.rstrip("/").rsplit("/", 1)[-1]
    return f"{''.join(c if c.isalnum() or c in '_-' else '_' for c in stem)}-{size[1]}x{size[0]}"


def latent_store(data: Store, name: str) -> Store:
    """The store of a latent set of a data set, whether it exists or not."""
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"latent set {name!r}: expected the name of a folder below {data.name(FOLDER)}")
    return data.below(f"{FOLDER}/{name}")


def latent_sets(data: Store) -> list[str]:
    """Names of the latent sets of a data set."""
    paths = data.list(FOLDER)
    return sorted(path.split("/")[1] for path in paths if path.count("/") == 2 and path.endswith(DESCRIPTION))


def open_set(store: Store, wanted: LatentSet, null_text: Callable[[], bytes]) -> LatentSet:
    """Start a latent set, or check that the one in `store` holds latents of the same codec, size and text.

    null_text: gives the bytes of `null_text.npz`, asked for where there is none.
    Raises CatalogError naming both.
    """
    if not store.exists(DESCRIPTION):
        if store.list(INDEX) or store.list(SHARDS):
            raise CatalogError(f"{store.url}: holds {INDEX}/ or {SHARDS}/ but no {DESCRIPTION}, so it is not "
                               "known what made it; choose another name=")
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        store.write_new(DESCRIPTION, dataclasses.replace(wanted, created=created).to_json())
    found = read_set(store)
    if found._identity() != wanted._identity():
        raise CatalogError(_difference(store, found, wanted))
    if not store.exists(NULL_TEXT):
        store.write(NULL_TEXT, null_text())
    return found


def read_set(store: Store) -> LatentSet:
    """The description of a latent set. Raises CatalogError if it is none or is of another version."""
    try:
        return LatentSet(**described(store, DESCRIPTION, SCHEMA_VERSION,
                                     "use the code that made it, or encode the clips again"))
    except FileNotFoundError:
        raise CatalogError(f"{store.url}: no latent set, it has no {DESCRIPTION}; "
                           "python -m pipelines.latents makes one") from None


def read_null_text(store: Store) -> TextStates:
    """The empty caption's states."""
    return TextStates.from_npz(store.read(NULL_TEXT))


def to_row(record: LatentRecord) -> dict[str, Any]:
    """Plain dict of a record, as the index holds it."""
    return dataclasses.asdict(record)


def from_row(row: dict[str, Any]) -> LatentRecord:
    """Inverse of `to_row`; columns that a `json` member leaves out take their defaults."""
    row = dict(row)
    row["status"] = Status(row["status"])
    row["members"] = [Member(**member) for member in row.get("members") or []]
    return LatentRecord(**row)


_PLACEMENT = ("shard", "members", "encoded_at", "seconds")

LATENTS = RowType(
    name="latents", version=SCHEMA_VERSION, schema=arrow_schema(LatentRecord, SCHEMA_VERSION), to_row=to_row,
    from_row=from_row, placement=_PLACEMENT, unwritten=_PLACEMENT, describe=read_set,
)
"""Rows of the index of a latent set, for the functions of dataset.catalog, shards, reader and upkeep."""


def _difference(store: Store, found: LatentSet, wanted: LatentSet) -> str:
    lines = []
    if found.codec_fingerprint != wanted.codec_fingerprint:
        lines.append(f"  codec: found {found.codec} ({found.codec_fingerprint}), "
                     f"asked for {wanted.codec} ({wanted.codec_fingerprint})")
    if found.text_fingerprint != wanted.text_fingerprint:
        lines.append(f"  text: found {found.text} ({found.text_fingerprint}), "
                     f"asked for {wanted.text} ({wanted.text_fingerprint})")
    here, asked = found._identity(), wanted._identity()
    lines += [f"  {name}: found {here[name]}, asked for {asked[name]}" for name in here
              if here[name] != asked[name] and not name.endswith("_fingerprint")]
    return "\n".join([f"{store.url}: holds other latents:", *lines,
                      "Choose another name=, or encode with what is found."])
