"""The worker that encodes clips, one after the other. What goes wrong with a clip is written into its row;
only a full disk, a broken store or a lack of memory ends the run."""

from __future__ import annotations

import json
import time
from typing import Any

from dataset.clip import ClipRecord, from_row
from dataset.latents import CAMERA_MEMBER, LatentRecord, Status, to_row
from dataset.reader import SampleError, read_files
from dataset.store import Store, StoreError
from pipelines.board import BoardClient
from pipelines.latents_config import LatentsConfig
from pipelines.latents_encode import Encoder, Unfit
from pipelines.ledger import Entry, Ledger
from pipelines.rows import ClipRow
from pipelines.workers import POISON, describe, limit_threads, raise_if_full

ENCODE = "encode"


class EncodeWorker:
    """Encodes clips of a data set into the ledger.

    key: LatentSet.key, under which the ledger knows the results; size: (height, width) of the set.
    """

    def __init__(self, config: LatentsConfig, data: Store, size: tuple[int, int], key: str, ledger: Ledger,
                 board: BoardClient, threads: int, device: str) -> None:
        import torch

        self._config, self._data, self._size, self._key = config, data, size, key
        self._ledger, self._board = ledger, board
        limit_threads(threads)
        torch.set_num_threads(threads)
        self._encoder = Encoder(config, device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A clip's row of the index as JSON in `body`; the ClipRow of its latents."""
        record = from_row(json.loads(row["body"]))
        entry = self._ledger.find(record.clip_id, record.clip_id, ENCODE, self._key)
        if entry is None or (entry.failure is not None and self._config.retry_failed):
            entry = self._run(record)
        return ClipRow(
            record.clip_id, record.clip_id, self._fields(record, entry), entry.files,
            {ENCODE: entry.seconds}, failure=entry.failure, reason=entry.reason,
        ).to_row()

    def _run(self, record: ClipRecord) -> Entry:
        place = (record.clip_id, record.clip_id, ENCODE, self._key)
        work = f"{ENCODE} {record.clip_id}"
        attempts = self._config.run.attempts
        if self._board.begin(work) > attempts:
            self._board.end(work)
            sentence = f"{ENCODE}: killed its worker {attempts} times"
            return self._ledger.put_failure(*place, POISON, sentence, 0.0)
        started = time.perf_counter()
        try:
            entry = self._encode(record, place, started)
        except Unfit as error:
            seconds = time.perf_counter() - started
            entry = self._ledger.put_failure(*place, error.reason, str(error), seconds)
        self._board.end(work)
        return entry

    def _encode(self, record: ClipRecord, place: tuple[str, str, str, str], started: float) -> Entry:
        import torch

        try:
            files = read_files(self._data, record, ["mp4", CAMERA_MEMBER], verify=True)
            if "mp4" not in files:
                raise Unfit("no_video", "its row names no mp4")
            encoded = self._encoder.encode(record, files, self._size)
        except SampleError as error:
            if isinstance(error.__cause__, StoreError):
                raise error.__cause__ from error  # the store does not answer: no property of the clip
            raise Unfit("unreadable", " ".join(str(error).split())) from error
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"{ENCODE}: {self._config.codec} at {self._size[1]}x{self._size[0]} does not fit into the "
                "GPU beside what is there; choose a smaller size=, dtype=bfloat16 or a larger run.gpus="
            ) from error
        except (Unfit, StoreError):
            raise
        except Exception as error:
            raise_if_full(error)
            raise Unfit(f"{ENCODE}_error", describe(ENCODE, error)) from error
        _, frames, height, width = encoded.shape
        grid = {"latent_frames": frames, "latent_height": height, "latent_width": width}
        return self._ledger.put(*place, grid, encoded.files, time.perf_counter() - started)

    def _fields(self, record: ClipRecord, entry: Entry) -> dict[str, Any]:
        row = LatentRecord(
            record.clip_id, Status.OK if entry.failure is None else Status.FAILED, reason=entry.reason,
            detail=entry.failure, source=record.source, caption=record.caption, frames=record.frames,
            fps=record.fps, config_hash=self._key, seconds=round(entry.seconds, 3), **entry.fields,
        )
        return to_row(row)
