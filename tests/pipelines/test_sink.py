"""The end of the stream, by itself; test_runner and test_faults have it at the end of whole runs."""

from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from annotate.filters import Bound, Thresholds, judge
from dataset.catalog import open_dataset, read_index
from dataset.clip import ClipRecord, Kind, Verdict
from dataset.lock import DatasetLock
from dataset.store import Store
from pipelines.ledger import Ledger
from pipelines.rows import ClipRow
from pipelines.sink import Provenance, Sink

JUDGE = partial(judge, thresholds=Thresholds(duplicate_similarity=Bound(max=0.8)))


@pytest.mark.parametrize(("video_hash", "verdict", "reasons"), [
    ("00ff" * 4, Verdict.KEPT, []),
    (None, Verdict.REJECTED, ["missing:duplicate_similarity"]),
])
def test_a_rule_on_duplicates_waits_until_they_are_looked_for(
    tmp_path: Path, video_hash: str | None, verdict: Verdict, reasons: list[str]
) -> None:
    """Files of a clip that is rejected are thrown away here; what only the end of the run knows must not."""
    store, ledger = Store(tmp_path), Ledger(Store(tmp_path / "work"))
    open_dataset(store, "f", {}, {})
    entry = ledger.add_row("v", 0, asdict(ClipRecord(
        "c", "v", Kind.CLIP, uri="/v.mp4", video_hash=video_hash)), {"mp4": b"film"}, 0.0)
    with DatasetLock(store) as lock:
        sink = Sink(store, lock, ledger, set(), JUDGE, Provenance("f", "1", {}), 1_000_000, False)
        sink.take(ClipRow("v", "c", entry.fields, entry.files))
        sink.commit()
    [row] = read_index(store).to_pylist()
    assert (row["verdict"], row["reasons"]) == (verdict, reasons)
    assert (row["shard"] is not None) == (verdict is Verdict.KEPT)
    assert row["duplicate_similarity"] is None
