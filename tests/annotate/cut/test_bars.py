"""Black bars: found where they are, left where they are not, and cut off with exact intrinsics."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.clip_video import ClipVideo
from annotate.cut.bars import Bars, find_bars
from annotate.cut.cutter import CutConfig, Cutter
from annotate.cut.framing import Framing
from annotate.decode import probe
from annotate.source.item import SourceItem
from dataset.camera import project
from dataset.clip import CameraTrack, Kind

SIZE = (240, 320)


def scene(index: int, size: tuple[int, int], level: float = 1.0) -> np.ndarray:
    """(H, W, 3): a texture that shifts from frame to frame."""
    rng = np.random.default_rng(3)
    wide = cv2.resize(rng.integers(30, 255, (12, 40, 3), dtype=np.uint8), (size[1] + 200, size[0]),
                      interpolation=cv2.INTER_CUBIC)
    return (wide[:, 2 * index:2 * index + size[1]] * level).astype(np.uint8)


def barred(picture: np.ndarray, bars: Bars, noise: int = 0, seed: int = 0) -> np.ndarray:
    height, width = picture.shape[:2]
    frame = np.random.default_rng(seed).integers(0, noise + 1, picture.shape, dtype=np.uint8)
    inner = slice(bars.top, height - bars.bottom), slice(bars.left, width - bars.right)
    frame[inner] = picture[inner]
    return frame


def found(path) -> Bars:
    return find_bars(path, probe(path))


def assert_close(bars: Bars, true: Bars) -> None:
    """No line of a bar is left, and no more than the fringe and a block's worth of picture is lost."""
    for name in ("top", "bottom", "left", "right"):
        wide, expected = getattr(bars, name), getattr(true, name)
        assert (wide == 0) if expected == 0 else (expected <= wide <= expected + 5), (name, bars, true)


@pytest.mark.parametrize(("bars", "crf"), [
    (bars, crf) for crf in ("18", "32")
    for bars in (Bars(30, 30, 0, 0), Bars(0, 0, 40, 40), Bars(18, 18, 26, 26), Bars(33, 29, 0, 0))
] + [(Bars(7, 8, 0, 0), "18")])  # less than half a block of the codec
def test_bars_are_found_in_compressed_video(tmp_path, video_writer, bars, crf):
    frames = (barred(scene(k, SIZE), bars, noise=6, seed=k) for k in range(40))
    path = video_writer(tmp_path / "bars.mp4", frames, options={"crf": crf, "g": "5"})
    assert_close(found(path), bars)


