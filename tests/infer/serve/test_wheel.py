"""What keys do to the path, and that the path is that of the action string which is told of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infer.actions import RELEASED, ActionError, action_poses, parse_actions
from infer.serve.wheel import Wheel


def held_in(wheel: Wheel, frames: int) -> list[str]:
    """Keys of each frame of the next chunk."""
    before = sum(s.frames for s in parse_actions(wheel.action)) if wheel.action else 0
    wheel.steer(frames)
    keys = ["".join(k for k in RELEASED.keys if k in s.held) for s in parse_actions(wheel.action)
            for _ in range(s.frames)]
    return keys[before:]


def begun() -> Wheel:
    wheel = Wheel()
    wheel.steer(25)
    return wheel


def test_a_drive_begins_at_the_identity_and_stands_still_while_nothing_is_held() -> None:
    wheel = Wheel()
    poses = wheel.steer(25)
    np.testing.assert_array_equal(poses, np.tile(np.eye(4, dtype=np.float32), (25, 1, 1)))
    assert wheel.action == "none-24"


def test_keys_held_while_a_chunk_is_asked_for_are_held_for_all_of_it() -> None:
    wheel = begun()
    wheel.press("w", at=1.0)
    wheel.press("d", at=1.2)
    assert held_in(wheel, 24) == ["wd"] * 24
    wheel.release("d", at=2.0)
    assert held_in(wheel, 24) == ["w"] * 24
    wheel.release("w", at=3.0)
    assert held_in(wheel, 24) == [""] * 24


def test_a_key_tapped_between_chunks_is_held_as_long_as_it_was() -> None:
    wheel = begun()
    wheel.press("w", at=1.0)
    wheel.release("w", at=1.5)
    wheel.press("a", at=1.0)
    wheel.release("a", at=1.001)
    assert held_in(wheel, 24) == ["wa"] + ["w"] * 7 + [""] * 16
    assert held_in(wheel, 24) == [""] * 24


def test_a_key_that_stayed_down_over_a_chunk_leaves_nothing_behind_when_let_go() -> None:
    wheel = begun()
    wheel.press("w", at=1.0)
    wheel.steer(24)
    wheel.release("w", at=9.0)
    wheel.release("w", at=9.1)
    assert held_in(wheel, 24) == [""] * 24


def test_a_typed_string_goes_before_the_keys_until_one_is_pressed() -> None:
    wheel = begun()
    wheel.play("w-10,none-4,wd-40")
    assert wheel.is_busy
    assert held_in(wheel, 24) == ["w"] * 10 + [""] * 4 + ["wd"] * 10
    wheel.press("s", at=1.0)
    assert held_in(wheel, 24) == ["s"] * 24
    wheel.release("s", at=2.0)
    assert not wheel.is_busy


def test_what_is_no_key_and_no_action_string_is_refused_and_changes_nothing() -> None:
    wheel = begun()
    for wrong in ("x", "", "ws", "W", "ß"):
        with pytest.raises(ValueError, match="is no key; keys are w s d a i k l j"):
            wheel.press(wrong, at=0.0)
    with pytest.raises(ActionError, match="character 6"):
        wheel.play("w-10,x-4")
    assert not wheel.is_busy and held_in(wheel, 24) == [""] * 24


events = st.lists(st.one_of(
    st.tuples(st.sampled_from(["press", "release"]), st.sampled_from("wsadijkl")),
    st.tuples(st.just("play"), st.sampled_from(["w-3", "d-30,none-2", "ij-50"])),
    st.tuples(st.just("steer"), st.sampled_from([8, 16, 24]))), max_size=30)


@given(events)
def test_the_path_is_always_that_of_its_action_string(happened: list[tuple[str, object]]) -> None:
    wheel, poses = Wheel(), []
    poses.append(wheel.steer(25))
    for at, (what, how) in enumerate(happened):
        if what == "steer":
            poses.append(wheel.steer(how))  # type: ignore[arg-type]
        elif what == "play":
            wheel.play(how)  # type: ignore[arg-type]
        else:
            getattr(wheel, what)(how, at=at / 7)
    driven = np.concatenate(poses)
    np.testing.assert_array_equal(driven, action_poses(parse_actions(wheel.action)))
    np.testing.assert_array_equal(driven, wheel.c2w)
