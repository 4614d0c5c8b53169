"""What is drawn on a video says what was held and where the camera is, and leaves the picture alone."""

from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from infer.actions import held_keys, parse_actions
from infer.camera import CameraConfig, find_path
from infer.overlay import Overlay, write_overlay

SIZE = (240, 384)
KEY = 240 // 15
LIT = np.array([255, 178, 56])


def grey(count: int) -> np.ndarray:
    return np.full((count, *SIZE, 3), 90, np.uint8)


def lit(picture: np.ndarray, column: int, row: int) -> bool:
    """Whether the key there has the colour of a key that is held, looked for off its letter."""
    top = SIZE[0] - KEY // 2 - 2 * KEY + row * KEY
    spot = picture[top + KEY // 4, KEY // 2 + column * KEY + KEY // 4].astype(int)
    return bool(np.abs(spot - LIT).max() < 40)


def test_the_keys_on_the_way_to_a_frame_are_lit_on_it() -> None:
    path = find_path("w-3,da-2,none-3,ik-8", CameraConfig(), None, False)
    assert path.held == held_keys(parse_actions("w-3,da-2,none-3,ik-8"))[:17]
    drawn = Overlay(path, SIZE).draw(grey(17), 0)
    places = {"w": (1, 0), "a": (0, 1), "s": (1, 1), "d": (2, 1), "i": (5, 0), "k": (5, 1)}
    for number, held in ((0, ""), (1, "w"), (3, "w"), (4, "da"), (6, ""), (9, "ik"), (16, "ik")):
        assert {key for key, place in places.items() if lit(drawn[number], *place)} == set(held), number


def test_frames_are_numbered_from_the_first_and_the_middle_is_untouched() -> None:
    path = find_path("w-16", CameraConfig(), None, False)
    overlay = Overlay(path, SIZE)
    given = grey(17)
    whole = overlay.draw(given, 0)
    np.testing.assert_array_equal(overlay.draw(given[5:], 5), whole[5:])
    assert (given == 90).all()
    assert (whole[:, : SIZE[0] // 2] == 90).all() and (whole[:, :, 150:280] == 90).all()
    assert all((a != b).any() for a, b in pairwise(whole))  # the camera moves on the map


def test_a_path_without_keys_shows_no_keys_and_its_way() -> None:
    drawn = Overlay(find_path("orbit", CameraConfig(), 17, False), SIZE).draw(grey(17), 0)
    assert (drawn[:, :, :150] == 90).all()
    way = [int((np.abs(picture[:, 300:].astype(int) - LIT).max(-1) < 60).sum()) for picture in drawn]
    assert way[0] < way[8] < way[16]


@pytest.mark.parametrize("size", [(32, 32), (64, 400), (320, 96)])
def test_small_and_long_pictures_are_drawn_on_too(size: tuple[int, int]) -> None:
    frames = np.zeros((2, *size, 3), np.uint8)
    drawn = Overlay(find_path("w-16", CameraConfig(), None, False), size).draw(frames, 0)
    assert drawn.shape == frames.shape and drawn.any()


def test_it_passes_frames_on_as_they_are_and_appears_when_all_have_gone(tmp_path: Path) -> None:
    path = find_path("w-16", CameraConfig(), None, False)
    target, seen = tmp_path / "overlay.mp4", []
    for frames in write_overlay(target, iter(np.split(grey(16), 4)), path, 1, 18):
        assert not target.exists()
        seen.append(frames)
    np.testing.assert_array_equal(np.concatenate(seen), grey(16))
    with av.open(str(target)) as video:
        assert len(list(video.decode(video=0))) == 16
    assert [p.name for p in tmp_path.iterdir()] == ["overlay.mp4"]


def test_a_fault_leaves_no_overlay(tmp_path: Path) -> None:
    def breaks():  # type: ignore[no-untyped-def]
        yield grey(4)
        raise RuntimeError("no more")

    path = find_path("w-16", CameraConfig(), None, False)
    with pytest.raises(RuntimeError, match="no more"):
        list(write_overlay(tmp_path / "overlay.mp4", breaks(), path, 0, 18))
    assert not list(tmp_path.iterdir())
