"""Latent sets as stores: described, refused when different, written and recovered like a data set."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dataset.catalog import CatalogError, committed_ids, content_digest, query, read_index
from dataset.latents import (
    DESCRIPTION,
    FAMILY,
    LATENTS,
    LatentRecord,
    LatentSet,
    Status,
    TextStates,
    caption_digest,
    default_name,
    latent_sets,
    latent_store,
    latents_from_npy,
    latents_to_npy,
    open_set,
    read_null_text,
    read_set,
)
from dataset.reader import read_samples
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import recover, withdraw

MADE = LatentSet("dct32", "dct-s32-c128-a", 128, 32, 8, [64, 96], "hash", "hash-l4-w6-b", 4, 6)
NULL = TextStates(np.ones((4, 6)), np.array([True, False, False, False]), caption_digest(None))


def test_a_set_is_described_once_and_found_again(store):
    made = latent_store(store, "a set")
    opened = open_set(made, MADE, NULL.to_npz)
    assert opened.created and dataclasses.replace(opened, created="") == MADE
    assert open_set(made, dataclasses.replace(MADE, codec="/elsewhere/dct32"), NULL.to_npz) == opened
    assert latent_sets(store) == ["a set"]
    null = read_null_text(made)
    assert null.states.dtype == np.float16 and null.mask.tolist() == [True, False, False, False]
    assert null.caption_sha256 == caption_digest("")


def test_latents_of_another_space_are_refused_naming_both(local_store):
    open_set(local_store, MADE, NULL.to_npz)
    other = dataclasses.replace(MADE, codec="dct16", codec_fingerprint="dct-s16-c128-c", space_stride=16,
                                size=[96, 96])
    with pytest.raises(CatalogError) as refusal:
        open_set(local_store, other, NULL.to_npz)
    told = str(refusal.value)
    assert "codec: found dct32 (dct-s32-c128-a), asked for dct16 (dct-s16-c128-c)" in told
    assert "size: found [64, 96], asked for [96, 96]" in told and "text" not in told
    with pytest.raises(CatalogError, match=r"text: found hash .*, asked for hash"):
        open_set(local_store, dataclasses.replace(MADE, text_fingerprint="other"), NULL.to_npz)
    assert MADE.key() == dataclasses.replace(MADE, codec="x", created="y").key() != other.key()


def test_what_is_no_latent_set_is_refused(local_store):
    with pytest.raises(CatalogError, match=r"no latent set, it has no latents\.json"):
        read_set(local_store)
    local_store.write("index/a.parquet", b"")
    with pytest.raises(CatalogError, match="not known what made it"):
        open_set(local_store, MADE, NULL.to_npz)
    local_store.write(DESCRIPTION, b'{"schema_version": 99}')
    with pytest.raises(CatalogError, match="schema version 99"):
        read_set(local_store)
    for name in ("", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="expected the name of a folder"):
            latent_store(local_store, name)


def test_names_say_codec_and_size():
    assert default_name("dct16", (320, 512)) == "dct16-512x320"
    assert default_name("owner/SANA-WM_x/", (704, 1280)) == "SANA-WM_x-1280x704"


def records(count: int) -> list[LatentRecord]:
    return [LatentRecord(f"clip{number}", Status.OK, caption="a room", frames=17, fps=16.0, latent_frames=3,
                         latent_height=2, latent_width=3, config_hash=MADE.key()) for number in range(count)]


def files(number: int) -> dict[str, bytes]:
    latents = np.full((128, 3, 2, 3), number, np.float16)
    return {"latents.npy": latents_to_npy(latents), "text.npz": NULL.to_npz(), "camera.npz": b"as it was"}


def test_latents_are_committed_read_and_recovered_like_clips(store):
    made = latent_store(store, "set")
    open_set(made, MADE, NULL.to_npz)
    with ShardWriter(made, FAMILY, rows=LATENTS) as writer:
        for number, record in enumerate(records(3)):
            writer.add(record, files(number))
        writer.commit([LatentRecord("bad", Status.FAILED, reason="undecodable", detail="no video")])
        writer.add(dataclasses.replace(records(1)[0], clip_id="later"), files(7))
        writer.commit()
    assert committed_ids(made, LATENTS) == {"clip0", "clip1", "clip2", "later", "bad"}
    samples = list(read_samples(made, "status = 'ok'", verify=True, rows=LATENTS))
    values = {sample.record.clip_id: latents_from_npy(sample.files["latents.npy"])[0, 0, 0, 0]
              for sample in samples}
    assert values == {"clip0": 0, "clip1": 1, "clip2": 2, "later": 7}
    assert samples[0].files["camera.npz"] == b"as it was"
    counts = query(made, "select status, count(*) as n from latents group by 1 order by 1", LATENTS)
    assert counts.to_pylist() == [{"status": "failed", "n": 1}, {"status": "ok", "n": 4}]
    digest = content_digest(read_index(made, rows=LATENTS), LATENTS)
    made.write("shards/latents-00112233445566778899.tar", b"left by a crash")
    assert recover(made, rows=LATENTS).orphans == ["shards/latents-00112233445566778899.tar"]
    assert content_digest(read_index(made, rows=LATENTS), LATENTS) == digest


def test_a_lost_latent_shard_is_told_and_failed_rows_are_withdrawn(local_store):
    import pyarrow.compute as pc

    open_set(local_store, MADE, NULL.to_npz)
    with ShardWriter(local_store, FAMILY, rows=LATENTS) as writer:
        writer.add(records(1)[0], files(0))
        written = writer.commit([LatentRecord("bad", Status.FAILED, reason="undecodable")])
    assert withdraw(local_store, lambda table: pc.equal(table["status"], "failed"), LATENTS) == ["bad"]
    local_store.remove(next(record.shard for record in written if record.shard))
    with pytest.raises(CatalogError, match=r"missing[\s\S]*write\.remake_broken=true"):
        recover(local_store, rows=LATENTS)
    assert recover(local_store, remake_broken=True, rows=LATENTS).withdrawn == ["clip0"]


def test_a_data_set_is_no_latent_set_and_the_other_way_round(tmp_path):
    from tests.tiny_dataset import write_video_set
    data = write_video_set(tmp_path, 1, 9, (32, 32))
    with pytest.raises(CatalogError, match="no latent set"):
        recover(data, rows=LATENTS)
    open_set(Store(tmp_path / "set"), MADE, NULL.to_npz)
    with pytest.raises(CatalogError, match="not a data set"):
        recover(Store(tmp_path / "set"))