def test_subtitles_in_a_bar_and_dark_scenes_do_not_hide_it(tmp_path, video_writer):
    bars = Bars(36, 36, 0, 0)

    def frame(k):
        picture = barred(scene(k, SIZE, 0.15 if 20 <= k < 40 else 1.0), bars)
        if k % 60 >= 48:  # a fifth of the time
            cv2.putText(picture, "SOME WORDS", (70, 222), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
        return picture

    path = video_writer(tmp_path / "bars.mp4", map(frame, range(120)), options={"crf": "20", "g": "4"})
    assert_close(found(path), bars)


def night(k: int) -> np.ndarray:
    """A dark sky above and a dark road below, whose edges move as the camera does."""
    picture = scene(k, SIZE)
    picture[:60 + 3 * (k % 9)] = 4
    picture[190 - 2 * (k % 11):] = 6
    return picture


def one_sided(k: int) -> np.ndarray:
    return barred(scene(k, SIZE), Bars(0, 50, 0, 0))


def narrow(k: int) -> np.ndarray:
    return barred(scene(k, SIZE), Bars(2, 2, 2, 2))


@pytest.mark.parametrize("frame", [night, one_sided, narrow, lambda k: scene(k, SIZE) // 40])
def test_dark_parts_of_a_picture_are_no_bars(tmp_path, video_writer, frame):
    path = video_writer(tmp_path / "dark.mp4", map(frame, range(60)), options={"crf": "20", "g": "4"})
    assert found(path) == Bars()


def test_bars_that_are_there_for_a_part_of_the_video_stay(tmp_path, video_writer):
    frames = (barred(scene(k, SIZE), Bars(30, 30, 0, 0) if k < 40 else Bars()) for k in range(80))
    path = video_writer(tmp_path / "part.mp4", frames, options={"crf": "20", "g": "5"})
    assert found(path) == Bars()
    assert_close(find_bars(path, probe(path), 0.0, 1.2), Bars(30, 30, 0, 0))


def test_bars_of_a_rotated_video_are_those_of_the_displayed_picture(tmp_path, video_writer):
    frames = (barred(scene(k, SIZE), Bars(0, 0, 40, 40)) for k in range(30))
    path = video_writer(tmp_path / "turned.mp4", frames, rotation=90, options={"crf": "18", "g": "5"})
    assert probe(path).size == (320, 240)
    assert_close(found(path), Bars(40, 40, 0, 0))


sides = st.integers(120, 3000)
shares = st.floats(0.02, 0.3)
even = st.integers(16, 900).map(lambda n: 2 * n)


@given(st.tuples(sides, sides), st.tuples(shares, shares, shares, shares), st.tuples(even, even),
       st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_no_bar_is_in_a_clip_and_intrinsics_follow_every_point(source, shares, size, a, b):
    bars = Bars(*(int(share * source[k // 2]) for k, share in enumerate(shares)))
    framing = Framing.fit(source, size, bars)
    for axis, (before, after) in enumerate(((bars.top, bars.bottom), (bars.left, bars.right))):
        scale = framing.scaled[axis] / source[axis]
        first = (framing.top, framing.left)[axis]
        assert first % 2 == 0 and framing.scaled[axis] % 2 == 0
        assert before * scale <= first + 1e-9
        assert first + size[axis] <= (source[axis] - after) * scale + 1e-9
        assert framing.scaled[axis] - source[axis] * framing.enlargement <= 8 * max(1, scale)
    intrinsics = np.array([0.9 * source[1], 1.1 * source[1], 0.47 * source[1], 0.52 * source[0]])
    point = np.array([a, b, 1.3])
    u, v = project(point, intrinsics)
    moved = (u * framing.scaled[1] / source[1] - framing.left,
             v * framing.scaled[0] / source[0] - framing.top)
    assert np.allclose(project(point, framing.intrinsics(intrinsics)), moved, rtol=0, atol=1e-8 * max(source))


def test_a_clip_of_a_barred_video_shows_its_picture_and_its_cameras_agree(tmp_path, video_writer):
    """A spot at a known ray: where the clip shows it is where the clip's intrinsics say."""
    bars, ray, size = Bars(30, 30, 0, 0), np.array([0.21, -0.13, 1.0]), (360, 640)
    intrinsics = np.array([500.0, 505.0, 318.0, 183.0])
    u, v = project(ray, intrinsics)

    def frame(k):
        rows, columns = np.mgrid[:size[0], :size[1]] + 0.5
        spot = 200 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 5.0**2))
        return barred(np.repeat((50 + spot)[..., None], 3, 2).clip(0, 255).astype(np.uint8), bars)

    path = video_writer(tmp_path / "spot.mp4", map(frame, range(30)), options={"crf": "5", "g": "5"})
    item = SourceItem(str(path), "x", intrinsics=intrinsics.tolist())
    shots = {"frames": 9, "width": 320, "height": 128, "crf": 5}
    row = next(r for r in Cutter(CutConfig(**shots)).cut(item) if r.record.kind is Kind.CLIP)
    record = row.record
    assert_close(Bars(record.bars_top, record.bars_bottom, record.bars_left, record.bars_right), bars)
    picture = ClipVideo(row.files["mp4"]).rgb(4).astype(float).mean(axis=2)
    assert picture[[0, -1]].min() > 40  # nothing of the bars
    track = CameraTrack.from_npz(row.files["given.npz"])
    weight = np.clip(picture - 62, 0, None)
    rows, columns = np.mgrid[:128, :320] + 0.5
    shown = (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()
    assert np.allclose(shown, project(ray, track.intrinsics[4]), atol=0.05)
    whole = next(iter(Cutter(CutConfig(**shots, crop_bars=False)).cut(item)))
    assert whole.record.bars_top is None and ClipVideo(whole.files["mp4"]).rgb(4)[0].max() > 0


@pytest.mark.shared
def test_no_test_video_seems_to_have_bars(shared_data):
    for path in [*sorted(shared_data.glob("videos/*.mp4")), *sorted(shared_data.glob("poses/*/*.mp4"))]:
        assert found(path) == Bars(), path
