import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.cut.framing import Framing
from annotate.decode import VideoReader
from dataset.camera import project, rotate_intrinsics

sides = st.integers(16, 4000)
even = st.integers(8, 1000).map(lambda n: 2 * n)


def spots(size, pixels, sigma) -> np.ndarray:
    """Grey spots at sub-pixel places (u, v), pixel centres at +0.5."""
    v, u = np.mgrid[:size[0], :size[1]] + 0.5
    image = np.full(size, 40.0)
    for x, y in pixels:
        image += 180 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))
    return np.repeat(image.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=2)


def centroid(image, x, y, radius) -> tuple[float, float]:
    """Centre of brightness near (x, y), pixel centres at +0.5."""
    left, top = int(x - radius), int(y - radius)
    part = image[top:int(y + radius) + 1, left:int(x + radius) + 1].astype(float)
    weight = np.clip(part - part.min() - 12, 0, None)
    v, u = np.mgrid[:part.shape[0], :part.shape[1]] + 0.5
    return left + (u * weight).sum() / weight.sum(), top + (v * weight).sum() / weight.sum()


@settings(deadline=None, max_examples=60)
@given(st.tuples(sides, sides), st.tuples(even, even))
def test_the_clip_is_the_middle_of_the_smallest_picture_that_covers_it(source, size):
    framing = Framing.fit(source, size)
    for axis in (0, 1):
        assert framing.scaled[axis] >= size[axis] and framing.scaled[axis] % 2 == 0
        offset = (framing.top, framing.left)[axis]
        rest = framing.scaled[axis] - size[axis] - offset
        assert offset % 2 == 0 and 0 <= rest - offset <= 2
        assert abs(framing.scaled[axis] - source[axis] * framing.enlargement) <= 1 + 1e-6
    assert framing.scaled[0] == size[0] or framing.scaled[1] == size[1]


@settings(deadline=None, max_examples=60)
@given(st.tuples(sides, sides), st.tuples(even, even), st.floats(0, 1), st.floats(0, 1))
def test_intrinsics_follow_every_point_through_resize_and_crop(source, size, a, b):
    framing = Framing.fit(source, size)
    intrinsics = np.array([0.9 * source[1], 1.1 * source[1], 0.47 * source[1], 0.52 * source[0]])
    point = np.array([a - 0.5, b - 0.5, 1.3])
    u, v = project(point, intrinsics)
    moved = (u * framing.scaled[1] / source[1] - framing.left,
             v * framing.scaled[0] / source[0] - framing.top)
    assert np.allclose(project(point, framing.intrinsics(intrinsics)), moved, rtol=0, atol=1e-8 * max(source))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("stored", "size", "pixel_format"),
    [((370, 614), (180, 320), "yuv420p"), ((241, 427), (180, 320), "yuv444p"),
     ((240, 320), (360, 480), "yuv420p"), ((200, 200), (96, 160), "yuv420p10le"),
     ((180, 320), (180, 320), "yuv420p")],
)
def test_a_point_lands_where_the_intrinsics_say(tmp_path, video_writer, stored, size, pixel_format, turns):
    intrinsics = np.array([0.8 * stored[1], 0.8 * stored[1], 0.5 * stored[1] + 3.3, 0.5 * stored[0] - 2.1])
    points = np.array([[0.02, 0.01, 1.0], [-0.2, 0.1, 1.0], [0.2, -0.13, 1.1]])
    sigma = 2.2 * max(1.0, stored[1] / 320)
    image = spots(stored, project(points, intrinsics), sigma)
    path = video_writer(tmp_path / "spots.mp4", [image] * 2, pixel_format=pixel_format, rotation=90 * turns,
                        options={"crf": "4"})
    with VideoReader(path) as reader:
        framing = Framing.fit(reader.info.size, size)
        frame = framing.frame(next(iter(reader)).picture, reader.info)
    luma = frame.to_ndarray(format="yuv420p")[:size[0]]
    assert (frame.height, frame.width) == size
    turned = framing.intrinsics(rotate_intrinsics(intrinsics, stored, turns))
    checked = 0
    for point in points:
        rotated = np.array([*_turn(point[:2], turns), point[2]])
        expected = project(rotated, turned)
        if not (12 < expected[0] < size[1] - 12 and 12 < expected[1] < size[0] - 12):
            continue
        found = centroid(luma, *expected, radius=4 * sigma * framing.enlargement)
        assert np.allclose(found, expected, rtol=0, atol=0.12), (found, expected)
        checked += 1
    assert checked


def _turn(xy: np.ndarray, turns: int) -> np.ndarray:
    """Image-plane coordinates after clockwise quarter turns: x right, y down."""
    for _ in range(turns):
        xy = np.array([-xy[1], xy[0]])
    return xy


def test_a_picture_that_fits_already_is_not_touched(numbered_video):
    path = numbered_video(1, (720, 1280))
    with VideoReader(path) as reader:
        picture = next(iter(reader)).picture
        frame = Framing.fit((720, 1280), (720, 1280)).frame(picture, reader.info)
    stored, kept = picture.to_ndarray(format="yuv420p"), frame.to_ndarray(format="yuv420p")
    assert np.array_equal(stored, kept)
    assert not list(frame.side_data)


def test_colours_of_standard_definition_survive(tmp_path, video_writer):
    frame = np.zeros((120, 160, 3), np.uint8)
    colours = [(200, 30, 60), (20, 180, 90), (40, 60, 220), (220, 220, 40)]
    for k, colour in enumerate(colours):
        frame[:, 40 * k:40 * k + 40] = colour
    path = video_writer(tmp_path / "bars.mp4", [frame] * 2, options={"crf": "2"})
    with VideoReader(path) as reader:
        assert reader.info.colour_space == "ITU601"
        made = Framing.fit(reader.info.size, (90, 120)).frame(next(iter(reader)).picture, reader.info)
    image = made.reformat(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG").to_ndarray()
    for k, colour in enumerate(colours):
        assert np.abs(image[45, 30 * k + 15].astype(int) - colour).max() <= 6


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(20, 300), st.integers(20, 300)), st.tuples(even, even))
def test_depth_samples_lie_where_the_clip_looks(depth_size, size):
    source = (depth_size[0] * 3, depth_size[1] * 3)
    framing = Framing.fit(source, size)
    rows, columns, grid = framing.depth_grid(depth_size)
    assert grid[0] <= size[0] and grid[1] <= size[1]
    for cells, axis, offset in ((rows, 0, framing.top), (columns, 1, framing.left)):
        assert cells.min() >= 0 and cells.max() < depth_size[axis] and (np.diff(cells) >= 0).all()
        clip_pixel = (np.arange(grid[axis]) + 0.5) * size[axis] / grid[axis]
        source_pixel = (clip_pixel + offset) * source[axis] / framing.scaled[axis]
        assert np.abs(cells + 0.5 - source_pixel / 3).max() <= 0.5 + 1e-9


def test_a_resize_by_area_does_not_alias(tmp_path, video_writer):
    stripes = np.zeros((360, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    path = video_writer(tmp_path / "stripes.mp4", [stripes] * 2, options={"crf": "2"})
    with VideoReader(path) as reader:
        luma = Framing.fit((360, 640), (90, 160)).frame(next(iter(reader)).picture, reader.info)
    inner = luma.to_ndarray(format="yuv420p")[5:85, 5:155]
    assert cv2.meanStdDev(inner)[1][0, 0] < 6
