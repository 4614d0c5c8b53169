"""The action language: reading, writing, faults at their place, and the motion it stands for."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.camera import check_c2w
from infer.actions import (
    FIRST,
    RELEASED,
    SCHEMES,
    ActionError,
    Scheme,
    Segment,
    Walk,
    action_poses,
    find_scheme,
    format_actions,
    parse_actions,
)

segments = st.lists(st.builds(Segment, st.frozensets(st.sampled_from(RELEASED.keys)), st.integers(1, 40)),
                    min_size=1, max_size=6)


@given(segments, st.sampled_from(SCHEMES))
def test_what_is_written_is_read_back(written: list[Segment], scheme: Scheme):
    assert parse_actions(format_actions(written, scheme), scheme) == written


@given(segments, st.randoms())
def test_case_blanks_repetition_and_full_width_commas_change_nothing(written: list[Segment], random: Random):
    text = ""
    for character in format_actions(written):
        again = character if character.isalpha() and random.random() < 0.2 else ""
        character = character.upper() if random.random() < 0.3 else character
        text += (" " if random.random() < 0.2 else "") + character.replace(",", random.choice(",，"))
        text += again if "none" not in format_actions(written) else ""
    assert parse_actions(text) == written


@given(st.text(alphabet="wasdijklnoex0123456789-,， \tW", max_size=30))
def test_any_text_is_either_read_or_faulted_inside_itself(text: str):
    try:
        assert all(segment.frames > 0 for segment in parse_actions(text))
    except ActionError as error:
        assert 0 <= error.position <= len(text)


@pytest.mark.parametrize("text, position, fault", [
    ("w-8,wx-3", 5, "unknown key 'x'"),
    ("w-8, wd -1x", 10, "'x' is not a digit"),
    ("w-8,,a-3", 4, "a segment is missing"),
    ("w-8,a-3,", 8, "a segment is missing"),
    ("", 0, "a segment is missing"),
    ("w-8,a", 5, "ends without"),
    ("w-8, -3", 5, "keys are missing"),
    ("w-8,a-", 6, "number of frames is missing"),
    ("w-8,a- ,d-2", 7, "number of frames is missing"),
    ("w-8,a-00", 6, "1 to 1000000 frames"),
    ("w-9999999", 2, "1 to 1000000 frames"),
    ("w--3", 2, "'-' is not a digit"),
    ("w-1.5", 3, "'.' is not a digit"),
    ("w-٣", 2, "is not a digit"),
    ("nonew-3", 0, "unknown key 'n'"),
])
def test_a_fault_names_its_place(text: str, position: int, fault: str):
    with pytest.raises(ActionError, match=fault) as caught:
        parse_actions(text)
    assert caught.value.position == position
    shown, caret = str(caught.value).splitlines()[1:3]
    assert shown.strip() == text.strip() and caret.index("^") == position + 2


@given(segments, st.sampled_from(SCHEMES))
def test_paths_are_rigid_start_at_the_identity_and_keep_the_limit(written: list[Segment], scheme: Scheme):
    poses = action_poses(written, scheme)
    assert len(poses) == 1 + sum(s.frames for s in written)
    assert np.array_equal(poses[0], np.eye(4, dtype=np.float32))
    check_c2w(poses, "poses")
    assert np.degrees(np.arcsin(np.clip(-poses[:, 1, 2], -1, 1))).max() < scheme.pitch_limit_deg + 1e-3
    assert np.abs(poses[:, 1, 3]).max() < 1e-6, "walking stays at its height"


def test_keys_mean_what_the_release_says():
    def end(text: str, scheme: Scheme) -> np.ndarray:
        return action_poses(parse_actions(text, scheme), scheme)[-1]

    assert np.allclose(end("w-40", RELEASED)[:3, 3], [0, 0, 1.0])
    assert np.allclose(end("l-40", RELEASED)[:3, 3], [1.0, 0, 0], atol=1e-5)
    assert end("d-10", RELEASED)[0, 2] == pytest.approx(np.sin(np.radians(6)))
    assert end("i-10", RELEASED)[1, 2] == pytest.approx(-np.sin(np.radians(6)))
    assert np.allclose(end("d-20", FIRST)[:3, 3], [1.0, 0, 0], atol=1e-5)
    assert end("l-10", FIRST)[0, 2] == pytest.approx(np.sin(np.radians(12)))


def test_opposite_keys_cancel():
    assert np.allclose(action_poses(parse_actions("wsadikjl-9")), np.eye(4))


def test_letting_go_coasts_and_the_first_scheme_stops_at_once():
    released = action_poses(parse_actions("w-8,none-3"))[:, 2, 3]
    steps = np.diff(released)[7:]
    assert np.allclose(steps[1:] / steps[:-1], np.exp(-1 / 16), atol=1e-3)
    first = action_poses(parse_actions("w-8,none-3", FIRST), FIRST)[:, 2, 3]
    assert np.allclose(np.diff(first)[8:], 0)


def test_the_pitch_limit_is_reached_when_steps_are_cut_and_not_when_they_are_rejected():
    def pitch(scheme: Scheme) -> float:
        pose = action_poses(parse_actions("i-200", scheme), scheme)[-1]
        return float(np.degrees(np.arctan2(-pose[1, 2], pose[2, 2])))

    assert pitch(RELEASED) == pytest.approx(60, abs=1e-4)
    assert pitch(FIRST) == pytest.approx(70 * 1.2, abs=1e-4)


def test_a_walk_led_key_by_key_is_the_path_of_its_string():
    walk, text = Walk(), "w-3,wd-4,none-2"
    led = [walk.step(s.held).copy() for s in parse_actions(text) for _ in range(s.frames)]
    assert np.array_equal(np.stack(led).astype(np.float32), action_poses(parse_actions(text))[1:])


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    assert find_scheme("sana-wm-1") is FIRST
    with pytest.raises(ValueError, match="sana-wm-2, sana-wm-1"):
        find_scheme("sana-wm-9")
