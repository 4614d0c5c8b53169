"""Pictures, and which of several lenses counts."""

from pathlib import Path

import numpy as np
import pytest

from dataset.camera import fov_deg
from infer.lens import Image, find_lens, read_image
from infer.trajectory import Trajectory

SIZE = (64, 96)
STILL = np.tile(np.eye(4), (9, 1, 1))


def picture(height: int = 120, width: int = 200, focal: float | None = None) -> Image:
    return Image(np.zeros((height, width, 3), np.uint8), focal)


def test_what_is_given_counts_before_what_is_known_and_that_before_what_is_assumed() -> None:
    path = Trajectory(STILL, np.array([300.0, 300, 200, 120]), (240, 400))
    noted = picture(focal=26.0)
    cases = [((150.0, 150, 100, 60), 80.0, path, noted, "given", 150.0),
             (None, 80.0, path, noted, "given", 100 / np.tan(np.radians(40))),
             (None, None, path, noted, "trajectory", 150.0),
             (None, None, Trajectory(STILL), noted, "EXIF", 26 / np.hypot(36, 24) * np.hypot(120, 200)),
             (None, None, Trajectory(STILL), picture(), "assumed: 60 degrees across the longer side",
              100 / np.tan(np.radians(30)))]
    for given, fov, trajectory, image, origin, focal in cases:
        lens = find_lens(image, SIZE, 9, given, fov, trajectory)
        assert lens.origin == origin
        # 120 x 200 covers 64 x 96 at 64 / 120, cropped to the middle.
        np.testing.assert_allclose(lens.intrinsics, [[focal * 107 / 200, focal * 64 / 120, 48.5, 32]] * 9)


def test_intrinsics_of_every_frame_zoom() -> None:
    zoom = np.tile([150.0, 150, 100, 60], (12, 1))
    zoom[:, :2] += np.arange(12)[:, None]
    lens = find_lens(picture(), SIZE, 9, None, None, Trajectory(STILL, zoom))
    assert (np.diff(lens.intrinsics[:, 0]) > 0).all()
    assert len(lens.intrinsics) == 9


@pytest.mark.parametrize("fov", [24.0, 121.0, 179.0])
def test_views_the_network_does_not_know_are_refused(fov: float) -> None:
    with pytest.raises(ValueError, match="allowed 25 to 120"):
        find_lens(picture(120, 120), SIZE, 9, None, fov, Trajectory(STILL))


def test_the_shorter_side_counts_too() -> None:
    wide = picture(100, 400)
    assert fov_deg([346.4, 346.4, 200, 50], wide.size)[1] < 25
    with pytest.raises(ValueError, match=r"spans 16\.\d degrees vertically"):
        find_lens(wide, SIZE, 9, None, None, Trajectory(STILL))


@pytest.mark.parametrize(("given", "says"), [
    ((1.0, 2, 3), "intrinsics: shape"), ((-5.0, 5, 3, 3), "fx and fy must be positive")])
def test_numbers_that_are_no_intrinsics_are_refused(given: tuple[float, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        find_lens(picture(), SIZE, 9, given, None, Trajectory(STILL))


def test_a_lens_of_another_picture_is_not_bent_to_this_one() -> None:
    path = Trajectory(STILL, np.array([300.0, 300, 200, 200]), (400, 400))
    with pytest.raises(ValueError, match="belong to 400 x 400, the image is 200 x 120"):
        find_lens(picture(), SIZE, 9, None, None, path)


def test_a_picture_is_turned_upright_and_tells_its_focal_length(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:5] = 255
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    exif.get_ifd(0x8769)[0xA405] = 35
    Pillow.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png")
    assert image.size == (60, 40)
    assert image.focal_35mm == 35
    assert (image.pixels[:, -5:] == 255).all() and not image.pixels[:, :-5].any()


def test_a_picture_is_covered_and_cropped_to_its_middle() -> None:
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[:, 100:] = 200
    fitted = Image(pixels).fitted(SIZE)
    assert fitted.shape == (*SIZE, 3)
    assert fitted[:, :46].max() < 20 < 180 < fitted[:, 52:].min()


def test_unreadable_pictures_are_refused(tmp_path: Path, room: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(room.read_bytes()[:300])
    for path, says in ((tmp_path / "words.png", "cannot be read"), (tmp_path / "cut.png", "cannot be read"),
                       (tmp_path / "gone.png", "no such file")):
        with pytest.raises(ValueError, match=says):
            read_image(path)
