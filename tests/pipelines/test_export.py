"""The command on a small data set, one format after the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pycolmap
import pytest

from dataset.export.mcap import MAGIC
from pipelines.export import main

sys.path.append(str(Path(__file__).parents[1]))
import tiny_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    def break_third(number, record, files) -> None:
        if number == 2:
            files["mp4"] = b"torn"

    folder = tmp_path_factory.mktemp("data") / "set"
    tiny_dataset.write_video_set(folder, clips=3, change=break_third)
    return folder


def export(monkeypatch, data: Path, out: Path, to: str, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["export", f"data={data}", f"out={out}", f"to={to}", *more])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_every_clip_becomes_files_and_a_broken_one_is_named(data, tmp_path, monkeypatch, capsys):
    assert export(monkeypatch, data, tmp_path / "r", "rerun") == 1
    said = capsys.readouterr()
    assert "2 clips ->" in said.out and "not a video that can be read" in said.err
    recordings = list((tmp_path / "r").glob("*.mcap"))
    assert len(recordings) == 2 and all(p.read_bytes().endswith(MAGIC) for p in recordings)

    assert export(monkeypatch, data, tmp_path / "c", "colmap", "limit=1") in (0, 1)
    (folder,) = [p for p in (tmp_path / "c").iterdir() if (p / "sparse").exists()]
    model = pycolmap.Reconstruction(str(folder / "sparse/0"))
    assert len(model.images) == 17 == len(list((folder / "images").iterdir()))
    assert {image.name for image in model.images.values()} == {p.name for p in (folder / "images").iterdir()}
    assert len(model.points3D) > 100


def test_fiftyone_and_card_are_of_the_whole_index(data, tmp_path, monkeypatch, capsys):
    assert export(monkeypatch, data, tmp_path / "f", "fiftyone") == 0
    samples = json.loads((tmp_path / "f/samples.json").read_text())["samples"]
    assert len(samples) == 3 and all((tmp_path / "f" / s["filepath"]).is_file() for s in samples)
    assert export(monkeypatch, data, tmp_path / "h", "card", "name=tiny walks") == 0
    assert "# tiny walks" in (tmp_path / "h/README.md").read_text()


@pytest.mark.parametrize(("more", "message"), [
    (["limit=0"], "limit=0"), (["to=blender"], "blender"),
    (["where=verdict = 'nobody'"], "no clip with files"),
    (["where=no_such_column > 1"], "no_such_column"),
])
def test_a_wrong_setting_is_refused_and_named(data, tmp_path, monkeypatch, capsys, more, message):
    assert export(monkeypatch, data, tmp_path / "x", "rerun", *more) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_no_data_set_is_refused(tmp_path, monkeypatch, capsys):
    assert export(monkeypatch, tmp_path, tmp_path / "x", "card") == 2
    assert "not a data set" in capsys.readouterr().err
