"""From a scene to clips: the cameras are those that drew them, and what shows too little says so."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from annotate.clip_video import ClipVideo
from annotate.cut.cutter import CutClip, CutConfig, Cutter
from annotate.pose.stage import PoseStage
from annotate.scale.stage import ScaleStage
from annotate.source.expand import expand
from annotate.source.item import Layout, PoseUnit, SourceConfig, SourceItem
from annotate.splats.config import Drawer, RefineConfig, SplatConfig, ZoneSource
from annotate.splats.render import CpuDrawing
from annotate.splats.scene import NotWanted, SceneError, Splats, write_splats
from annotate.splats.video import drawn_frames, load_scene, plan_video
from annotate.stage import Clip
from benchmarks.splats_scene import room, write_scene
from dataset.catalog import read_index
from dataset.clip import CameraTrack, Verdict
from dataset.store import Store

FRAMES, SIZE = 105, (96, 160)
CUT = CutConfig(frames=FRAMES, width=SIZE[1], height=SIZE[0])
SMALL = SplatConfig(frames=FRAMES, width=SIZE[1], height=SIZE[0], drawer=Drawer.cpu, near_original=1, free=3)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("room"), 6000)


def items_of(scene: Path, **settings: object) -> list[SourceItem]:
    config = dataclasses.replace(SMALL, **settings)
    return expand(str(scene), SourceConfig(splats=config))


def cut(item: SourceItem) -> list[CutClip]:
    cutter = Cutter(CUT)
    cutter.setup()
    return list(cutter.cut(item))


@pytest.fixture(scope="module")
def clip(scene: Path) -> tuple[SourceItem, CutClip]:
    """Of the first candidate."""
    item = items_of(scene)[0]
    [made] = cut(item)
    return item, made


def test_a_scene_is_one_source_a_candidate_and_all_are_named_apart(scene: Path) -> None:
    items = expand(str(scene), SourceConfig())
    assert len(items) == 40 and len({item.id for item in items}) == 40
    assert items[7].id == "scene/07" and items[7].uri == str(scene)
    item = items[7]
    assert SourceItem(**dataclasses.asdict(item)) == item


def test_a_clip_shows_what_its_cameras_see(clip: tuple[SourceItem, CutClip]) -> None:
    item, made = clip
    assert item.splat is not None
    assert (made.record.frames, made.record.height, made.record.width) == (FRAMES, *SIZE)
    given = CameraTrack.from_npz(made.files["given.npz"])
    loaded = load_scene(item.uri, item.splat)
    planned = plan_video(loaded, item.splat.candidate, item.splat.settings)
    np.testing.assert_allclose(given.c2w, planned.c2w, atol=1e-12)
    np.testing.assert_allclose(given.intrinsics, np.tile(planned.intrinsics, (FRAMES, 1)), atol=1e-9)
    assert (given.unit, given.engine) == ("m", "splats")
    drawing, video = CpuDrawing(loaded.splats, SIZE, 0.2), ClipVideo(made.files["mp4"])
    for k in (0, 50, FRAMES - 1):
        rgb = drawing.frame(given.c2w[k], given.intrinsics[k])[0].clip(0, 1) * 255
        assert np.sqrt(np.mean((video.rgb(k) - rgb) ** 2)) < 8  # of which encoding twice is most
        other = drawing.frame(given.c2w[(k + 40) % FRAMES], given.intrinsics[k])[0].clip(0, 1) * 255
        assert np.sqrt(np.mean((video.rgb(k) - other) ** 2)) > 16


def test_the_images_confirm_the_cameras_and_the_scale_is_that_of_the_scene(
    clip: tuple[SourceItem, CutClip],
) -> None:
    _, made = clip
    stage = PoseStage()
    stage.setup()
    found = stage.process(Clip(made.record, made.files, ClipVideo(made.files["mp4"])))
    assert found.fields["pose_failure"] is None and found.fields["pose_engine"] == "splats"
    assert found.fields["selfcheck_sampson_px"] < 0.5 and found.fields["selfcheck_cheirality"] > 0.95
    files = {**made.files, **found.files}
    scaled = ScaleStage().process(Clip(made.record, files, ClipVideo(made.files["mp4"])))
    assert (scaled.fields["scale_status"], scaled.fields["metric_scale"]) == ("metric_sensor", 1.0)


def test_a_clip_is_the_same_whenever_it_is_made(clip: tuple[SourceItem, CutClip]) -> None:
    item, made = clip
    [again] = cut(SourceItem(**dataclasses.asdict(item)))
    assert again.record == made.record and again.files == made.files


def test_the_unit_is_what_the_scene_or_the_settings_state(scene: Path, tmp_path: Path) -> None:
    shutil.copy(scene.parent / "cameras.json", tmp_path)
    splats = dataclasses.replace(room(6000), metres_per_unit=None)
    (tmp_path / "scene.ply").write_bytes(write_splats(splats))
    item = items_of(tmp_path / "scene.ply")[0]
    stated = items_of(tmp_path / "scene.ply", metres_per_unit=0.5)[0]
    assert stated.given.pose_unit is PoseUnit.metres and item.given.pose_unit is PoseUnit.unknown
    assert item.splat is not None and stated.splat is not None
    assert item.splat.identity != stated.splat.identity


def test_models_are_found_with_their_cameras_and_in_their_last_state(scene: Path, tmp_path: Path) -> None:
    for place in ("a/point_cloud/iteration_7000", "a/point_cloud/iteration_30000", "b"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(scene, tmp_path / place / "point_cloud.ply")
    (tmp_path / "a/input.ply").write_bytes(b"ply\n")
    shutil.copy(scene.parent / "cameras.json", tmp_path / "a")
    with pytest.raises(ValueError, match=r"source\.layout=splats"):
        expand(str(tmp_path), SourceConfig())
    items = expand(str(tmp_path), SourceConfig(layout=Layout.splats, splats=SMALL))
    assert [item.id for item in items] == [
        *(f"a/point_cloud/iteration_30000/point_cloud/{k:02d}" for k in range(4)),
        *(f"b/point_cloud/{k:02d}" for k in range(4))]
    assert {item.splat.cameras for item in items if item.splat} == {str(tmp_path / "a/cameras.json"), None}


def test_without_cameras_free_space_is_taken_and_said_or_refused_if_asked(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copy(scene, tmp_path)
    item = items_of(tmp_path / "scene.ply")[0]
    assert item.splat is not None and item.splat.cameras is None and "guessed from free space" in caplog.text
    planned = plan_video(load_scene(item.uri, item.splat), 0, item.splat.settings)
    assert planned.c2w.shape == (FRAMES, 4, 4)
    [faulty] = items_of(tmp_path / "scene.ply", zone=ZoneSource.cameras)
    [row] = cut(faulty)
    assert row.record.verdict is Verdict.FAILED and "zone=free_space" in (row.record.detail or "")


def test_a_file_of_another_kind_is_one_failed_row(tmp_path: Path) -> None:
    (tmp_path / "mesh.ply").write_bytes(
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty uchar red\nend_header\n0 1\n")
    [item] = items_of(tmp_path / "mesh.ply")
    [row] = cut(item)
    assert row.record.verdict is Verdict.FAILED and "point cloud or mesh" in (row.record.detail or "")


def test_a_path_that_shows_too_little_is_a_rejected_row_of_its_own(scene: Path) -> None:
    rows = [row.record for item in items_of(scene, coverage=1.0, empty_tiles=0.0)[:2] for row in cut(item)]
    assert [(row.verdict, row.reasons) for row in rows] == [(Verdict.REJECTED, ["coverage"])] * 2
    assert len({row.clip_id for row in rows}) == 2 and "empty tiles" in (rows[0].detail or "")


@pytest.mark.parametrize(("change", "code"), [
    (lambda s: dataclasses.replace(s, opacities=s.opacities * 0 + 0.02), "blank"),  # too thin
    (lambda s: dataclasses.replace(s, sh=np.full_like(s.sh[:, :1], -0.8)), "blank"),  # of one dark colour
    (lambda s: dataclasses.replace(s, sh=np.full_like(s.sh[:, :1], -3.0)), "black_start"),
])
def test_blank_drawings_are_not_wanted(scene: Path, change, code: str) -> None:
    item = items_of(scene)[0]
    assert item.splat is not None
    loaded = load_scene(item.uri, item.splat)
    planned = plan_video(loaded, 0, item.splat.settings)
    changed: Splats = change(loaded.splats)
    config = dataclasses.replace(SMALL, black_start=0.99, contrast_min=20.0)
    frames = drawn_frames(planned, CpuDrawing(changed, SIZE, 0.2), config)
    with pytest.raises(NotWanted) as found:
        list(frames)
    assert found.value.code == code


def test_what_cannot_be_drawn_here_is_said_before_the_run(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"drawer=gsplat needs .* (pip install|drawer=cpu)"):
        items_of(scene, drawer=Drawer.gsplat)
    with pytest.raises(ValueError, match=r"source\.splats\.frames=41, allowed 100"):
        items_of(scene, frames=41)
    with pytest.raises(ValueError, match=r"refine\.repository=.*clone"):
        items_of(scene, refine=RefineConfig(repository=str(tmp_path)))


PIPELINE = """
import os
class DifixPipeline:
    @classmethod
    def from_pretrained(cls, model, trust_remote_code):
        return cls()
    def to(self, device):
        return self
    def set_progress_bar_config(self, disable): ...
    def __call__(self, prompt, image, num_inference_steps, timesteps, guidance_scale):
        assert (prompt, num_inference_steps, timesteps) == ("remove degradation", 1, [199])
        assert image.size[0] % 8 == image.size[1] % 8 == 0, image.size
        {action}
        return type("Found", (), {{"images": [image.point(lambda v: 255 - v)]}})
