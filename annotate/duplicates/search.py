"""Which clips are near-duplicates of which, and which of them stay: the same answer in whatever order.

Pairs are looked for where frames agree in a third of their bits, exactly, and do so twice where clips have
many frames; so a copy is missed only if a bit is wrong in nearly every third of every frame's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.hashing import BITS, similarity

_BANDS = 3
_CROWD = 400  # clips that share a third: more of them means that it says nothing (titles, sky)
_LONG = 16  # hashed frames from which on two agreements are asked for
_BLOCK = 2048  # embeddings compared at once


@dataclass(frozen=True)
class Candidate:
    """A clip, as far as the search is concerned. `rank`: the smaller, the rather it stays; all differ."""

    clip_id: str
    video_id: str
    rank: tuple[float | str, ...]
    hashes: np.ndarray  # (n,) uint64
    embedding: np.ndarray | None = None  # (d,) float32, of length 1
    uri: str | None = None  # where the video lies; spans of one file have ids of their own


@dataclass
class Found:
    """What the search says of one clip."""

    similarity: float = 0.0  # to the most similar clip that stays and goes before it; 0: none is near
    of: str | None = None  # that clip, where this one is its near-duplicate


@dataclass
class _Pairs:
    near: dict[int, list[tuple[int, float, bool]]] = field(default_factory=dict)

    def add(self, later: int, earlier: int, value: float, is_duplicate: bool) -> None:
        self.near.setdefault(later, []).append((earlier, value, is_duplicate))


def find_duplicates(clips: Sequence[Candidate], config: DuplicatesConfig) -> dict[str, Found]:
    """What is said of every clip, by its id.

    Clips are gone through by rank; one that is a near-duplicate of a clip that stays does not stay. Of a
    chain a ~ b ~ c whose ends are not alike, a and c stay if a has the best rank.
    """
    order = sorted(clips, key=lambda clip: clip.rank)
    pairs = _Pairs()
    for one, other in _hash_candidates(order):
        if _may_be(order[one], order[other], config):
            value = similarity(order[one].hashes, order[other].hashes)
            pairs.add(other, one, value, value >= config.similarity)
    for one, other, value in _embedding_pairs(order, config.embedding_similarity):
        if _may_be(order[one], order[other], config):
            pairs.add(other, one, value, True)
    found: dict[str, Found] = {}
    stays: list[bool] = []
    for at, clip in enumerate(order):
        best = Found()
        for earlier, value, is_duplicate in pairs.near.get(at, []):
            if not stays[earlier] or (best.of is not None and not is_duplicate):
                continue
            if (is_duplicate and best.of is None) or value > best.similarity:
                best = Found(value, order[earlier].clip_id if is_duplicate else None)
        stays.append(best.of is None)
        found[clip.clip_id] = best
    return found


def _may_be(one: Candidate, other: Candidate, config: DuplicatesConfig) -> bool:
    is_one_video = one.video_id == other.video_id or (one.uri is not None and one.uri == other.uri)
    return config.within_video or not is_one_video


def _hash_candidates(order: Sequence[Candidate]) -> list[tuple[int, int]]:
    """Pairs (earlier, later) of clips that agree in a third of their bits in some frames."""
    counts = np.array([len(clip.hashes) for clip in order], np.int64)
    owners = np.repeat(np.arange(len(order)), counts)
    hashes = np.concatenate([clip.hashes for clip in order]) if order else np.empty(0, np.uint64)
    owners, hashes = owners[hashes != 0], hashes[hashes != 0]
    width = BITS // _BANDS
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        keys = (hashes >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
        found += _sharing(keys.astype(np.int64), owners)
    pairs, often = np.unique(np.concatenate(found), axis=0, return_counts=True)
    if len(pairs):  # a single agreement is chance where clips have many frames
        pairs = pairs[often >= np.where(counts[pairs].min(axis=1) < _LONG, 1, 2)]
    return [(one, other) for one, other in pairs.tolist()]


def _sharing(keys: np.ndarray, owners: np.ndarray) -> Iterator[np.ndarray]:
    """(n, 2) pairs of owners, the smaller first, of every key that a few of them share."""
    known = np.unique(np.stack([keys, owners], axis=1), axis=0)
    keys, owners = known[:, 0], known[:, 1]
    _, place, size = np.unique(keys, return_inverse=True, return_counts=True)
    few = (size[place] >= 2) & (size[place] <= _CROWD)
    keys, owners = keys[few], owners[few]
    at = np.arange(len(keys))
    for step in range(1, _CROWD):
        at = at[at + step < len(keys)]
        at = at[keys[at] == keys[at + step]]
        if not len(at):
            return
        yield np.stack([owners[at], owners[at + step]], axis=1)


def _embedding_pairs(order: Sequence[Candidate], least: float) -> Iterator[tuple[int, int, float]]:
    """(earlier, later, cosine) of all pairs whose embeddings are so near."""
    places = [at for at, clip in enumerate(order) if clip.embedding is not None]
    if not places:
        return
    vectors = np.stack([clip.embedding for clip in order if clip.embedding is not None])
    for first in range(0, len(places), _BLOCK):
        for second in range(first, len(places), _BLOCK):
            cosines = vectors[first:first + _BLOCK] @ vectors[second:second + _BLOCK].T
            for row, column in np.argwhere(cosines >= least).tolist():
                if first + row < second + column:
                    yield places[first + row], places[second + column], min(1.0, float(cosines[row, column]))
