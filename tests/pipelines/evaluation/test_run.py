"""The whole evaluation on Ray: true videos and wrong ones, others' files, networks, and what breaks."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import conf
from model.config import DiTConfig
from model.dit import SanaWM
from pipelines.command import exit_code
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.run import run

ERRORS = ("rot_err_deg", "trans_err", "cam_mc")
SMALL = ["scenes=synthetic", "rooms=1", "every=true", "path.frames=25", "size=[128,192]",
         "templates=[arc-right,full-circle]"]
Rows = dict[tuple[str, str], dict]
Evaluate = Callable[..., tuple[int, str]]


@pytest.fixture
def evaluate(ray_here: None, capfd: pytest.CaptureFixture[str]) -> Evaluate:
    """Run the command in this process; its exit code and what it said."""
    def go(out: Path, *settings: str) -> tuple[int, str]:
        config = conf.load(EvaluateConfig, "evaluate", [f"out={out}", *settings])
        config.check()
        code = exit_code(lambda: run(config))
        said = capfd.readouterr()
        return code, said.out + said.err

    return go


def rows(out: Path) -> Rows:
    found = pq.read_table(out / "metrics.parquet").to_pylist()
    return {(row["generator"], row["path"]): row for row in found}


def files(out: Path) -> dict[str, tuple[int, int]]:
    """What must not be made again, with its time."""
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.stat().st_size)
            for folder in ("cases", "videos", "rows", "tracks") for path in (out / folder).rglob("*.*")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.mark.slow
def test_the_true_video_has_no_error_and_that_of_another_path_a_large_one(
    evaluate: Evaluate, done: Path,
) -> None:
    code, said = evaluate(done, *SMALL, "truth=true", "wrong=true")
    assert code == 0 and "4 of 4 videos measured in this run, 0 failed, 0 without a camera" in said
    found = rows(done)
    assert len(found) == 4
    for (generator, _), row in found.items():
        assert row["posed_share"] == 1 and row["frames"] == 25 and row["failure"] is None
        errors = [row[f"{name}_framewise"] for name in ERRORS]
        if generator == "truth":
            assert max(errors) < 0.05
            assert row["trans_err_umeyama"] < 0.005 and row["rot_err_deg_umeyama"] < 3
            assert row["truth_psnr"] > 27  # what encoding takes
        else:
            assert errors[0] > 1 and errors[1] > 0.05 and errors[2] > 0.05
            assert row["trans_err_umeyama"] > 0.05 and row["rot_err_deg_umeyama"] > 10
            assert row["truth_psnr"] < 18
        assert row["quality_scorer"].startswith("proxy") and row["quality_first"] > 5
        assert abs(row["quality_drop"]) < 5
    page = (done / "report.html").read_text()
    assert page.count("<video") == 4 and "after Umeyama" in page and "frame-wise" in page
    assert "SANA-WM, bidirectional" in page and "3.11" in page and "3.17" in page
    assert (done / "trajectories.svg").read_text().count('class="panel"') == 2


def test_a_second_run_makes_nothing_and_a_missing_row_is_measured_again_to_the_same(
    evaluate: Evaluate, done: Path,
) -> None:
    before, table = files(done), (done / "metrics.parquet").read_bytes()
    code, said = evaluate(done, *SMALL, "truth=true", "wrong=true")
    assert code == 0 and "0 of 4 videos measured in this run" in said
    assert files(done) == before and (done / "metrics.parquet").read_bytes() == table
    row = done / "rows" / "truth" / "room-0--full-circle.json"
    row.unlink()
    code, said = evaluate(done, *SMALL, "truth=true", "wrong=true")
    assert code == 0 and "1 of 4 videos measured in this run" in said
    assert {name for name, state in files(done).items() if state != before[name]} == {
        "rows/truth/room-0--full-circle.json", "tracks/truth/room-0--full-circle.npz"}
    assert (done / "metrics.parquet").read_bytes() == table


def test_other_generators_are_measured_by_their_files_and_a_bad_one_stops_nothing(
    evaluate: Evaluate, done: Path, tmp_path: Path,
) -> None:
    videos, theirs = done / "videos" / "truth", tmp_path / "theirs"
    theirs.mkdir()
    shutil.copy(videos / "room-0--arc-right.mp4", theirs / "room-0-arc-right.mp4")
    (theirs / "room-0-full-circle.mp4").write_bytes(b"not a video")
    pattern = str(theirs / "{scene}-{path}.mp4")
    asked = [*SMALL, "truth=true", conf.quote_text(f"videos=other={pattern}", ["videos"])]
    code, said = evaluate(done, *asked)
    assert code == 1 and "2 of 4 videos measured in this run, 1 failed" in said
    assert "not measured: other/room-0--full-circle:" in said and "cannot be read as a video" in said
    found = rows(done)
    same, true = found["other", "arc-right"], found["truth", "arc-right"]
    assert [same[f"{name}_umeyama"] for name in ERRORS] == [true[f"{name}_umeyama"] for name in ERRORS]
    assert found["other", "full-circle"]["failure"] and found["other", "arc-right"]["seconds"] is None
    assert "cannot be read as a video" in (done / "report.html").read_text()
    shutil.copy(videos / "room-0--full-circle.mp4", theirs / "room-0-full-circle.mp4")
    code, said = evaluate(done, *asked)  # another file is another video
    assert code == 0 and "1 of 4 videos measured in this run, 0 failed" in said


def test_what_kills_its_worker_is_recorded_and_the_run_goes_on(
    evaluate: Evaluate, done: Path, tmp_path: Path,
) -> None:
    script = tmp_path / "python"  # an environment whose scorer takes its caller with it
    script.write_text('#!/bin/sh\ncase "$1" in -c) exit 0;; esac\nkill -9 $PPID\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    out = tmp_path / "out"
    code, said = evaluate(out, *SMALL, "truth=true", "templates=[arc-right]", "quality.scorer=pyiqa",
                          f"quality.python={script}", "run.attempts=1")
    assert code == 1 and "1 failed" in said
    assert rows(out)["truth", "arc-right"]["failure"] == "killed its worker 1 times"
    code, said = evaluate(out, *SMALL, "truth=true", "templates=[arc-right]", "quality.scorer=proxy")
    assert code == 0 and rows(out)["truth", "arc-right"]["failure"] is None


@pytest.mark.slow
def test_the_three_samplers_make_their_rows_and_a_network_that_cannot_be_loaded_ends_the_run(
    evaluate: Evaluate, tmp_path: Path,
) -> None:
    config = replace(DiTConfig.tiny(), latent_channels=128)
    generator, network = torch.Generator().manual_seed(0), SanaWM(config)
    for tensor in network.state_dict().values():
        tensor.normal_(0, 0.1, generator=generator)
    network.save_pretrained(tmp_path / "network")
    names = ["bidirectional", "chunk_causal", "distilled"]
    asked = [*SMALL, "size=[64,96]", "templates=[arc-right]", "networks.codec=dct32", "networks.text=hash",
             "networks.steps=2", "networks.guidance=1", "networks.device=cpu",
             *(f"{name}={tmp_path / 'network'}" for name in names)]
    code, said = evaluate(tmp_path / "out", *asked)
    found = rows(tmp_path / "out")
    assert code == 0 and [generator for generator, _ in found] == names, said
    for row in found.values():
        assert row["frames"] == 25 and row["seconds"] > 0 and row["peak_gb"] > 0.1
        assert row["peak_of"] == "process" and row["quality_last"] is not None
        # noise has no camera: that is said, and no number stands in for it
        assert (row["pose_failure"] is None) == (row["cam_mc_umeyama"] is not None)
    about = json.loads((tmp_path / "out" / "videos" / "distilled" / "room-0--arc-right.json").read_text())
    assert about["seconds"] == found["distilled", "arc-right"]["seconds"]
    code, said = evaluate(tmp_path / "out", *asked[:-1], "distilled=nowhere/at/all")
    assert code == 2 and "distilled=nowhere/at/all: " in said


@pytest.mark.parametrize(("settings", "message"), [
    (["scenes=synthetic"], "nothing to evaluate"),
    (["scenes=nowhere", "prepare=true"], "there is no such folder"),
    (["scenes=synthetic", "truth=true", "templates=[spin]"], "no 'spin'; allowed forward-and-back"),
    (["scenes=synthetic", "truth=true", "splits=[simple]", "templates=[square]"], "none of the templates"),
    (["scenes=.", "wrong=true"], "wrong=true with scenes="),
    (["scenes=synthetic", "truth=true", "path.frames=100"], "path.frames=100, allowed 25, 49"),
    (["scenes=synthetic", "truth=true", "size=[95,160]"], "both even"),
    (["scenes=synthetic", "videos=mine=nowhere"], "mine=nowhere: there is no such folder"),
    (["scenes=synthetic", "truth=true", "videos=truth=."], "the name 'truth' is taken"),
    (["scenes=synthetic", "videos=."], "is not name=folder"),
    (["scenes=synthetic", "videos=a={shot}.mp4"], "{case}, {scene} and {path} stand for names"),
    (["scenes=synthetic", "truth=true", "recovery.engine=orb"], "recovery.engine=orb: no such engine"),
])
def test_what_cannot_work_is_refused_with_code_2_and_nothing_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], settings: list[str], message: str,
) -> None:
    out = tmp_path / "out"
    typed = [conf.quote_text(setting, ["videos", "scenes"]) for setting in settings]
    config = conf.load(EvaluateConfig, "evaluate", [f"out={out}", *typed])

    try:
        config.check()
    except ValueError as error:  # which the command turns into code 2
        said = str(error)
    else:
        assert exit_code(lambda: run(config)) == 2
        said = capfd.readouterr().err
    assert message in said
    assert not (out / "videos").exists() and not (out / "rows").exists()
