"""What is already done: a record for every clip and stage, and the files waiting to be written into shards.

Lies in the work folder, below one folder a video: `row-00012.json` are the rows its cutting gave, in
order; `<clip>.<stage>-<key>.json` what a stage found, its files beside it. A record is written after its
files and names their checksums, so a record that can be read is whole. Keys are hashes of a stage's name,
version, settings and of all stages before it. Knows nothing of Ray.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataset.store import Store

_MANY_NOTES = 32  # of finished videos; reading one takes a millisecond, more from a remote store


class StagingDamaged(RuntimeError):
    """A staged file is missing or differs from its record; the message names it."""


@dataclass(frozen=True)
class StagedFile:
    """A file in the work folder."""

    path: str
    size: int
    sha256: str


@dataclass
class Entry:
    """What one stage (or the cutting) gave for one clip: record fields, files, and what it cost."""

    fields: dict[str, Any]
    files: dict[str, StagedFile] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str | None = None  # the sentence, where the stage could not answer
    reason: str | None = None  # the short name of the failure

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Entry:
        value = json.loads(text)
        value["files"] = {name: StagedFile(**file) for name, file in value["files"].items()}
        return cls(**value)


@dataclass(frozen=True)
class Finished:
    """A video whose every row is in the index."""

    video: str
    clip_ids: list[str]


def digest(*parts: Any) -> str:
    """A short name for plain values; equal values give equal names."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


