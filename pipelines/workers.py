"""Workers that cut videos into clips, and what all workers share.

A worker asks the ledger first and never does a thing twice. What goes wrong with one video is written into
its row; only a full disk or a broken store ends the run.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import time
from collections.abc import Generator, Iterator
from typing import Any

from dataset.clip import ClipRecord, Kind, Verdict, to_row
from pipelines.board import BoardClient
from pipelines.ledger import Entry, Ledger, digest
from pipelines.plan import CUT
from pipelines.rows import ClipRow, VideoRow

POISON = "poison"
_CUT_AFTER = 14
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_RECORD_FIELDS = frozenset(item.name for item in dataclasses.fields(ClipRecord))


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds that hold for every worker."""

    attempts: int  # deaths of its worker after which an input is passed by
    staged: int  # clips cut and not yet annotated; each cutter may have one more in hand


class CutWorker:
    """Cuts videos, one after the other, into rows; a video begun before gives the same rows again."""

    def __init__(self, cutter: Any, ledger: Ledger, board: BoardClient, limits: Limits) -> None:
        self._cutter = cutter
        self._ledger = ledger
        self._board = board
        self._limits = limits
        os.nice(_CUT_AFTER)  # a clip that is cut is finished before the next one is
        cutter.setup()

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """A VideoRow; yields a ClipRow for each row of the index, then one that says it was the last."""
        source = VideoRow.from_row(row)
        ids: list[str] = []
        length = _length_s(source.item["uri"])
        for entry in self._entries(source):
            clip, end = entry.fields["clip_id"], entry.fields["end_s"]
            ids.append(clip)
            share = min(end / length, 1.0) if length and end else None
            seconds = {CUT: entry.seconds}
            yield ClipRow(source.video, clip, entry.fields, entry.files, seconds, share=share).to_row()
        yield ClipRow(source.video, "", ended=ids).to_row()

    def _entries(self, source: VideoRow) -> Iterator[Entry]:
        """The rows already cut, then the others."""
        known = self._ledger.rows(source.video)
        committed = {*source.committed, *self._ledger.committed(source.video)}
        done = {
            entry.fields["clip_id"] for entry in known
            if entry.fields["clip_id"] in committed or self._ledger.has_files(entry)
        }
        places = {entry.fields["clip_id"]: index for index, entry in enumerate(known)}
        yield from (entry for entry in known if entry.fields["clip_id"] in done)
        if self._ledger.is_cut(source.video, len(known)) and len(done) == len(known):
            return
        work = f"{CUT} {source.video}"
        if self._board.begin(work) > self._limits.attempts:
            sentence = f"{CUT}: killed its worker {self._limits.attempts} times"
            yield self._give_up(source, places, POISON, sentence)
        else:
            failure = yield from self._cut(source, places, done | committed)
            if failure is not None:
                yield self._give_up(source, places, f"{CUT}_error", failure)
        self._ledger.mark_cut(source.video, len(places))
        self._board.end(work)

    def _cut(
        self, source: VideoRow, places: dict[str, int], done: set[str]
    ) -> Generator[Entry, None, str | None]:
        """Run the cutter; adds new rows to `places`. Returns a sentence when it failed."""
        from annotate.source.item import SourceItem

        self._board.wait_for_turn(source.video)
        clips = iter(self._cutter.cut(SourceItem(**source.item), done))
        while True:
            self._board.wait_for_room(self._limits.staged)
            started = time.perf_counter()
            try:
                clip = next(clips, None)
            except Exception as error:
                raise_if_full(error)
                return describe(CUT, error)
            if clip is None:
                return None
            record = clip.record
            if record.clip_id in done:
                continue
            index = places.setdefault(record.clip_id, len(places))
            seconds = time.perf_counter() - started
            # Only what is new takes room: after a retry Ray does not deliver again what arrived before, and
            # nobody would release it.
            self._board.stage([record.clip_id])
            yield self._ledger.add_row(source.video, index, to_row(record), clip.files, seconds)

    def _give_up(self, source: VideoRow, places: dict[str, int], reason: str, sentence: str) -> Entry:
        """A row that says that the (rest of the) video could not be cut."""
        from annotate.source.fetch import video_id
        from annotate.source.item import SourceItem

        item = SourceItem(**source.item)
        known = self._ledger.rows(source.video)
        name = known[0].fields["video_id"] if known else video_id(item, item.uri)
        record = ClipRecord(
            clip_id=digest(name, reason), video_id=name, kind=Kind.VIDEO, uri=item.uri, source=item.source,
            licence=item.licence, caption=item.caption, start_s=item.start_s, end_s=item.end_s,
            verdict=Verdict.FAILED, reasons=[reason], detail=sentence,
        )
        index = places.setdefault(record.clip_id, len(places))
        return self._ledger.add_row(source.video, index, to_row(record), {}, 0.0)


def _length_s(uri: str) -> float | None:
    """What a local file says about its length; only for the estimate of the time that is left."""
    from annotate.decode import UnreadableVideo, VideoReader

    if "://" in uri:
        return None
    try:
        with VideoReader(uri) as reader:
            return reader.info.duration_s
    except (UnreadableVideo, OSError):
        return None


def describe(stage: str, error: Exception) -> str:
    """What a row says of an error: "stage: kind: message", on one line."""
    text = " ".join(str(error).split())
    return f"{stage}: {type(error).__name__}: {text}"[:500]


def raise_if_full(error: Exception) -> None:
    """A full disk is no property of the video: end the run instead of blaming it."""
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        raise error


def limit_threads(threads: int) -> None:
    """Keep a worker's libraries to its share of the CPUs."""
    import cv2

    cv2.setNumThreads(threads)