"""


@pytest.mark.parametrize(("action", "reason"), [
    ("", None), ("os.kill(os.getpid(), 9)", "SIGKILL"), ("raise RuntimeError('no luck')", "no luck"),
    ("image = image.resize((8, 8))", None),
])
def test_frames_are_repaired_by_a_process_that_may_fail(
    tmp_path: Path, action: str, reason: str | None,
) -> None:
    """A stand-in for DiFix3D's pipeline, behind the real process."""
    from annotate.splats.refine import check_refine, repaired

    (tmp_path / "src").mkdir()
    (tmp_path / "src/pipeline_difix.py").write_text(PIPELINE.format(action=action))
    config = RefineConfig(repository=str(tmp_path), python=sys.executable, device="cpu", time_limit_s=120)
    check_refine(config)
    frames = [np.full((45, 62, 3), 20 * k, np.uint8) for k in range(10)]
    if reason is not None:
        with pytest.raises(SceneError, match=reason):
            list(repaired(frames, config))
    else:
        assert [int(f[0, 0, 0]) for f in repaired(frames, config)] == [255 - 20 * k for k in range(10)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_scene_becomes_a_data_set_by_the_command(scene: Path, tmp_path: Path) -> None:
    settings = ["cut.frames=105", "cut.width=160", "cut.height=96", "source.splats.near_original=1",
                "source.splats.free=0", "source.licence=CC0", "ray.num_cpus=2", "write.report=false",
                "thresholds=none"]
    run = subprocess.run(
        [sys.executable, "-m", "pipelines.annotate", f"src={scene}", f"out={tmp_path / 'out'}", *settings],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout
    rows = read_index(Store(str(tmp_path / "out"))).to_pylist()
    [row] = rows
    assert (row["verdict"], row["source"], row["licence"]) == ("kept", "splats", "CC0")
    assert (row["pose_engine"], row["scale_status"], row["frames"]) == ("splats", "metric_sensor", 105)
    assert row["selfcheck_sampson_px"] < 0.5
