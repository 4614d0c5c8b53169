"""A video is made again from what lies beside it, byte for byte, or refused for what changed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conf import load
from infer.config import InferConfig
from infer.record import digest, network_digest, same_video, settings, write_record
from infer.run import run
from model.dit import SanaWM

FILES = ("video.mp4", "overlay.mp4")


@pytest.fixture(scope="module")
def made(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of an action with a seed and a prompt."""
    out = tmp_path_factory.mktemp("made") / "first"
    config = load(InferConfig, "infer", [*tiny, "sampler=distilled", "action='w-12,dw-12'", "seed=11",
                                         "prompt='a room, bright'", f"out={out}"])
    assert run(config) == 0
    return out


def test_the_same_bytes_come_of_config_and_seed_alone(made: Path, tmp_path: Path) -> None:
    assert run(InferConfig(repeat=str(made), out=str(tmp_path / "again"))) == 0
    for name in (*FILES, "camera.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes(), name
    kept = [json.loads((folder / "environment.json").read_text()) for folder in (made, tmp_path / "again")]
    assert kept[0] == kept[1] and kept[0]["seed"] == 11


def test_what_was_repeated_can_be_repeated_and_every_setting_counts(
    made: Path, tmp_path: Path,
) -> None:
    import yaml

    again = tmp_path / "moved"
    again.mkdir()
    found = yaml.safe_load((made / "config.yaml").read_text())
    (again / "config.yaml").write_text(yaml.safe_dump({**found, "seed": 12}))
    (again / "environment.json").write_bytes((made / "environment.json").read_bytes())
    assert run(InferConfig(repeat=str(again), out=str(tmp_path / "other"))) == 0
    assert (tmp_path / "other" / "video.mp4").read_bytes() != (made / "video.mp4").read_bytes()
    assert (tmp_path / "other" / "camera.npz").read_bytes() == (made / "camera.npz").read_bytes()


@pytest.mark.parametrize(("changes", "says"), [
    ({"seed": 5}, "seed cannot be given as well"), ({"action": "w-8", "crf": 20}, "action, crf cannot be"),
    ({"repeat": "gone"}, "no config.yaml there")])
def test_other_settings_beside_it_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], says: str,
) -> None:
    out = tmp_path / "out"
    assert run(replace(InferConfig(repeat=str(made), out=str(out)), **changes)) == 2  # type: ignore[arg-type]
    assert says in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(("name", "content", "says"), [
    ("config.yaml", "speed: 3", "unknown setting 'speed'"), ("config.yaml", "- 1", "holds no settings"),
    ("config.yaml", "seed: [", "cannot be read"), ("environment.json", "{", "cannot be read"),
    ("environment.json", '{"image": "0"}', "image, camera, network, codec, text changed since")])
def test_a_record_that_is_not_one_or_of_another_world_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, says: str,
) -> None:
    for file in ("config.yaml", "environment.json"):
        (tmp_path / file).write_bytes((made / file).read_bytes())
    (tmp_path / name).write_text(content)
    out = tmp_path / "out"
    assert run(InferConfig(repeat=str(tmp_path), out=str(out))) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_settings_are_the_same_video_whatever_the_folder(tmp_path: Path) -> None:
    config = InferConfig(image="a.png", action="w-8", out=str(tmp_path))
    write_record(tmp_path, config, {})
    assert same_video(replace(config, out="elsewhere", overwrite=True), tmp_path)
    assert not same_video(replace(config, seed=1), tmp_path)
    assert not same_video(config, tmp_path / "gone")
    assert settings(replace(config, image=str(tmp_path)))["image"] == str(tmp_path.resolve())


def test_digests_tell_one_weight_and_one_pixel_apart(network: SanaWM) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    other = pixels.copy()
    other[3, 4, 2] = 1
    assert digest(pixels) != digest(other) and digest(pixels) != digest(pixels.reshape(5, 4, 3))
    before = network_digest(network)
    with torch.no_grad():
        weight = network.blocks[1].attn.proj.weight
        weight[0, 0] += 1
        changed = network_digest(network)
        weight[0, 0] -= 1
    assert changed != before
