"""What a run of the encoder says at its start and at its end, and the record it leaves in `runs/`."""

from __future__ import annotations

import sys

from dataset.catalog import query
from dataset.funnel import duration
from dataset.latents import LATENTS, latent_store, read_set
from dataset.store import Store
from pipelines.latents_config import LatentsConfig
from pipelines.latents_run import Outcome
from pipelines.record import new_run_id, write_record

_REASONS = ("select coalesce(reason, 'encoded') as what, count(*) as clips, sum(frames / fps) as seconds, "
            "count(*) - count(caption) as silent, any_value(detail) as example from latents "
            "group by 1 order by min(status) desc, 2 desc")


def note_start(config: LatentsConfig, outcome: Outcome) -> None:
    """Say what is about to happen, and put the record of the run into the latent set."""
    before = outcome.selected - outcome.begun
    done = f", {before:,} encoded before" if before else ""
    store = latent_store(Store(config.data), outcome.name)
    print(f"encoding {outcome.begun:,} of {outcome.selected:,} clips{done} -> {store.url}", file=sys.stderr)
    outcome.run_id = new_run_id()
    _write(config, outcome, "begun")


def finish(config: LatentsConfig, outcome: Outcome) -> int:
    """The closing words: what the latent set holds now. Returns the exit code."""
    store = latent_store(Store(config.data), outcome.name)
    if outcome.run_id:
        _write(config, outcome, "incomplete" if outcome.lost else "finished")
    else:
        print(f"{outcome.selected:,} clips, all encoded before: nothing to encode")
    if outcome.withdrawn:
        print(f"{outcome.withdrawn:,} clips were taken out of the set to be encoded again")
    made = read_set(store)
    rows = query(store, _REASONS, LATENTS).to_pylist()
    for row in rows:
        if row["what"] == "encoded":
            print(f"encoded {row['clips']:,} clips, {duration(row['seconds'] or 0.0)} of video")
            if row["silent"]:
                print(f"  {row['silent']:,} of them have no caption and hold the null text's states")
        else:
            print(f"failed  {row['clips']:,} clips: {row['what']}, such as: {row['example']}")
    size = sum(store.sizes("shards").values())
    print(f"latents: {store.url} ({size / 1e9:.2f} GB), {made.codec} ({made.codec_fingerprint}), "
          f"{made.size[1]}x{made.size[0]}, text {made.text} ({made.text_fingerprint})")
    print(f"took {duration(outcome.seconds)}")
    if outcome.lost:
        print(f"{len(outcome.lost):,} clips must be encoded again, because staged files were damaged: "
              f"{next(iter(outcome.lost.values()))}. Run the same command again", file=sys.stderr)
        return 1
    return 0


def _write(config: LatentsConfig, outcome: Outcome, state: str) -> None:
    assert outcome.run_id is not None
    store = latent_store(Store(config.data), outcome.name)
    write_record(store, outcome.run_id, state, config, outcome, {})