class Ledger:
    """Progress of all videos of one data set, in a work folder that all workers share.

    `run` names one run: its workers share it with its driver. Raises StoreFull when the disk is full and
    StagingDamaged when a staged file is not what was staged.
    """

    def __init__(self, store: Store, run: str | None = None) -> None:
        self.store = store
        self._run = run or uuid.uuid4().hex[:8]

    # the rows a video was cut into

    def rows(self, video: str) -> list[Entry]:
        """What cutting this video has given so far, in order."""
        found: list[Entry] = []
        while (entry := self._read(f"video/{video}/row-{len(found):05d}.json")) is not None:
            found.append(entry)
        return found

    def is_cut(self, video: str, rows: int) -> bool:
        """Whether cutting this video came to its end with so many rows."""
        try:
            return json.loads(self.store.read(f"video/{video}/cut.json")) == rows
        except FileNotFoundError:
            return False

    def mark_cut(self, video: str, rows: int) -> None:
        """Note that cutting this video came to its end with so many rows."""
        self.store.write(f"video/{video}/cut.json", json.dumps(rows).encode())

    def committed(self, video: str) -> set[str]:
        """Clips of an unfinished video that this run has put into the index.

        What earlier runs put there is for the index to say: it may have been deleted since.
        """
        ids: set[str] = set()
        for path in self.store.list(f"video/{video}"):
            if path.startswith(f"video/{video}/committed-{self._run}-"):
                ids.update(json.loads(self.store.read(path)))
        return ids

    def add_row(self, video: str, index: int, fields: dict[str, Any], files: Mapping[str, bytes],
                seconds: float) -> Entry:
        """Stage the files of a row, then the row itself."""
        stem = f"video/{video}/{fields['clip_id']}.cut"
        staged = {name: self._put(f"{stem}.{name}", data) for name, data in files.items()}
        entry = Entry(fields=fields, files=staged, seconds=seconds)
        self.store.write(f"video/{video}/row-{index:05d}.json", entry.to_json().encode())
        return entry

    # what the stages found

    def find(self, video: str, clip: str, stage: str, key: str) -> Entry | None:
        """The record of a stage for a clip if there is one and its files are there."""
        entry = self._read(f"video/{video}/{clip}.{stage}-{key}.json")
        return entry if entry is not None and self.has_files(entry) else None

    def put(self, video: str, clip: str, stage: str, key: str, fields: dict[str, Any],
            files: Mapping[str, bytes], seconds: float) -> Entry:
        """Stage the files of a stage's answer, then its record."""
        stem = f"video/{video}/{clip}.{stage}-{key}"
        staged = {name: self._put(f"{stem}.{name}", data) for name, data in files.items()}
        entry = Entry(fields=fields, files=staged, seconds=seconds)
        self.store.write(f"{stem}.json", entry.to_json().encode())
        return entry

    def put_failure(self, video: str, clip: str, stage: str, key: str, reason: str, sentence: str,
                    seconds: float) -> Entry:
        """Record that a stage could not answer, and why."""
        entry = Entry(fields={}, seconds=seconds, failure=sentence, reason=reason)
        self.store.write(f"video/{video}/{clip}.{stage}-{key}.json", entry.to_json().encode())
        return entry

    # staged files

    def has_files(self, entry: Entry) -> bool:
        """Whether every file of an entry is there in full length."""
        for file in entry.files.values():
            try:
                if self.store.size(file.path) != file.size:
                    return False
            except FileNotFoundError:
                return False
        return True

    def read_file(self, file: StagedFile) -> bytes:
        """A staged file, checked against its checksum."""
        try:
            data = self.store.read(file.path)
        except FileNotFoundError:
            raise StagingDamaged(f"{self.store.name(file.path)}: the staged file is gone") from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            self.store.remove(file.path)  # so that the next run makes it anew
            raise StagingDamaged(f"{self.store.name(file.path)}: differs from what was staged")
        return data

    def drop(self, clips: Mapping[str, Collection[str]]) -> None:
        """Remove the staged files and stage records of clips {video: clip ids} that are in the index.

        A note of their ids stays, so that a cutter that starts again does not make them again.
        """
        for video, ids in clips.items():
            text = json.dumps(sorted(ids))
            self.store.write(f"video/{video}/committed-{self._run}-{digest(text)}.json", text.encode())
            for path in self.store.list(f"video/{video}"):
                if path.rsplit("/", 1)[-1].split(".", 1)[0] in ids:
                    self.store.remove(path)

    # whole videos

    def finish(self, done: Sequence[Finished]) -> None:
        """Note that every row of these videos is in the index, and forget how they were made."""
        if not done:
            return
        rows = [dataclasses.asdict(item) for item in done]
        text = json.dumps(rows, sort_keys=True)
        self.store.write(f"finished/{digest(text)}.json", text.encode())
        self.forget(item.video for item in done)

    def begun(self) -> set[str]:
        """Videos that something is staged for."""
        return {path.split("/")[1] for path in self.store.list("video")}

    def forget(self, videos: Iterable[str]) -> None:
        """Remove everything staged for these videos, and what is known of how they were made."""
        for video in videos:
            self._remove_all(self.store.list(f"video/{video}"))
            folder = self.store.local_path(f"video/{video}")
            if folder is not None:
                with contextlib.suppress(OSError):  # something else lies there: leave it
                    folder.rmdir()

    def finished(self) -> list[Finished]:
        """Every video noted as finished, in no order. Many notes become one; needs the data set's lock.

        The merged note appears before the others go; in between videos are noted twice and count once.
        """
        paths = self.store.list("finished")
        items = [item for text in self.store.read_many(paths) for item in json.loads(text)]
        if len(paths) > _MANY_NOTES:
            text = json.dumps(sorted(items, key=lambda item: item["video"]), sort_keys=True)
            merged = f"finished/{digest(text)}.json"
            self.store.write(merged, text.encode())
            for path in paths:
                if path != merged:
                    self.store.remove(path)
        return [Finished(**item) for item in items]

    # parts

    def _put(self, path: str, data: bytes) -> StagedFile:
        self.store.write(path, data)
        return StagedFile(path, len(data), hashlib.sha256(data).hexdigest())

    def _read(self, path: str) -> Entry | None:
        try:
            return Entry.from_json(self.store.read(path))
        except FileNotFoundError:
            return None

    def _remove_all(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.store.remove(path)
