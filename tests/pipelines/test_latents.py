"""Encoding a data set: the right numbers, exactly once, whatever is killed, and bad clips fail alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from annotate.clip_video import ClipVideo
from dataset.catalog import CatalogError, content_digest, read_index
from dataset.clip import ClipRecord, Verdict
from dataset.latents import (
    LATENTS,
    TextStates,
    caption_digest,
    latent_store,
    latents_from_npy,
    read_null_text,
)
from dataset.lock import DatasetLock, LockHeld
from dataset.reader import read_samples
from dataset.store import Store
from model.dct import DCTCodec
from model.text import HashText
from pipelines.latents_config import LatentsConfig
from pipelines.latents_encode import Encoder
from pipelines.latents_run import Outcome, Shares, divide, run
from pipelines.latents_summary import finish
from pipelines.plan import PlanError
from tests.model.test_vae import tiny_codec
from tests.tiny_dataset import clip_files, clip_name, clip_record, write_video_set

SIZE = (70, 100)
GOOD, SILENT, DAMAGED, CUT, LONG, POSELESS, REJECTED = range(7)
REPOSITORY = Path(__file__).resolve().parents[2]


def settings(data: Path | str, shard_mb: float = 0.03, **changes) -> LatentsConfig:
    config = LatentsConfig(str(data), text_tokens=5, text_channels=6, **changes)
    config.write.shard_mb = shard_mb  # type: ignore[assignment]
    config.ray.num_cpus = 2
    return config


def faults(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    if number == SILENT:
        record.caption = None
    elif number == CUT:
        files["mp4"] = files["mp4"][:len(files["mp4"]) // 2]
    elif number == LONG:
        record.frames = 25
    elif number == POSELESS:
        del files["camera.npz"]
    elif number == REJECTED:
        record.verdict = Verdict.REJECTED


def damage(folder: Path, clip: str) -> None:
    row = next(row for row in read_index(Store(folder)).to_pylist() if row["clip_id"] == clip)
    path = folder / row["shard"]
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(next(m["offset"] for m in row["members"] if m["name"].endswith(".mp4")) + 100)
        file.write(b"damage")


@pytest.fixture(scope="module")
def faulty(ray_here, tmp_path_factory) -> tuple[Path, Outcome]:
    """A data set with a clip of each kind, and what encoding it did."""
    folder = tmp_path_factory.mktemp("faulty")
    write_video_set(folder, 7, 17, SIZE, change=faults)
    damage(folder, clip_name(DAMAGED))
    return folder, run(settings(folder))


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_video_set(folder, 16, 33, (64, 96))
    return folder


@pytest.fixture(scope="module")
def undisturbed(ray_here, many, tmp_path_factory) -> str:
    folder = shutil.copytree(many, tmp_path_factory.mktemp("undisturbed") / "data")
    run(settings(folder))
    return content_of(folder)


def latents_of(folder: Path) -> Store:
    name, = os.listdir(folder / "latents")
    return latent_store(Store(folder), name)


def content_of(folder: Path) -> str:
    """Digest of the index of the only latent set and of every file it names."""
    store = latents_of(folder)
    bytes_of = {sample.record.clip_id: sorted(sample.files.items())
                for sample in read_samples(store, verify=True, rows=LATENTS)}
    return content_digest(read_index(store, rows=LATENTS), LATENTS) + repr(sorted(bytes_of.items()))


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*")
            if path.is_file() and path.name != "_lock"}


def test_latents_and_states_are_those_of_codec_and_encoder_and_cameras_go_along(faulty):
    folder, outcome = faulty
    assert (outcome.name, outcome.selected, outcome.encoded, outcome.failed) == ("dct32-96x64", 6, 3, 3)
    clips = {sample.record.clip_id: sample for sample in read_samples(Store(folder))}
    codec, text = DCTCodec(32), HashText(6, 5)
    encoded = list(read_samples(latents_of(folder), verify=True, rows=LATENTS))
    assert {sample.record.clip_id for sample in encoded} == {clip_name(n) for n in (GOOD, SILENT, POSELESS)}
    for sample in encoded:
        clip = clips[sample.record.clip_id]
        frames = np.stack([*ClipVideo(clip.files["mp4"]).iter_rgb()])[:, 3:67, 2:98]
        video = torch.from_numpy(frames).movedim(-1, 0)[None].float() / 127.5 - 1
        latents = latents_from_npy(sample.files["latents.npy"])
        assert latents.dtype == np.float16 and latents.shape == (128, 3, 2, 3)
        assert np.abs(latents - codec.encode(video)[0].numpy()).max() < 2e-2
        row = sample.record
        assert (row.latent_frames, row.latent_height, row.latent_width) == (3, 2, 3)
        states = TextStates.from_npz(sample.files["text.npz"])
        wanted, mask = text.encode([clip.record.caption or ""])
        assert np.abs(states.states - wanted[0].numpy()).max() < 2e-3
        assert states.mask.tolist() == mask[0].bool().tolist()
        assert states.caption_sha256 == caption_digest(clip.record.caption)
        assert sample.files.get("camera.npz") == clip.files.get("camera.npz")
        assert sample.record.caption == clip.record.caption
    null = read_null_text(latents_of(folder))
    assert null.mask.tolist() == [True] + [False] * 4


def test_bad_clips_fail_alone_and_say_why(faulty):
    folder, _ = faulty
    table = read_index(latents_of(folder), rows=LATENTS)
    failed = {row["clip_id"]: row for row in table.to_pylist() if row["status"] == "failed"}
    reasons = {number: failed[clip_name(number)]["reason"] for number in (DAMAGED, CUT, LONG)}
    assert reasons == {DAMAGED: "unreadable", CUT: "undecodable", LONG: "wrong_frames"}
    assert "do not match their checksum" in failed[clip_name(DAMAGED)]["detail"]
    assert failed[clip_name(LONG)]["detail"] == ("the video has 17 frames, its row says 25, and 8k + 1 are "
                                                 "needed")


def test_the_closing_words_count_failures_and_clips_without_caption(faulty, capsys):
    folder, _ = faulty
    assert finish(settings(folder), Outcome("dct32-96x64", selected=6)) == 0
    told = capsys.readouterr().out
    assert "encoded 3 clips" in told and "1 of them have no caption" in told
    assert "failed  1 clips: undecodable" in told and "dct32 (dct-s32" in told


def test_a_second_run_does_nothing_and_touches_nothing(faulty):
    folder, _ = faulty
    before = snapshot(folder)
    outcome = run(settings(folder), announce=lambda _: pytest.fail("there is no work"))
    assert (outcome.begun, outcome.encoded, outcome.run_id) == (0, 0, None)
    assert snapshot(folder) == before


def test_latents_of_another_codec_or_text_are_refused_naming_both(faulty):
    folder, _ = faulty
    with pytest.raises(CatalogError, match=r"codec: found dct32 \(dct-s32[^)]*\), asked for dct16 \(dct-s16"):
        run(settings(folder, codec="dct16", name="dct32-96x64"))
    config = settings(folder)
    config.text_tokens = 7
    with pytest.raises(CatalogError, match=r"text: found hash .hash-l5-w6.*asked for hash .hash-l7-w6"):
        run(config)


def test_clips_added_later_are_encoded_and_failed_ones_when_asked(faulty, tmp_path):
    folder = shutil.copytree(faulty[0], tmp_path / "data")
    shards = snapshot(folder / "latents" / "dct32-96x64" / "shards")
    write_video_set(folder, 2, 9, SIZE, first=10)
    outcome = run(settings(folder, retry_failed=True))
    assert (outcome.begun, outcome.encoded, outcome.failed, outcome.withdrawn) == (5, 2, 3, 3)
    after = snapshot(folder / "latents" / "dct32-96x64" / "shards")
    assert {path: after[path] for path in shards} == shards and len(after) > len(shards)
    assert read_index(latents_of(folder), rows=LATENTS).num_rows == 8


def test_a_size_is_reached_by_the_common_rule_and_nothing_is_enlarged(ray_here, tmp_path):
    store = write_video_set(tmp_path, 1, 9, (140, 200))
    write_video_set(tmp_path, 1, 9, SIZE, first=1)
    with pytest.raises(CatalogError, match=r"the clips differ: 100x70 \(1 clips\), 200x140 \(1 clips\)"):
        run(settings(tmp_path))
    with pytest.raises(CatalogError, match=r"size=\[66, 96\]: both sides must be multiples of 32"):
        run(settings(tmp_path, size=[66, 96]))
    outcome = run(settings(tmp_path, size=[96, 160]))
    assert (outcome.name, outcome.encoded, outcome.failed) == ("dct32-160x96", 1, 1)
    rows = {row["clip_id"]: row for row in read_index(latents_of(tmp_path), rows=LATENTS).to_pylist()}
    assert rows[clip_name(0)]["latent_height"] == 3 and rows[clip_name(1)]["reason"] == "too_small"
    assert not list(store.below("latents/dct32-160x96/_work").list())


def test_settings_that_make_no_sense_are_refused_by_name(tmp_path):
    for changes, told in (({"size": [64]}, "size="), ({"dtype": "float16"}, "dtype=float16"),
                          ({"where": "select 1"}, "where="), ({"name": "a/b"}, "name='a/b'"),
                          ({"text_tokens": 0}, "text_tokens=0")):
        with pytest.raises(ValueError, match=told):
            LatentsConfig("x", **changes).check()
    with pytest.raises(CatalogError, match="not a data set"):
        run(settings(tmp_path))


def test_an_autoencoder_from_a_folder_encodes_in_tiles_what_it_encodes_whole(tmp_path):
    codec = tiny_codec(causal=True)
    codec.vae.save_pretrained(tmp_path / "vae")
    config = settings(tmp_path, codec=str(tmp_path / "vae"))
    encoder = Encoder(config, "cpu")
    encoder.codec.vae.tile_sample_min_num_frames, encoder.codec.vae.tile_sample_stride_num_frames = 24, 16
    codec.vae.tile_sample_min_num_frames, codec.vae.tile_sample_stride_num_frames = 24, 16
    record, files = clip_record(0, 33, (32, 64)), clip_files(0, 33, (32, 64))
    encoded = encoder.encode(record, files, (32, 64))
    frames = np.stack([*ClipVideo(files["mp4"]).iter_rgb()])
    whole = codec.encode(torch.from_numpy(frames).movedim(-1, 0)[None].float() / 127.5 - 1)[0].numpy()
    assert encoded.shape == whole.shape == (8, 5, 1, 2)
    assert np.abs(latents_from_npy(encoded.files["latents.npy"]) - whole).max() < 2e-2
    assert encoder.describe((32, 64)).codec_fingerprint == codec.fingerprint


def test_gpus_are_shared_by_as_many_workers_as_fit_and_their_lack_is_told():
    config = LatentsConfig("x", codec="owner/vae")
    assert divide(config, 8, 2, 100) == Shares(2, 1.0, 1.0, 4)
    assert divide(config, 8, 0, 100) == Shares(8, 1.0, 0.0, 1)
    assert divide(LatentsConfig("x"), 8, 2, 3) == Shares(3, 1.0, 0.0, 2)
    config.run.gpus = 0.5
    assert divide(config, 8, 2, 100).workers == 4
    config.run.gpus = 4.0
    with pytest.raises(PlanError, match=r"run\.gpus=4: there are 2 GPUs"):
        divide(config, 8, 2, 100)


@contextmanager
def killing_workers(folder: Path, times: int) -> Iterator[list[int]]:
    """Kills `times` workers with SIGKILL, each once another clip has been staged."""
    killed: list[int] = []
    stop, choose = threading.Event(), random.Random(3)

    def workers() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                if "EncodeWorker" in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill() -> None:
        seen = 0
        while len(killed) < times and not stop.wait(0.01):
            staged = len([*folder.glob("latents/*/_work/video/*/*.json")])
            if staged > seen and (there := workers()):
                victim = choose.choice(there)
                victim.kill()
                killed.append(victim.pid)
                seen = staged

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


def test_killed_workers_change_nothing_in_the_result(ray_here, many, undisturbed, tmp_path):
    folder = shutil.copytree(many, tmp_path / "data")
    with killing_workers(folder, 2) as killed:
        outcome = run(settings(folder, shard_mb=5))
    assert len(killed) == 2, "the run was over before two workers could be killed"
    assert outcome.encoded == 16 and outcome.lost == {}
    assert content_of(folder) == undisturbed


DRIVER = """
import sys
from tests.pipelines.test_latents import run, settings
run(settings(sys.argv[1]))
"""


def kill_driver(folder: Path) -> None:
    """A run in a process of its own, killed once some latents are committed and others are staged."""
    def is_midway() -> bool:
        staged = [*folder.glob("latents/*/_work/video/*/*.json")]
        return len(staged) > 1 and any(folder.glob("latents/*/index/*.parquet"))

    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], cwd=REPOSITORY,
                              stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while True:
        assert driver.poll() is None and time.monotonic() < deadline
        if is_midway():
            driver.send_signal(signal.SIGSTOP)
            if is_midway():
                break
            driver.send_signal(signal.SIGCONT)
        time.sleep(0.005)
    with pytest.raises(LockHeld), DatasetLock(latents_of(folder)):
        pass
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    psutil.wait_procs([child for child in children if "Agent" not in child.name()], timeout=60)


@pytest.mark.slow
def test_a_killed_driver_is_continued_to_the_same_latents_though_staged_ones_were_damaged(
    ray_here, many, undisturbed, tmp_path,
):
    folder = shutil.copytree(many, tmp_path / "data")
    kill_driver(folder)
    done = set(read_index(latents_of(folder), rows=LATENTS)["clip_id"].to_pylist())
    assert 0 < len(done) < 16
    staged = [path for path in sorted(folder.glob("latents/*/_work/video/*/*.json"))
              if path.parent.name not in done]
    files = [path.with_suffix(".latents.npy") for path in staged[:2]]
    for file, bad in zip(files, (bytes(files[0].stat().st_size) if files else b"", b"short")):
        file.write_bytes(bad)
    outcome = run(settings(folder))
    # A file of another length is made again at once; of equal length, only its checksum tells.
    assert outcome.begun == 16 - len(done) and [*outcome.lost] == [path.parent.name for path in staged[:1]]
    assert run(settings(folder)).begun == len(outcome.lost)
    assert content_of(folder) == undisturbed
    assert not [*folder.glob("latents/*/_work/video/*")]
