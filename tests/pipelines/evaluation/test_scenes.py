"""Scenes from folders, from the published benchmark's layout, and rendered; cases made of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.store import Store
from infer.trajectory import Trajectory, read_trajectory
from pipelines.evaluation.cases import pairings, write_cases
from pipelines.evaluation.path import PathConfig
from pipelines.evaluation.scenes import find_scenes
from pipelines.evaluation.templates import TEMPLATES, Split

SIZE = (96, 160)
SHORT = PathConfig(frames=25)
BOTH = list(Split)


def picture(path: Path, size: tuple[int, int] = (120, 200)) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_folder_of_images_has_prompts_beside_them_or_in_one_file(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        picture(tmp_path / name)
    (tmp_path / "b.txt").write_text("a harbour\n")
    (tmp_path / "prompts.json").write_text(json.dumps({"a": "a mill"}))
    assert [(scene.name, scene.prompt) for scene in find_scenes(str(tmp_path), 4)] == [
        ("a", "a mill"), ("b", "a harbour")]


def test_a_view_that_is_given_counts_where_the_scene_does_not_say(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a mill")
    [scene] = find_scenes(str(tmp_path), 4)
    c2w = np.tile(np.eye(4), (3, 1, 1))
    silent, telling = Trajectory(c2w), Trajectory(c2w, np.array([150.0, 150.0, 100.0, 60.0]), (120, 200))
    assert np.allclose(scene.lens((120, 200), 3, 90.0, silent).intrinsics[:, 0], 100)
    assert np.allclose(scene.lens((120, 200), 3, 90.0, telling).intrinsics[:, 0], 150)


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no image"):
        find_scenes(str(tmp_path), 4)
    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"scene a.png: it has no prompt; put it into a.txt"):
        find_scenes(str(tmp_path), 4)
    (tmp_path / "prompts.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"prompts.json: expected an object"):
        find_scenes(str(tmp_path), 4)
    with pytest.raises(ValueError, match=r"scenes=.*nowhere: there is no such folder"):
        find_scenes(str(tmp_path / "nowhere"), 4)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two scenes in the layout of the published benchmark, one of them in one split only."""
    c2w = np.tile(np.eye(4), (49, 1, 1))
    c2w[:, 2, 3] = np.linspace(5, 6, 49)
    splits = {"benchmark_v2_smooth_60s": ["x_001", "y_001"], "benchmark_v2_hard_60s": ["x_001"]}
    for folder, scenes in splits.items():
        place = tmp_path / folder / "sanawm_export_v2"
        place.mkdir(parents=True)
        lines = []
        for name in scenes:
            picture(tmp_path / "images" / f"{name}.png")
            k = np.array([[150.0, 0, 100], [0, 150.0, 60], [0, 0, 1]])
            np.savez(place / f"{name}.npz", c2w=c2w, intrinsics=np.tile(k, (49, 1, 1)), fps=16, num_frames=49)
            lines.append({"scene_id": name, "image_path": f"images/{name}.png", "prompt": f"scene {name}",
                          "camera_path": f"{folder}/sanawm_export_v2/{name}.npz"})
        (place / "run_manifest.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path


def test_the_published_benchmark_brings_its_own_paths(published: Path, tmp_path: Path) -> None:
    scenes = find_scenes(str(published), 4)
    asked = [*pairings(scenes, BOTH, None, False)]
    assert [(scene.name, split, template) for scene, split, template in asked] == [
        ("x_001", Split.simple, None), ("x_001", Split.hard, None), ("y_001", Split.simple, None)]
    made = write_cases(Store(tmp_path / "out"), asked, SIZE, None, SHORT)
    case = made.cases[0]
    assert case.name == "x_001--published-simple" and case.path == "published"
    assert case.prompt == "scene x_001"
    assert len(case.c2w) == 25 and np.array_equal(case.c2w[0], np.eye(4))
    assert case.c2w[-1, 2, 3] == pytest.approx(0.5)
    assert case.intrinsics[0] == pytest.approx([120, 120, 80, 48])  # 200x120 to 160x96


def test_a_damaged_manifest_is_named_with_its_line(published: Path) -> None:
    manifest = published / "benchmark_v2_hard_60s" / "sanawm_export_v2" / "run_manifest.jsonl"
    manifest.write_text('{"image_path": "images/x_001.png"}')
    with pytest.raises(ValueError, match=r"run_manifest.jsonl: line 1: KeyError: 'camera_path'"):
        find_scenes(str(published), 4)


def test_a_path_that_is_too_short_is_left_out_and_told(published: Path, tmp_path: Path) -> None:
    asked = [*pairings(find_scenes(str(published), 4), BOTH, None, False)]
    made = write_cases(Store(tmp_path / "out"), asked, SIZE, None, PathConfig(frames=73))
    assert made.cases == [] and len(made.left_out) == 3
    assert "its path has 49 poses, path.frames=73" in made.left_out["x_001--published-hard"]


def test_scenes_take_turns_through_the_templates_or_get_all_of_them() -> None:
    scenes = find_scenes("synthetic", 12)
    one = [(scene.name, t.name) for scene, split, t in pairings(scenes, BOTH, None, False) if t]
    assert len(one) == 24 and {t for _, t in one} == set(TEMPLATES)
    assert len([*pairings(scenes, BOTH, None, True)]) == 12 * 20
    assert [t.name for *_, t in pairings(scenes[:2], BOTH, ["square"], True) if t] == ["square", "square"]


def test_a_case_is_files_that_any_generator_can_be_run_on(tmp_path: Path) -> None:
    asked = [*pairings(find_scenes("synthetic", 1), [Split.hard], ["full-circle"], False)]
    store = Store(tmp_path)
    made = write_cases(store, asked, SIZE, None, SHORT)
    case, folder = made.cases[0], tmp_path / "cases" / "room-0--full-circle"
    assert Image.open(folder / "image.png").size == (160, 96)
    assert (folder / "prompt.txt").read_text() == case.prompt
    held = read_trajectory(str(folder / "camera.npz"))
    assert np.array_equal(held.c2w, case.c2w) and held.size == SIZE
    assert case.clearance is not None and case.clearance >= 0.3
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = write_cases(store, asked, SIZE, None, SHORT)
    assert again.digests == made.digests
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_depth_beside_an_image_gives_a_path_its_size_and_its_distance(tmp_path: Path) -> None:
    picture(tmp_path / "s" / "a.png")
    (tmp_path / "s" / "a.txt").write_text("a wall")
    asked = [*pairings(find_scenes(str(tmp_path / "s"), 1), [Split.simple], ["dolly-in"], False)]
    assumed = write_cases(Store(tmp_path / "1"), asked, SIZE, 70.0, SHORT).cases[0]
    assert assumed.clearance is None
    np.savez(tmp_path / "s" / "a.npz", depth=np.full((30, 50), 1.5, np.float32))
    asked = [*pairings(find_scenes(str(tmp_path / "s"), 1), [Split.simple], ["dolly-in"], False)]
    known = write_cases(Store(tmp_path / "2"), asked, SIZE, 70.0, PathConfig(frames=97)).cases[0]
    assert known.clearance == pytest.approx(0.6, abs=0.02)
    assert known.c2w[-1, 2, 3] == pytest.approx(0.9, abs=0.01)  # 60 % of 1.5 m
    np.savez(tmp_path / "s" / "a.npz", distance=np.ones(3))
    left = write_cases(Store(tmp_path / "3"), asked, SIZE, 70.0, SHORT).left_out
    assert "a.npz: holds distance, expected depth (H, W)" in left["a--dolly-in"]
