"""Shots of real videos with known cuts, and of transitions made between real and between drawn shots."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from annotate.shots.detector import Boundary, Shot, ShotConfig, ShotDetector, find_shots
from annotate.synthetic import SyntheticSpec, SyntheticTruth, render_frames
from annotate.synthetic.spec import Motion, Place, Transition
from benchmarks.transitions import SIZE, cut, dissolve, fade, fit, flash, pan

MOVING = ("corridor_walk", "highway_drive", "dog_handheld", "bedroom_children", "static_tripod")


def read(path: Path, count: int = 10**9) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        size = (160, round(160 * stream.height / stream.width))
        return np.stack([cv2.resize(f.to_ndarray(format="bgr24"), size, interpolation=cv2.INTER_AREA)
                         for f, _ in zip(container.decode(stream), range(count))])


def shots_of(frames: np.ndarray, fps: float = 25.0) -> list[Shot]:
    return find_shots(((index / fps, frame) for index, frame in enumerate(frames)), ShotConfig())


def spans(shots: list[Shot]) -> list[tuple[int, int]]:
    return [(shot.start_frame, shot.end_frame) for shot in shots]


def hard_cuts(shots: list[Shot]) -> list[int]:
    return sorted({s.start_frame for s in shots if s.opens_with == Boundary.cut}
                  | {s.end_frame for s in shots if s.closes_with == Boundary.cut})


def left_in(shots: list[Shot], start: int, end: int) -> int:
    """Most frames of a transition that lie in one shot."""
    return max([min(s.end_frame, end) - max(s.start_frame, start) for s in shots] + [0])


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, np.ndarray]:
    """Real shots without a transition, 160x90."""
    shots = {name: fit(read(shared_data / "videos" / f"{name}.mp4", 120)) for name in MOVING}
    return shots | {"bikes": fit(read(shared_data / "cuts" / "bikes.mp4"))[76:137]}


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    """Three textured scenes of 90 frames that a camera drifts over."""
    shots = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = cv2.GaussianBlur(rng.normal(size=(220, 330, 3)), (0, 0), 4 + 2 * seed)
        scene = np.clip(110 + 30 * seed + 45 * scene / scene.std(), 0, 255).astype(np.uint8)
        shots.append(np.stack([scene[k // 2:k // 2 + SIZE[0], k:k + SIZE[1]] for k in range(90)]))
    return shots


@pytest.mark.shared
@pytest.mark.parametrize("name", [
    "bikes.mp4", "stitched.mp4", "pyscenedetect/testvideo.mp4", "pyscenedetect/fades.mp4",
    "pyscenedetect/counter.mp4", "../hard/nasa_13013.mp4",
])
def test_known_cuts_are_found_and_no_shot_holds_a_transition(shared_data: Path, name: str) -> None:
    truth = json.loads((shared_data / "cuts" / "cuts.json").read_text())[name]
    shots = shots_of(read(shared_data / "cuts" / name), truth["fps"])
    assert hard_cuts(shots) == pytest.approx(truth["hard_cuts"], abs=2)
    for start, end, _ in truth.get("gradual", []):
        assert left_in(shots, start, end + 1) <= 4  # the ranges were read off by eye, +-4 frames


@pytest.mark.shared
@pytest.mark.parametrize("name", MOVING)
def test_a_moving_camera_makes_no_cut(shared_data: Path, name: str) -> None:
    frames = read(shared_data / "videos" / f"{name}.mp4")
    assert spans(shots_of(frames)) == [(0, len(frames))]


@pytest.mark.shared
def test_a_video_that_repeats_its_frames_makes_no_cut(shared_data: Path) -> None:
    frames = np.repeat(read(shared_data / "videos" / "highway_drive.mp4", 70), 3, axis=0)
    assert spans(shots_of(frames)) == [(0, len(frames))]


@pytest.mark.shared
@pytest.mark.parametrize("length", [8, 16, 32])
def test_dissolves_between_real_shots_are_kept_out(real: dict[str, np.ndarray], length: int) -> None:
    pairs = [("highway_drive", "bikes"), ("bedroom_children", "static_tripod"),
             ("dog_handheld", "highway_drive"), ("static_tripod", "corridor_walk")]
    for before, after in pairs:
        made = dissolve(real[before], real[after], length)
        shots = shots_of(made.frames)
        assert len(shots) == 2, (before, after, spans(shots))
        assert left_in(shots, *made.gradual[0]) <= 2
        assert (shots[0].closes_with, shots[1].opens_with) == (Boundary.dissolve, Boundary.dissolve)


@pytest.mark.shared
@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("length, hold", [(5, 1), (12, 6), (24, 20)])
def test_fades_between_real_shots_are_kept_out(
    real: dict[str, np.ndarray], colour: int, length: int, hold: int,
) -> None:
    made = fade(real["static_tripod"], real["bedroom_children"], length, hold, colour)
    shots = shots_of(made.frames)
    assert len(shots) == 2
    assert left_in(shots, *made.gradual[0]) <= 1
    assert hard_cuts(shots) == []


@pytest.mark.shared
@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_camera_flash_is_no_cut(real: dict[str, np.ndarray], length: int) -> None:
    for name in ("highway_drive", "dog_handheld", "bedroom_children", "bikes"):
        assert len(shots_of(flash(real[name], length).frames)) == 1, name


@pytest.mark.shared
@pytest.mark.parametrize("fps", [10.0, 25.0])
def test_a_flash_while_the_camera_walks_is_no_cut(real: dict[str, np.ndarray], fps: float) -> None:
    for length in (1, 2):
        frames = flash(real["corridor_walk"], length).frames
        assert spans(shots_of(frames, fps)) == [(0, len(frames))], length


@pytest.mark.shared
@pytest.mark.parametrize("speed, ramp", [(0.04, 3), (0.12, 3), (0.3, 5)])
def test_a_whip_pan_is_no_cut_and_no_dissolve(real: dict[str, np.ndarray], speed: float, ramp: int) -> None:
    for name in ("static_tripod", "corridor_walk"):
        made = pan(real[name][20], speed, ramp)
        assert spans(shots_of(made.frames)) == [(0, len(made.frames))], name


@pytest.mark.shared
def test_cuts_between_every_two_real_shots_are_found(real: dict[str, np.ndarray]) -> None:
    names = sorted(real)
    for k, name in enumerate(names):
        made = cut([real[name][:30], real[names[k - 1]][20:45], real[names[k - 2]][-25:]])
        assert hard_cuts(shots_of(made.frames)) == made.cuts, name


def test_cuts_dissolves_and_fades_between_drawn_shots(drawn: list[np.ndarray]) -> None:
    first, second, third = drawn
    assert hard_cuts(shots_of(cut([first[:40], second[:35], third[:30]]).frames)) == [40, 75]
    for made, kind in ((dissolve(first, second, 20), Boundary.dissolve),
                       (fade(second, third, 10, 8, 0), Boundary.fade)):
        shots = shots_of(made.frames)
        assert [s.closes_with for s in shots] == [kind, Boundary.end]
        assert left_in(shots, *made.gradual[0]) <= 2
    assert len(shots_of(first)) == 1


@pytest.mark.parametrize("kind", Transition)
def test_shots_of_a_rendered_walk_are_those_it_was_made_of(kind: Transition) -> None:
    truth = SyntheticTruth(SyntheticSpec(Place.room, Motion.walk, seed=11, width=160, height=90, fps=24.0,
                                         seconds=2.0, shots=2, transition=kind, noise=1.0))
    shots = shots_of(np.stack([frame[..., ::-1] for frame in render_frames(truth)]), 24.0)
    assert hard_cuts(shots) == truth.cuts
    assert len(shots) == 2
    for start, end in truth.transitions:
        assert left_in(shots, start, end) == 0


def test_black_between_hard_cuts_belongs_to_no_shot(drawn: list[np.ndarray]) -> None:
    black = np.zeros((20, *SIZE, 3), np.uint8)
    shots = shots_of(np.concatenate([drawn[0][:40], black, drawn[1][:40]]))
    assert spans(shots) == [(0, 40), (60, 100)]
    assert [(s.opens_with, s.closes_with) for s in shots] == [
        (Boundary.start, Boundary.cut), (Boundary.cut, Boundary.end)]
    assert shots_of(black) == []


def test_what_is_certain_is_never_taken_back(drawn: list[np.ndarray]) -> None:
    first, second, third = drawn
    black = np.zeros((150, *SIZE, 3), np.uint8)
    video = np.concatenate([
        dissolve(first, second, 20).frames, cut([third[:70], first[:60]]).frames, black, second,
        fade(second, third, 10, 30, 255).frames, first])
    detector, seen, settled = ShotDetector(ShotConfig()), [], 0
    for index, frame in enumerate(video):
        detector.push(index / 25, frame)
        seen.append((len(detector.shots), detector.open))
        assert settled <= detector.settled <= index + 1
        settled = detector.settled
        assert index + 1 - settled <= 160
    shots = detector.finish()
    assert len(shots) == 8 and detector.settled == len(video)
    early = 0
    for count, opened in seen:
        shot = shots[count]
        assert opened.stop_frame <= opened.start_frame or (
            opened.start_frame == shot.start_frame and opened.opens_with == shot.opens_with
            and opened.stop_frame <= shot.end_frame)
        assert not opened.is_over or opened.stop_frame == shot.end_frame
        assert opened.ends_by is None or shot.end_frame <= opened.ends_by
        early += opened.ends_by is not None and opened.stop_frame < shot.end_frame
    assert early > 100, "an end is in sight long before it is certain"


def test_frames_become_certain_a_fixed_number_of_frames_later(drawn: list[np.ndarray]) -> None:
    detector = ShotDetector(ShotConfig())
    for index in range(300):
        detector.push(index / 25, drawn[0][abs(index % 160 - 80)])
        assert detector.settled == max(0, index + 1 - 74)
        assert detector.open.stop_frame == detector.settled
    for index in range(300, 600):  # in a blank stretch there is nothing to wait for
        detector.push(index / 25, np.zeros((*SIZE, 3), np.uint8))
    assert detector.settled == 600 and detector.open.is_over


def test_the_size_of_the_frames_does_not_matter(drawn: list[np.ndarray]) -> None:
    frames = cut([drawn[0][:30], drawn[1][:30]]).frames
    large = [cv2.resize(f, (640, 360), interpolation=cv2.INTER_CUBIC) for f in frames]
    upright = [np.ascontiguousarray(np.rot90(f)) for f in frames]
    for variant in (large, upright):
        assert hard_cuts(shots_of(np.stack(variant))) == [30]


def test_no_frames_make_no_shots_and_one_frame_makes_one() -> None:
    assert find_shots([], ShotConfig()) == []
    frame = np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)
    (shot,) = find_shots([(3.5, frame)], ShotConfig())
    assert shot == Shot(0, 1, Boundary.start, Boundary.end)


def test_memory_does_not_grow_with_the_video(drawn: list[np.ndarray]) -> None:
    import tracemalloc

    def frames(count: int) -> list[tuple[float, np.ndarray]]:
        return [(k / 25, drawn[0][k % 80]) for k in range(count)]

    peaks = []
    for count in (200, 600):
        video = frames(count)
        tracemalloc.start()
        find_shots(video, ShotConfig())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000
