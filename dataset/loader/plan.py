"""The order of samples: a function of seed, epoch and the index, the same on every rank, read from no shard.

A draw is one sample. Draws are numbered without end, epoch after epoch; each falls into the bucket of its
shape, and a bucket that has as many as a step needs gives a step. So the place in the stream is the number
of draws made and how many wait in each bucket, whatever the number of workers, and also of ranks.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from dataset.loader.select import Bucket, Selection

_ORDER, _MIXTURE, _START = range(3)
"""What random numbers are for: the first word of their seed after the user's."""


@dataclass(frozen=True)
class Draw:
    """One sample: its number in the stream, and the clip, as numbers of the source and within it."""

    number: int
    source: int
    clip: int


@dataclass(frozen=True)
class Position:
    """A place in the stream: draws made, and of them those that wait in their bucket for a full step."""

    drawn: int = 0
    waiting: dict[Bucket, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What all ranks read together, and the position after it."""

    bucket: Bucket
    draws: list[Draw]
    after: Position


class Plan:
    """The stream of steps over some sources.

    samples: of a step, over all ranks. epochs: after which the stream ends; None: never.
    weights: share of the draws of each source, None for its clips times repeats.
    """

    def __init__(
        self, selections: Sequence[Selection], repeats: Sequence[int], weights: Sequence[float] | None,
        samples: int, seed: int = 0, shuffle: bool = True, window: int = 8, epochs: int | None = None,
    ) -> None:
        self._selections = selections
        self._repeats, self._weights = list(repeats), weights
        self._samples, self._seed, self._shuffle = samples, seed, shuffle
        self._window, self._epochs = window, epochs
        natural = np.array([len(one) * times for one, times in zip(selections, repeats)])
        self._draws = natural if weights is None else _apportion(int(natural.sum()), weights)
        self.draws_per_epoch = int(self._draws.sum())
        self.buckets = sorted({bucket for one in selections for bucket in one.buckets})
        numbers = {bucket: number for number, bucket in enumerate(self.buckets)}
        self._bucket = [np.array([numbers[bucket] for bucket in one.buckets])[one.bucket]
                        for one in selections]
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides the order of draws; not of `samples`, which may change."""
        digest = hashlib.blake2b(digest_size=10)
        settings = [self._seed, self._shuffle, self._window, self._repeats, self._weights]
        digest.update(json.dumps(settings).encode())
        for selection, buckets in zip(self._selections, self._bucket):
            names = [selection.shards[shard] for shard in selection.shard]
            digest.update(json.dumps([selection.ids, names]).encode())
            digest.update(json.dumps([str(self.buckets[bucket]) for bucket in buckets]).encode())
        return digest.hexdigest()

    def steps(self, at: Position) -> Iterator[Step]:
        """The stream from a position on. At its end come the samples that fill no step, in smaller ones."""
        waiting = self._find_waiting(at)
        number = at.drawn
        # Steps of fewer samples than those the position was taken with may be there already.
        for bucket in range(len(self.buckets)):
            while len(waiting[bucket]) >= self._samples:
                yield self._step(bucket, waiting, number)
        while self._epochs is None or number < self._epochs * self.draws_per_epoch:
            epoch, begin = divmod(number, self.draws_per_epoch)
            sources, clips, buckets = self._epoch(epoch)
            for place in range(begin, self.draws_per_epoch):
                bucket = int(buckets[place])
                waiting[bucket].append(Draw(number, int(sources[place]), int(clips[place])))
                number += 1
                if len(waiting[bucket]) >= self._samples:
                    yield self._step(bucket, waiting, number)
        for bucket in range(len(self.buckets)):
            if waiting[bucket]:
                yield self._step(bucket, waiting, number)

    # parts

    def _step(self, bucket: int, waiting: list[deque[Draw]], number: int) -> Step:
        draws = [waiting[bucket].popleft() for _ in range(min(self._samples, len(waiting[bucket])))]
        left = {self.buckets[other]: len(queue) for other, queue in enumerate(waiting) if queue}
        return Step(self.buckets[bucket], draws, Position(number, left))

    def _find_waiting(self, at: Position) -> list[deque[Draw]]:
        """The draws that wait at a position: of each bucket the last ones before it."""
        missing = [at.waiting.get(bucket, 0) for bucket in self.buckets]
        found: list[deque[Draw]] = [deque() for _ in self.buckets]
        end = at.drawn
        while end > 0 and any(missing):
            epoch = (end - 1) // self.draws_per_epoch
            first = epoch * self.draws_per_epoch
            sources, clips, buckets = self._epoch(epoch)
            for bucket, count in enumerate(missing):
                places = np.flatnonzero(buckets[: end - first] == bucket)[::-1][:count].tolist()
                for place in places:
                    found[bucket].appendleft(Draw(first + place, int(sources[place]), int(clips[place])))
                missing[bucket] -= len(places)
            end = first
        return found

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source, clip and bucket of every draw of an epoch."""
        sources = np.repeat(np.arange(len(self._draws)), self._draws)
        if self._shuffle:
            sources = sources[_permutation([self._seed, _MIXTURE, epoch], len(sources))]
        clips, buckets = np.zeros((2, len(sources)), np.int64)
        for source, count in enumerate(self._draws.tolist()):
            here = sources == source
            clips[here] = self._passes(source, epoch * count, (epoch + 1) * count)
            buckets[here] = self._bucket[source][clips[here]]
        return sources, clips, buckets

    def _passes(self, source: int, begin: int, end: int) -> np.ndarray:
        """Clips `begin` to `end` of a source's own stream, which passes over its clips without end."""
        count = len(self._selections[source])
        first, last = begin // count, (end - 1) // count
        clips = np.concatenate([self._pass(source, number) for number in range(first, last + 1)])
        return clips[begin - first * count : end - first * count]

    def _pass(self, source: int, number: int) -> np.ndarray:
        """The clips of a source in one order: shards shuffled, then clips within each window of shards."""
        shard = self._selections[source].shard
        if not self._shuffle:
            return np.arange(len(shard))
        seed = [self._seed, _ORDER, source, number]
        shards = int(shard.max()) + 1
        rank = np.empty(shards, np.int64)
        rank[_permutation([*seed, 0], shards)] = np.arange(shards)
        return np.lexsort((_random([*seed, 1], len(shard)), rank[shard] // self._window))


def draw_start(seed: int, draw: Draw, last: int) -> int:
    """A random number of 0..last that belongs to a draw."""
    return int(_random([seed, _START, draw.number], 1)[0] % np.uint64(last + 1))


def _apportion(total: int, weights: Sequence[float]) -> np.ndarray:
    """Whole shares of `total`, by largest remainder; every source gets one at least."""
    exact = np.array(weights) / np.sum(weights) * total
    shares = np.maximum(np.floor(exact).astype(np.int64), 1)
    for place in np.argsort(shares - exact, kind="stable")[: max(total - int(shares.sum()), 0)]:
        shares[place] += 1
    return shares


def _permutation(seed: Sequence[int], count: int) -> np.ndarray:
    return np.argsort(_random(seed, count), kind="stable")


def _random(seed: Sequence[int], count: int) -> np.ndarray:
    """Random 64-bit words. Raw ones, which numpy promises to keep; its shuffles may change with a version."""
    return np.random.Philox(np.random.SeedSequence(list(seed))).random_raw(count)
