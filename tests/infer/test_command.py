"""`python -m infer` as it is typed: a folder with a video, or one sentence and nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import yaml

from conf import SettingsError, load
from infer.__main__ import main
from infer.config import InferConfig
from infer.paths import named_path
from infer.run import run
from infer.sampler import Kind
from infer.trajectory import read_trajectory
from tests.infer.conftest import SIZE


def type_in(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["infer", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("kind", [kind.value for kind in Kind])
def test_a_picture_and_a_path_become_a_folder_with_a_video(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:
    """Bare commas in the action need no quotes, and the camera written makes the same path again."""
    out = tmp_path / "first"
    typed = [*tiny, 'prompt=a room, bright', f"sampler={kind}", "seed=4"]
    assert type_in(monkeypatch, *typed, "action=w-12,dw-12", f"out={out}") == 0
    with av.open(str(out / "video.mp4")) as video:
        assert [f.width for f in video.decode(video=0)] == [SIZE[1]] * 25
    files = {path.name for path in out.iterdir()}
    assert files == {"camera.npz", "config.yaml", "environment.json", "overlay.mp4", "video.mp4"}
    assert len(read_trajectory(str(out / "camera.npz")).c2w) == 25
    assert yaml.safe_load((out / "config.yaml").read_text())["prompt"] == "a room, bright"
    assert json.loads((out / "environment.json").read_text())["path"] == "w-12,dw-12 (sana-wm-2)"
    again = tmp_path / "again"
    assert type_in(monkeypatch, *typed, "action=w-12,dw-12", f"out={again}") == 0
    assert (again / "video.mp4").read_bytes() == (out / "video.mp4").read_bytes()


@pytest.mark.parametrize(("arguments", "says"), [
    (["action=w-8,x-4"], "unknown key 'x'"), (["action=w-8", "camera=orbit"], "both given"),
    ([], "missing: action="),
    (["action=w-8", "image=gone.png"], "no such file"), (["camera=gone.npy"], "no such file"),
    (["action=w-8", "fov=10"], "allowed 25 to 120"), (["action=w-8", "size=[60,96]"], "multiples of 32"),
    (["action=w-8", "model=gone"], "there is no gone"), (["action=w-8", "codec=gone"], "there is no gone"),
    (["action=w-8", "dtype=half"], "dtype=half, allowed"), (["action=w-8", "crf=99"], "crf=99"),
    (["action=w-8", "sampler.steps=0"], "sampler.steps=0"),
    (["action=w-8", "sampler.timesteps=[5,9]"], "allowed numbers that fall"),
    (["action=w-8", "speed=3"], "unknown setting 'speed'"),
])
def test_bad_input_is_one_sentence_code_2_and_nothing_written(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], says: str,
) -> None:
    out = tmp_path / "out"
    code = type_in(monkeypatch, *tiny, *arguments, f"out={out}")
    found = capsys.readouterr().err
    assert code == 2
    assert says in found and "Traceback" not in found
    assert not out.exists()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, room: Path) -> Path:
    """Files as users have them: cut pictures, words, trajectories that are none, a network of other sizes."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "cut.png").write_bytes(room.read_bytes()[:300])
    (folder / "words.jpg").write_text("no picture")
    mirrored, holed = named_path("orbit", 33), named_path("orbit", 33)
    mirrored[4, :3, 0] *= -1
    holed[7, 0, 3] = np.nan
    np.save(folder / "mirrored.npy", mirrored)
    np.save(folder / "holed.npy", holed)
    np.save(folder / "short.npy", named_path("orbit", 5))
    np.save(folder / "numbers.npy", np.arange(6.0))
    (folder / "path.json").write_text("{")
    (folder / "rows.csv").write_text("name,imagine\nx,y\n")
    (folder / "network").mkdir()
    return folder


@pytest.mark.parametrize(("arguments", "says"), [
    (["image={}/cut.png", "action=w-8"], "cannot be read as an image"),
    (["image={}/words.jpg", "action=w-8"], "cannot be read as an image"),
    (["image={}", "action=w-8"], "cannot be read as an image"),
    (["camera={}/mirrored.npy"], "frame 4 mirrors the world"), (["camera={}/holed.npy"], "frame 7 holds NaN"),
    (["camera={}/short.npy"], "5 poses give 1 frames, expected at least 9"),
    (["camera={}/numbers.npy"], "expected (frames, 4, 4)"), (["camera={}/path.json"], "not readable JSON"),
    (["camera=orbit:speed=2"], "orbit has no 'speed'"), (["camera={}"], "without a COLMAP model"),
    (["action=w-0"], "a segment has 1 to"), (["action=w-8,"], "a segment is missing here"),
    (["action=w-8", "frames=0"], "frames=0, allowed 1"), (["action=w-8", "frames=many"], "frames"),
    (["action=w-8", "model={}/network"], "holds no safetensors"), (["action=w-8", "seed=-1"], "seed=-1"),
    (["action=w-8", "intrinsics=[1,2,3]"], "intrinsics: shape"),
    (["manifest={}/rows.csv"], "'imagine' means nothing"),
    (["manifest={}/gone.csv"], "cannot be read"), (["repeat={}"], "cannot be given as well"),
])
def test_files_that_are_not_what_they_should_be_are_refused_likewise(
    tiny: list[str], broken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str,
) -> None:
    out = tmp_path / "out"
    code = type_in(monkeypatch, *tiny, *(each.format(broken) for each in arguments), f"out={out}")
    found = capsys.readouterr().err
    assert code == 2
    assert says in found and "Traceback" not in found
    assert not out.exists()


def test_the_program_itself_ends_so(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-m", "infer", "image=gone.png", "action=w-8,d-8", "text=hash"],
                           cwd=tmp_path, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert (ended.returncode, ended.stderr) == (2, "image=gone.png: there is no such file\n")
    assert not list(tmp_path.iterdir())


def test_a_video_needs_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(InferConfig(action="w-8", out=str(tmp_path / "out"))) == 2
    assert "missing: image=" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_video_that_is_there_is_not_replaced_unless_asked(tmp_path: Path, room: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"dear")
    assert run(InferConfig(image=str(room), action="w-8", out=str(tmp_path))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]


def test_a_preview_shows_the_path_without_weights(tmp_path: Path) -> None:
    assert run(InferConfig(camera="s-curve:distance=6", preview=True, out=str(tmp_path))) == 0
    page = cv2.imdecode(np.fromfile(tmp_path / "preview.png", np.uint8), cv2.IMREAD_COLOR)
    assert page is not None and page.shape == (640 + 3 * 200, 640, 3)
    assert (page < 100).all(-1).sum() > 500


def test_every_setting_is_read_and_each_sampler_names_its_weights() -> None:
    kinds = {kind.value: load(InferConfig, "infer", [f"sampler={kind.value}"]) for kind in Kind}
    assert all(config.sampler.kind.value == name for name, config in kinds.items())
    assert len({config.sampler.model for config in kinds.values()}) == 3
    with pytest.raises(SettingsError, match="shfit"):
        load(InferConfig, "infer", ["sampler.shfit=3"])
