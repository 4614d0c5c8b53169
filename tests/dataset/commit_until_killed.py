"""A program that fills a data set and dies: `commit_until_killed.py FOLDER CLIPS FIRST LAST`.

For every n in FIRST..LAST a child fills FOLDER/n from scratch and is killed (SIGKILL, by itself) just
before its n-th change to the file system; what it had reported as committed is in FOLDER/n.log. Prints
"n killed" or "n finished" for each.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

from dataset.catalog import committed_ids, open_dataset
from dataset.clip import ClipRecord, Kind, Verdict
from dataset.lock import DatasetLock
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import compact, recover, rejudge

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.truncate", "os.link", "fcntl.flock"}
THRESHOLDS = {"flow_dis": 1.0}


def clip(number: int) -> tuple[ClipRecord, dict[str, bytes]]:
    name = hashlib.blake2b(str(number).encode(), digest_size=10).hexdigest()
    filling = hashlib.shake_128(str(number).encode()).digest(3000 + number)
    record = ClipRecord(name, "video", Kind.CLIP, flow_dis=float(number), verdict=Verdict.KEPT)
    return record, {"mp4": filling, "camera.npz": filling[:500]}


def judge(record: ClipRecord) -> tuple[Verdict, list[str]]:
    return (Verdict.KEPT, []) if (record.flow_dis or 0) > 1 else (Verdict.REJECTED, ["flow_dis<1"])


def fill(folder: Path, clips: int) -> None:
    """What a run does: recover, commit what is missing in pairs, merge, judge."""
    store = Store(folder)
    with DatasetLock(store):
        open_dataset(store, "f", {}, {})
        recover(store)
        done = committed_ids(store)
        missing = [number for number in range(clips) if clip(number)[0].clip_id not in done]
        writer = ShardWriter(store, "kept")
        for place, number in enumerate(missing):
            writer.add(*clip(number))
            if place % 2 or number == missing[-1]:
                writer.commit([ClipRecord(f"span{number}", "video", Kind.SPAN)])
                print(*committed_ids(store), flush=True)
        compact(store)
        rejudge(store, judge, THRESHOLDS)


def die_before_change(number: int) -> None:
    """Kill this process just before its `number`-th file operation that changes anything."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        flags = arguments[2] if event == "open" else 0
        if event in CHANGES or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(folder: Path, clips: int, first: int, last: int) -> None:
    for number in range(first, last + 1):
        child = os.fork()
        if child == 0:
            os.dup2(os.open(f"{folder}/{number}.log", os.O_CREAT | os.O_WRONLY), 1)
            die_before_change(number)
            fill(folder / str(number), clips)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(number, "killed" if os.WIFSIGNALED(status) else f"finished {status}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:]))
