"""Damage done for real: named, counted, and fatal or left out as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset.clip import ClipRecord
from dataset.latents import LATENTS, TextStates, caption_digest, latent_store, latents_to_npy
from dataset.loader.config import DataConfig, OnError, Scale
from dataset.loader.loader import Loader, LoaderError
from dataset.reader import read_samples
from dataset.store import Store
from tests.tiny_dataset import camera_track, clip_name, write_latent_set, write_video_set

SET = "dct32-96x64"
Damage = Callable[[Path, ClipRecord], None]


def load(data: Store, latents: str | None, skip: bool, **settings) -> Loader:
    settings = {"workers": 0, "batch_size": 4, "frames": [17, 33], **settings}
    on_error = OnError.skip if skip else OnError["raise"]
    return Loader(DataConfig(path=data.url, latents=latents, on_error=on_error, **settings), epochs=1)


def cut_off(shard: Path, record: ClipRecord) -> None:
    """Truncate within the first clip's last big member, so that the clips after it are gone too."""
    member = next(m for m in record.members if m.name.endswith((".mp4", ".latents.npy")))
    shard.write_bytes(shard.read_bytes()[: member.offset + member.size // 2])


def remove(shard: Path, record: ClipRecord) -> None:
    shard.unlink()


def flip_a_bit(shard: Path, record: ClipRecord) -> None:
    member = next(m for m in record.members if m.name.endswith((".mp4", ".latents.npy")))
    data = bytearray(shard.read_bytes())
    data[member.offset + member.size // 2] ^= 1
    shard.write_bytes(data)


@pytest.mark.parametrize("latents", [SET, None])
@pytest.mark.parametrize(("damage", "trouble", "words"), [
    (cut_off, "truncated shard", r"\d+ of \d+ bytes there; the shard is truncated"),
    (remove, "missing shard", "there is no such shard"),
    (flip_a_bit, "wrong checksum", "do not match their checksum"),
], ids=["truncated", "missing", "checksum"])
def test_a_damaged_shard_is_named_and_fatal_or_skipped(
    data: Store, latents: str | None, damage: Damage, trouble: str, words: str
):
    store = data if latents is None else latent_store(data, latents)
    samples = read_samples(store) if latents is None else read_samples(store, rows=LATENTS)
    records = [sample.record for sample in samples]
    record = records[0]
    clips = 1 if damage is flip_a_bit else sum(other.shard == record.shard for other in records)
    path = store.local_path(record.shard)
    damage(path, record)
    with pytest.raises(LoaderError, match=rf"{record.shard}.*[0-9a-f]{{20}}.*{words}.*data.on_error=skip"):
        list(load(data, latents, skip=False))
    for workers in (0, 2):
        loader = load(data, latents, skip=True, workers=workers)
        batches = list(loader)
        assert loader.skipped == {trouble: clips}
        reasons = [reason for batch in batches for reason in batch.skipped]
        assert len(reasons) == clips and all(record.shard in reason for reason in reasons)
        assert any(record.clip_id in reason for reason in reasons)
        assert sum(len(batch) for batch in batches) == 12  # nothing takes the place of what is left out
        empty = [(batch, slot) for batch in batches for slot in range(len(batch))
                 if not batch.frame_valid[slot].any()]
        assert len(empty) == clips and record.clip_id in [batch.clip_ids[slot] for batch, slot in empty]
        for batch, slot in empty:
            for name, tensor in batch._tensors().items():
                assert tensor[slot].to(torch.float64).isfinite().all(), name
            seen = batch.latents if batch.video is None else batch.video
            assert not seen[slot].any()


def test_what_is_skipped_does_not_move_what_comes_after(data: Store, pristine: Store):
    record = next(read_samples(latent_store(data, SET), rows=LATENTS)).record
    remove(latent_store(data, SET).local_path(record.shard), record)
    damaged, whole = (list(load(store, SET, skip=True)) for store in (data, pristine))
    assert [batch.clip_ids for batch in damaged] == [batch.clip_ids for batch in whole]
    for ours, theirs in zip(damaged, whole):
        good = ours.frame_valid.any(1)
        assert torch.equal(ours.latents[good], theirs.latents[good])


def test_too_many_skipped_clips_end_the_run(data: Store):
    for shard in Path(latent_store(data, SET).url, "shards").glob("*.tar"):
        shard.unlink()
    with pytest.raises(LoaderError, match=r"missing shard.*data.skip_limit=5; the last: .*no such shard"):
        list(load(data, SET, skip=True, skip_limit=5))


def nan_pose(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    track = camera_track(number, 17, (64, 96))
    track.c2w[5] = np.nan
    files["camera.npz"] = track.to_npz()


def mirrored(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    track = camera_track(number, 17, (64, 96))
    track.c2w[3, :3, 0] *= -1
    files["camera.npz"] = track.to_npz()


def failed(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    """The index does not know of it."""
    track = camera_track(number, 17, (64, 96))
    track.failure = "the camera lost its way"
    files["camera.npz"] = track.to_npz()


def path_lengths(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    files["camera.npz"] = camera_track(number, 17, (64, 96)).scaled(0.3, "path").to_npz()


def no_focal_length(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    track = camera_track(number, 17, (64, 96))
    track.intrinsics[2, 0] = 0.0
    files["camera.npz"] = track.to_npz()


def few_cameras(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    files["camera.npz"] = camera_track(number, 9, (64, 96)).to_npz()


def no_archive(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    files["camera.npz"] = files["camera.npz"][:200]


@pytest.mark.parametrize(("change", "words"), [
    (nan_pose, "frame 5 holds NaN"), (mirrored, "frame 3 mirrors the world"), (failed, "lost its way"),
    (path_lengths, "translations in 'path', expected metres; data.scale=any"),
    (no_focal_length, "must be positive"),
    (few_cameras, "cameras of 9 frames, the index promises 17"), (no_archive, "not a zip file"),
])
def test_cameras_that_are_none_are_never_trained_on(tmp_path: Path, change, words: str):
    def only_one(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
        if number == 1:
            change(number, record, files)

    data = write_video_set(tmp_path / "data", clips=3, change=only_one)
    with pytest.raises(LoaderError, match=rf"{clip_name(1)}.camera.npz: .*{words}"):
        list(load(data, None, skip=False))
    loader = load(data, None, skip=True)
    (batch,) = loader
    assert loader.skipped == {"bad camera": 1}
    assert batch.frame_valid.any(1).tolist() == [clip != clip_name(1) for clip in batch.clip_ids]
    if change is path_lengths:
        assert not load(data, None, skip=True, scale=Scale.any).skipped


@pytest.mark.parametrize(("video", "words"), [
    ("short", "ends after 9 frames, expected 17"), ("large", "is 128x96, its cameras are of 96x64"),
    ("none", "not a video that can be decoded"),
])
def test_video_that_is_not_what_the_index_says_is_named(tmp_path: Path, video: str, words: str):
    from tests.tiny_dataset import clip_video

    made = {"short": clip_video(0, 9, (64, 96)), "large": clip_video(0, 17, (96, 128)), "none": b"no video"}

    def change(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
        files["mp4"] = made[video] if number else files["mp4"]

    data = write_video_set(tmp_path / "data", clips=2, change=change)
    loader = load(data, None, skip=True)
    (batch,) = loader
    assert loader.skipped == {"bad content": 1}
    assert words in batch.skipped[0] and clip_name(1) in batch.skipped[0]


def states(tokens: int, caption: str) -> bytes:
    return TextStates(np.zeros((tokens, 24)), np.ones(tokens, bool), caption_digest(caption)).to_npz()


@pytest.mark.parametrize(("change", "words"), [
    ({"latents.npy": latents_to_npy(np.zeros((128, 3, 2, 4)))}, r"latents of shape \(128, 3, 2, 4\)"),
    ({"latents.npy": latents_to_npy(np.zeros((128, 2, 2, 3)))}, r"expected \(128, 3 or more, 2, 3\)"),
    ({"latents.npy": latents_to_npy(np.zeros((64, 6, 2, 3)))}, r"latents of shape \(64, 6, 2, 3\)"),
    ({"latents.npy": b"no array"}, "magic"),
    ({"text.npz": states(16, "another")}, "states of another caption"),
    ({"text.npz": states(9, "a red room, number 0")}, r"caption states of shape \(9, 24\)"),
])
def test_latents_and_captions_that_are_not_what_the_set_says_are_named(tmp_path: Path, change, words: str):
    from dataset.latents import FAMILY
    from dataset.shards import ShardWriter

    data = write_video_set(tmp_path / "data", clips=1)
    store = write_latent_set(data, name=SET)
    (sample,) = read_samples(store, rows=LATENTS)
    for path in store.list("index") + store.list("shards"):
        store.remove(path)
    files = {name: content for name, content in sample.files.items() if name != "json"}
    with ShardWriter(store, FAMILY, rows=LATENTS) as writer:
        writer.add(sample.record, {**files, **change})
        writer.commit()
    with pytest.raises(LoaderError, match=words):
        list(load(data, SET, skip=False))
