"""A look-alike of a published set with finished cameras, imported: exact, once, and whatever is broken."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from annotate.synthetic import SyntheticSpec, render_video
from dataset.catalog import CatalogError, content_digest, query, read_index
from dataset.clip import CameraTrack, ClipRecord, from_row
from dataset.fit import Framing
from dataset.latents import LATENTS, TextStates, latent_store, latents_from_npy
from dataset.loader.config import DataConfig
from dataset.loader.loader import Loader
from dataset.reader import read_samples
from dataset.store import Store
from pipelines.import_set_run import run
from pipelines.runner import Refused
from pipelines.validate_config import ValidateConfig
from pipelines.validate_run import validate

sys.path.insert(0, str(Path(__file__).parent))
import sana_wm_lookalike as like

STEMS = {"00000": ["walk_a_0", "walk_a_321"], "00001": ["drone_b_0", "drone_b_321", "drone_c_0"]}
RAW = "sekai_game_train_961frames_16fps_ovl640"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("published")
    like.write_set(root, STEMS)
    return root


@pytest.fixture
def copy(published, tmp_path) -> Path:
    """The set, to be damaged."""
    shutil.copytree(published, tmp_path / "set")
    return tmp_path / "set"


def rows(out: Path) -> dict[str, ClipRecord]:
    """Every row by the key of its clip."""
    return {row["uri"].rpartition("#")[2]: from_row(row) for row in read_index(Store(out)).to_pylist()}


def test_poses_come_out_in_metres_as_they_went_in(published, tmp_path):
    assert run(like.config(published / RAW, tmp_path / "out")) == 0
    samples = list(read_samples(Store(tmp_path / "out"), verify=True))
    assert len(samples) == 5
    for sample in samples:
        key = sample.record.uri.rpartition("#")[2]
        track = CameraTrack.from_npz(sample.files["camera.npz"])
        expected = like.walk(like.seed_of(key))
        expected[:, :3, 3] *= like.scale_of(key)
        np.testing.assert_allclose(track.c2w, expected, atol=1e-12)
        np.testing.assert_allclose(track.intrinsics, np.tile(like.INTRINSICS, (like.FRAMES, 1)), atol=1e-12)
        assert (track.unit, track.size, track.engine) == ("m", like.SIZE, "given")
        assert sample.files["mp4"] == like.video(like.seed_of(key))
        record = sample.record
        assert (record.scale_status, record.metric_scale) == ("metric_learned", like.scale_of(key))
        scores = record.vmaf_motion, record.flow_unimatch, record.dover, record.entities
        assert scores == (3.5, 12.0, 0.6, None)
        assert record.caption == f"a town, {key}"
        assert record.licence and record.licence.startswith("Sekai licence")
        assert record.path_length == pytest.approx(track.path_length)


def test_running_again_changes_nothing_and_new_thresholds_only_verdicts(published, tmp_path, capsys):
    settings = like.config(published / RAW, tmp_path / "out")
    run(settings)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tar")}
    run(settings)
    assert "0 new rows" in capsys.readouterr().err
    settings.thresholds.dover.min = 0.7
    run(settings)
    assert {row.verdict for row in rows(tmp_path / "out").values()} == {"rejected"}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tar")} == files


def test_what_is_broken_is_a_failed_row_with_its_reason_and_the_others_go_on(copy, tmp_path):
    raw = copy / RAW
    scales = json.loads((raw / "00000_metric_scale_stats.json").read_text())
    del scales["walk_a_0"]
    (raw / "00000_metric_scale_stats.json").write_text(json.dumps(scales))
    with np.load(raw / "00001_camera.npz") as stored:
        arrays = dict(stored)
    arrays["ids"][1] = "somebody_else"
    arrays["pose"][2 * like.FRAMES + 3, 0, 0] = np.nan
    np.savez(raw / "00001_camera.npz", **arrays)
    shutil.copy(raw / "00000.zip", raw / "00002.zip")  # a zip without any sidecar
    (raw / "00003.zip").write_bytes((raw / "00000.zip").read_bytes()[:2000])
    like.write_zip(raw / "00004.zip", {"long.json": b'{"width": 96, "height": 72}',
                                       "long.mp4": like.video(1, frames=25)})
    like.write_sidecars(raw, "00004", ["long"])
    run(like.config(raw, tmp_path / "out"))
    failed = {row.uri.rpartition("/")[2]: (row.reasons, row.detail)
              for row in map(from_row, query(Store(tmp_path / "out"), "verdict = 'failed'").to_pylist())}
    assert set(failed) == {"00000.zip#walk_a_0", "00001.zip#drone_b_321", "00001.zip#drone_c_0",
                           "00002.zip#walk_a_0", "00002.zip#walk_a_321", "00003.zip", "00004.zip#long"}
    assert "no scale above 0" in failed["00000.zip#walk_a_0"][1]
    said = failed["00001.zip#drone_b_321"][1]
    assert "no cameras; a clip without them is not taken for a still one" in said
    assert "frame 3 holds NaN" in failed["00001.zip#drone_c_0"][1]
    assert "00002_camera.npz" in failed["00002.zip#walk_a_0"][1]
    assert failed["00003.zip"][0] == ["unreadable"] and "not a whole zip" in failed["00003.zip"][1]
    assert "25 frames of video, 17 poses" in failed["00004.zip#long"][1]
    kept = query(Store(tmp_path / "out"), "verdict = 'kept'")
    assert kept.num_rows == 2


def test_latents_come_along_once_the_codec_is_seen_to_have_made_them(published, tmp_path, capsys):
    out = tmp_path / "out"
    settings = like.config(published / RAW, out, published / "latents")
    run(settings)
    assert "latents checked against dct32" in capsys.readouterr().err
    store = latent_store(Store(out), "dct")
    samples = list(read_samples(store, verify=True, rows=LATENTS))
    by_id = {row.clip_id: key for key, row in rows(out).items()}
    assert {sample.record.clip_id for sample in samples} == set(by_id)
    for sample in samples:
        key = by_id[sample.record.clip_id]
        expected = like.latents_of(like.video(like.seed_of(key))).astype(np.float16)
        np.testing.assert_array_equal(latents_from_npy(sample.files["latents.npy"]), expected)
        text = TextStates.from_npz(sample.files["text.npz"])
        assert text.states.shape == (8, 12)
        assert sample.record.caption == f"a town, {key}"
    run(settings)
    assert "0 new latents" in capsys.readouterr().err


def test_training_sees_the_cameras_of_the_video_that_was_encoded_and_validation_finds_no_fault(
    published, tmp_path,
):
    run(like.config(published / RAW, tmp_path / "out", published / "latents"))
    assert validate(ValidateConfig(data=str(tmp_path / "out"), jobs=1)) == 0
    given = DataConfig(path=str(tmp_path / "out"), latents="dct", frames=[like.FRAMES], batch_size=5,
                       workers=0)
    batch = next(iter(Loader(given, epochs=1)))
    keys = {row.clip_id: key for key, row in rows(tmp_path / "out").items()}
    for slot, name in enumerate(batch.clip_ids):
        np.testing.assert_allclose(batch.intrinsics[slot, 0], like.INTRINSICS * [1, 64 / 72, 1, 64 / 72])
        c2w = like.walk(like.seed_of(keys[name]))
        c2w[:, :3, 3] *= like.scale_of(keys[name])
        np.testing.assert_allclose(batch.c2w[slot], np.linalg.inv(c2w[0]) @ c2w, atol=1e-9)


@pytest.mark.parametrize(("change", "message"), [
    ({"codec": "dct16"}, "channels|differs from"),
    ({"framing": Framing.cover}, "latents.framing is not what made them"),
])
def test_latents_of_another_codec_or_framing_are_refused(published, tmp_path, change, message):
    settings = like.config(published / RAW, tmp_path / "out", published / "latents")
    for name, value in change.items():
        setattr(settings.latents, name, value)
    with pytest.raises(CatalogError, match=message):
        run(settings)
    assert not (tmp_path / "out/latents/dct").exists()


def test_a_broken_latent_is_a_failed_row_of_the_latent_set(copy, tmp_path):
    archive = copy / "latents/00001.zip"
    entries = {f"{key}.npz": b"nothing" for key in STEMS["00001"][:1]}
    like.write_zip(archive, entries)
    run(like.config(copy / RAW, tmp_path / "out", copy / "latents"))
    table = read_index(latent_store(Store(tmp_path / "out"), "dct"), rows=LATENTS).to_pylist()
    assert sorted(row["status"] for row in table) == ["failed", "failed", "failed", "ok", "ok"]
    assert {row["reason"] for row in table if row["status"] == "failed"} == {"bad_latents"}


def test_a_set_without_video_still_gives_cameras_and_latents(tmp_path, capsys):
    like.write_set(tmp_path / "set", {"00000": ["a", "b"]}, with_video=False)
    run(like.config(tmp_path / "set" / RAW, tmp_path / "out", tmp_path / "set/latents"))
    assert "taken on trust" in capsys.readouterr().err
    sample = next(read_samples(Store(tmp_path / "out")))
    assert {"camera.npz", "json"} == set(sample.files)
    assert len(list(read_samples(latent_store(Store(tmp_path / "out"), "dct"), rows=LATENTS))) == 2


def test_cameras_are_compared_with_the_images_and_misread_ones_stop_the_import(tmp_path):
    mp4 = tmp_path / "scene.mp4"
    spec = SyntheticSpec.parse("synthetic://room-orbit?seed=5&width=320&height=180&fps=16&seconds=1.5625")
    truth = render_video(mp4, spec).at(np.arange(25) / 16)
    stem = tmp_path / "set/00000"
    like.write_zip(stem.with_suffix(".zip"), {"a.json": b'{"width": 320, "height": 180}',
                                              "a.mp4": mp4.read_bytes()})
    Path(f"{stem}_metric_scale_stats.json").write_text('{"a": 1.0}')

    def write(c2w: np.ndarray) -> None:
        np.savez(f"{stem}_camera.npz", ids=np.array(["a"]), ranges=np.array([[0, 25]]), pose=c2w,
                 intrinsics=truth.intrinsics)

    write(np.linalg.inv(truth.c2w))
    settings = like.config(tmp_path / "set", tmp_path / "out")
    settings.selfcheck = 1
    with pytest.raises(Refused, match=r"(?s)fit better when read as: inverted.*The import stops"):
        run(settings)
    assert read_index(Store(tmp_path / "out")).num_rows == 0
    write(truth.c2w)
    run(settings)
    (row,) = rows(tmp_path / "out").values()
    assert row.verdict == "kept" and row.selfcheck_sampson_px < 1 and row.selfcheck_cheirality > 0.9


@pytest.mark.slow
def test_an_import_killed_anywhere_ends_as_an_undisturbed_one(published, tmp_path):
    def start(out: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, like.__file__, str(published / RAW), str(out),
                                 str(published / "latents")], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
                                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})

    def content(out: Path) -> tuple[str, str]:
        latents = latent_store(Store(out), "dct")
        return (content_digest(read_index(Store(out))),
                content_digest(read_index(latents, rows=LATENTS), rows=LATENTS))

    run(like.config(published / RAW, tmp_path / "whole", published / "latents"))
    out = tmp_path / "killed"
    process = start(out)
    deadline = time.monotonic() + 240
    while not list(out.glob("index/*.parquet")):  # until something is committed, and not all
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(like.config(published / RAW, out, published / "latents"))
    assert content(out) == content(tmp_path / "whole")
    for _ in read_samples(Store(out), verify=True):
        pass


@pytest.mark.parametrize(("arguments", "message"), [
    (["src=/nowhere"], "src=/nowhere: no such file or folder"),
    (["src=/nowhere", "fps=0"], "fps=0"),
    (["src=/nowhere", "latents.src=x"], "latents.codec= is missing"),
])
def test_a_wrong_setting_is_refused_before_any_work(tmp_path, arguments, message, monkeypatch, capsys):
    from pipelines.import_set import main

    monkeypatch.setattr(sys, "argv", ["import_set", *arguments, f"out={tmp_path / 'out'}"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
