"""Faults put into a data set for real: each is named with its clip, and repair leaves a whole data set."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dataset.catalog import (
    CLIPS,
    CatalogError,
    read_index,
    read_segments,
    segment_path,
    segment_paths,
    write_segment,
    write_table,
)
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, Verdict, from_row
from dataset.latents import LATENTS, latent_store
from dataset.reader import read_samples
from dataset.store import Store
from pipelines.validate_config import ValidateConfig
from pipelines.validate_run import validate
from tests.tiny_dataset import clip_name, write_latent_set, write_video_set

SIZE = (32, 64)
NAMES = [clip_name(number) for number in range(6)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips in two shards, and their latents in two more."""
    folder = tmp_path_factory.mktemp("whole")
    store = write_video_set(folder, 6, 9, SIZE)
    write_latent_set(store, text=(4, 6), name="set")
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def look(folder: Path, **options: bool) -> int:
    return validate(ValidateConfig(str(folder), jobs=1, **options))


def change_member(folder: Path, clip: str, member: str, data: bytes | None = None) -> Path:
    """Overwrite a member where it lies: with other bytes of its length, or with zeros in its middle."""
    rows = LATENTS if (folder / "latents.json").exists() else CLIPS
    for row in read_index(Store(folder), rows=rows).to_pylist():
        for item in row["members"]:
            if item["name"] == f"{clip}.{member}":
                path = folder / row["shard"]
                path.chmod(0o644)
                with open(path, "r+b") as file:
                    file.seek(item["offset"] + (0 if data else item["size"] // 2))
                    file.write(data or bytes(8))
                return path
    raise AssertionError(f"no {member} of {clip}")


def change_clip(number: int, edit: Callable[[ClipRecord, dict[str, bytes]], None]):
    def change(at: int, record: ClipRecord, files: dict[str, bytes]) -> None:
        if at == number:
            edit(record, files)
    return change


def test_a_whole_data_set_is_whole_and_stays_untouched(whole, capsys):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert look(whole) == 0
    assert "clips: whole (6 rows, 2 shards" in (told := capsys.readouterr().out)
    assert "latents/set: whole (6 rows, 2 shards" in told
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_several_processes_find_what_one_finds(data, capsys):
    change_member(data, NAMES[2], "depth.npz")
    assert look(data) == 1
    alone = capsys.readouterr().out
    assert validate(ValidateConfig(str(data), jobs=2)) == 1
    assert capsys.readouterr().out == alone


@pytest.mark.parametrize("member", ["mp4", "camera.npz", "depth.npz", "json"])
def test_changed_bytes_are_found_and_repair_keeps_the_other_clips(data, member, capsys):
    old = change_member(data, NAMES[4], member)
    content = old.read_bytes()
    assert look(data, decode=False, latents=False) == 1
    told = capsys.readouterr().out
    assert f"clip {NAMES[4]}: checksum: {member}" in told and told.count(NAMES[4]) == 1
    assert look(data, repair=True, latents=False) == 0
    samples = list(read_samples(Store(data), verify=True))
    assert {sample.record.clip_id for sample in samples} == {*NAMES} - {NAMES[4]}
    assert set(read_index(Store(data))["clip_id"].to_pylist()) == {*NAMES} - {NAMES[4]}
    assert not old.exists() and (data / "quarantine" / "shards" / old.name).read_bytes() == content
    record = json.loads(next((data / "quarantine").glob("*.json")).read_text())
    assert list(record["withdrawn"]) == [NAMES[4]] and "checksum" in record["withdrawn"][NAMES[4]]
    write_video_set(data, 1, 9, SIZE, first=4)  # made again
    assert look(data) == 0


def test_what_is_wrong_inside_a_clip_is_named(tmp_path, capsys):
    def camera(edit: Callable[[CameraTrack], CameraTrack]):
        def change(record: ClipRecord, files: dict[str, bytes]) -> None:
            files["camera.npz"] = edit(CameraTrack.from_npz(files["camera.npz"])).to_npz()
        return change

    def scaled(track: CameraTrack) -> CameraTrack:
        track.c2w[3, :3, :3] *= 1.1
        return track

    def nan(track: CameraTrack) -> CameraTrack:
        track.c2w[5, 0, 3] = np.nan
        return track

    def back(track: CameraTrack) -> CameraTrack:
        track.timestamps[4] = track.timestamps[3]
        return track

    def deep(record: ClipRecord, files: dict[str, bytes]) -> None:
        maps = DepthMaps.from_npz(files["depth.npz"])
        maps.depth[0, 3, 3] = np.inf
        files["depth.npz"] = maps.to_npz()

    def short(record: ClipRecord, files: dict[str, bytes]) -> None:
        record.frames = 17

    def cut(record: ClipRecord, files: dict[str, bytes]) -> None:
        files["mp4"] = files["mp4"][:-300]

    wrong = {0: camera(scaled), 1: camera(nan), 2: camera(back), 3: deep, 4: short, 5: cut,
             6: camera(lambda track: dataclasses.replace(track, intrinsics=-track.intrinsics)),
             7: camera(lambda track: dataclasses.replace(track, c2w=track.c2w[:-1]))}
    for number, edit in wrong.items():
        write_video_set(tmp_path, 1, 9, SIZE, first=number, change=change_clip(number, edit))
    assert look(tmp_path) == 1
    told = capsys.readouterr().out
    expected = {
        0: "camera.npz: c2w of the posed frames: frame 3 is not a rotation",
        1: "camera.npz: c2w of the posed frames: frame 5 holds NaN",
        2: "camera.npz: timestamps do not increase",
        3: "depth.npz: 1 of 64 depths are not finite",
        4: "mp4: 9 frames can be decoded, its row says 17",
        5: "mp4: ",
        6: "camera.npz: intrinsics of posed frames are not finite, or a focal length is not positive",
        7: "camera.npz: c2w is (8, 4, 4), expected (9, 4, 4)",
    }
    for number, sentence in expected.items():
        assert f"clip {clip_name(number)}: {sentence}" in told
    assert look(tmp_path, repair=True) == 0
    assert read_index(Store(tmp_path)).num_rows == 0


def test_a_truncated_shard_gives_its_sound_clips(data, capsys):
    shard = next((data / "shards").iterdir())
    inside = [row for row in read_index(Store(data)).to_pylist() if row["shard"].endswith(shard.name)]
    last = max(inside, key=lambda row: row["members"][-1]["offset"])
    content = shard.read_bytes()[:last["members"][0]["offset"] + 100]
    shard.unlink()
    shard.write_bytes(content)
    assert look(data, latents=False) == 1
    assert "tar: ends inside" in capsys.readouterr().out
    assert look(data, latents=False, repair=True) == 0
    assert {*NAMES} - {*read_index(Store(data))["clip_id"].to_pylist()} == {last["clip_id"]}


def test_a_damaged_header_hides_no_clip_from_repair(data, capsys):
    shard = next((data / "shards").iterdir())
    second = sorted(item["offset"] for row in read_index(Store(data)).to_pylist()
                    if row["shard"].endswith(shard.name) for item in row["members"])[5] - 512
    shard.chmod(0o644)
    with open(shard, "r+b") as file:
        file.seek(second)
        file.write(b"nonsense" * 20)
    assert look(data, latents=False) == 1
    assert "damaged header" in (told := capsys.readouterr().out) and "checksum" not in told
    assert look(data, latents=False, repair=True) == 0
    assert {*NAMES} == {*read_index(Store(data))["clip_id"].to_pylist()}
    for path in (data / "shards").iterdir():
        with tarfile.open(path) as tar:
            assert len(tar.getnames()) == 12


def test_lost_and_damaged_segments_are_made_again_from_the_shards(data, capsys):
    def rows() -> list[dict]:
        return read_index(Store(data)).drop(["annotated_at"]).sort_by("clip_id").to_pylist()

    before = rows()
    lost, damaged = [data / path for path in segment_paths(Store(data))]
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert look(data, latents=False) == 1
    told = capsys.readouterr().out
    assert "segment: " in told and told.count("orphan_shard: no row") == 2
    assert look(data, latents=False, repair=True) == 0
    assert rows() == before
    assert (data / "quarantine" / "index" / damaged.name).exists()


def test_an_index_that_contradicts_itself_or_its_shards_is_told(data, capsys):
    store = Store(data)
    rows = {row["clip_id"]: from_row(row) for row in read_index(store).to_pylist()}
    write_segment(store, [dataclasses.replace(rows[NAMES[0]], caption="another")])
    kept = ClipRecord("nofiles", "v", rows[NAMES[0]].kind, verdict=Verdict.KEPT)
    write_segment(store, [kept])
    assert look(data, latents=False) == 1
    told = capsys.readouterr().out
    assert f"clip {NAMES[0]}: duplicate_id: 2 different rows" in told
    assert "clip nofiles: no_files" in told
    assert look(data, latents=False, repair=True) == 0
    assert {*read_index(store)["clip_id"].to_pylist()} == {*NAMES}


def test_clips_of_a_missing_shard_and_leftover_shards_are_told_and_put_right(data, capsys):
    shards = sorted((data / "shards").iterdir())
    gone = [row["clip_id"] for row in read_index(Store(data)).to_pylist()
            if row["shard"].endswith(shards[0].name)]
    shards[0].rename(data / "shards" / "foreign.tar")
    assert look(data, latents=False) == 1
    told = capsys.readouterr().out
    assert all(f"clip {clip}: missing_shard" in told for clip in gone)
    assert "shards/foreign.tar: orphan_shard" in told
    assert look(data, latents=False, repair=True) == 0
    assert {*read_index(Store(data))["clip_id"].to_pylist()} == {*NAMES} - {*gone}
    assert (data / "quarantine" / "shards" / "foreign.tar").exists()


def test_damage_in_latents_is_found_and_repaired(data, capsys):
    folder = data / "latents" / "set"
    store = latent_store(Store(data), "set")
    change_member(folder, NAMES[1], "latents.npy")
    buffer = io.BytesIO()
    np.savez(buffer, states=np.zeros((4, 6)), mask=np.ones(4, bool), caption_sha256=np.zeros(64, np.uint8))
    (folder / "null_text.npz").write_bytes(buffer.getvalue())
    assert look(data) == 1
    told = capsys.readouterr().out
    assert f"clip {NAMES[1]}: checksum: latents.npy" in told
    assert "null_text: the states are those of another caption" in told
    look(data, repair=True)
    assert {*read_index(store, rows=LATENTS)["clip_id"].to_pylist()} == {*NAMES} - {NAMES[1]}
    assert (folder / "quarantine" / "null_text.npz").exists()


def test_latents_beside_cameras_that_were_replaced_are_told(data, capsys):
    store = Store(data)

    def turn(record: ClipRecord, files: dict[str, bytes]) -> None:
        files["camera.npz"] = CameraTrack.from_npz(files["camera.npz"]).scaled(2.0, "m").to_npz()
    store.remove(segment_path(NAMES[3:]))
    write_video_set(data, 3, 9, SIZE, first=3, change=change_clip(4, turn))
    assert look(data) == 1
    assert f"clip {NAMES[4]}: camera_differs" in capsys.readouterr().out
    look(data, repair=True)
    assert {*read_index(latent_store(store, "set"), rows=LATENTS)["clip_id"].to_pylist()
            } == {*NAMES} - {NAMES[4]}


def test_repair_waits_for_no_run(data):
    from dataset.lock import DatasetLock, LockHeld
    with DatasetLock(Store(data)), pytest.raises(LockHeld):
        look(data, repair=True)


KILLED = """
import os, sys
from tests.dataset.commit_until_killed import die_before_change
from pipelines.validate_config import ValidateConfig
from pipelines.validate_run import validate
for number, folder in enumerate(sys.argv[1:]):
    child = os.fork()
    if child == 0:
        die_before_change(3 + 3 * number)
        validate(ValidateConfig(folder, jobs=1, decode=False, repair=True, latents=False))
        os._exit(0)
    print(os.WIFSIGNALED(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_repair_killed_anywhere_loses_no_sound_clip_when_it_is_called_again(whole, tmp_path):
    folders = [tmp_path / str(number) for number in range(11)]
    lost, other = read_segments(Store(whole)).items()
    broken = other[1]["clip_id"][0].as_py()  # the lost segment takes the checksums of its clips along
    for folder in folders:
        shutil.copytree(whole, folder)
        change_member(folder, broken, "mp4")
        (folder / lost[0]).write_bytes(b"")
    run = subprocess.run([sys.executable, "-c", KILLED, *map(str, folders)], check=True, text=True,
                         capture_output=True, cwd=Path(__file__).parents[2])
    killed = [line == "True" for line in run.stdout.splitlines() if line in ("True", "False")]
    assert len(killed) == len(folders) and sum(killed) > 4 and not killed[-1]
    for folder in folders:
        look(folder, repair=True, decode=False, latents=False)
        samples = list(read_samples(Store(folder), verify=True))
        assert {sample.record.clip_id for sample in samples} == {*NAMES} - {broken}


def test_an_index_of_other_columns_is_no_damage_and_never_touched(data):
    path = segment_paths(Store(data))[0]
    write_table(Store(data), path, read_segments(Store(data))[path].drop(["sharpness"]))
    before = {file: file.read_bytes() for file in data.rglob("*") if file.is_file()}
    with pytest.raises(CatalogError, match=r"columns \['sharpness'\] are not those of this code"):
        look(data, repair=True)
    after = {file: file.read_bytes() for file in data.rglob("*") if file.is_file() and file.name != "_lock"}
    assert after == before


def test_a_data_set_in_an_object_store_is_checked_and_repaired_alike(capsys):
    url = "memory://validate/data"
    store = write_video_set(url, 3, 9, SIZE)
    row = read_index(store).to_pylist()[0]
    content = bytearray(store.read(row["shard"]))
    content[row["members"][1]["offset"] + 50] ^= 255
    store.write(row["shard"], bytes(content))
    assert validate(ValidateConfig(url, jobs=1)) == 1
    assert f"clip {row['clip_id']}: checksum" in capsys.readouterr().out
    assert validate(ValidateConfig(url, jobs=1, repair=True)) == 0
    assert {*read_index(store)["clip_id"].to_pylist()} == {*NAMES[:3]} - {row["clip_id"]}
    assert store.read(f"quarantine/{row['shard']}") == content
