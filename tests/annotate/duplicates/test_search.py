"""Pairs and who stays: exact on made copies, the same in every order."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.search import Candidate, find_duplicates

FRAMES = 40


def video(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**63, FRAMES, dtype=np.uint64)


def flipped(hashes: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The same with a share of all bits wrong."""
    wrong = np.random.default_rng(seed).random((len(hashes), 64)) < share
    return hashes ^ np.packbits(wrong, axis=1).view(">u8").astype(np.uint64).ravel()


def clip(name, hashes, rank: float = 0.0, of: str | None = None, embedding=None) -> Candidate:
    return Candidate(name, of or name, (rank, name), hashes, embedding)


def test_all_copies_are_found_and_nothing_else():
    """60 videos with 0 to 3 copies each, 8 % of the bits wrong and shifted in time."""
    clips, true = [], {}
    for seed in range(60):
        original = video(seed)
        clips.append(clip(f"{seed:03d}", original, 0.0))
        for copy in range(seed % 4):
            made = flipped(original, 0.08, 1000 + 10 * seed + copy)[2 * copy:]
            clips.append(clip(f"{seed:03d}-{copy}", made, 1.0))
            true[f"{seed:03d}-{copy}"] = f"{seed:03d}"
    found = find_duplicates(clips, DuplicatesConfig())
    assert {name: one.of for name, one in found.items() if one.of} == true
    assert all(found[name].similarity >= 0.8 for name in true)
    assert max(one.similarity for one in found.values() if one.of is None) < 0.8


@settings(max_examples=15)
@given(st.permutations(range(9)))
def test_who_stays_does_not_depend_on_the_order(order):
    clips = [clip(f"{k}", flipped(video(k // 3), 0.03 * (k % 3), k), rank=float(-k)) for k in range(9)]
    expected = find_duplicates(clips, DuplicatesConfig())
    assert find_duplicates([clips[k] for k in order], DuplicatesConfig()) == expected
    assert [name for name, one in sorted(expected.items()) if one.of is None] == ["2", "5", "8"]
    assert expected["0"].of == "2" and expected["4"].of == "5"


def test_what_is_like_a_clip_that_goes_stays():
    """a ~ b ~ c, but a is not like c: a and c stay."""
    a = video(1)
    c = flipped(a, 0.3, 7)
    bits = np.random.default_rng(3).random((FRAMES, 64)) < 0.5
    half = np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()
    b = (a & half) | (c & ~half)
    for names in itertools.permutations("abc"):
        clips = {"a": clip("a", a, 0.0), "b": clip("b", b, 1.0), "c": clip("c", c, 2.0)}
        found = find_duplicates([clips[name] for name in names], DuplicatesConfig())
        assert (found["a"].of, found["b"].of, found["c"].of) == (None, "a", None)
        assert found["c"].similarity < 0.8  # to a, which stays


def test_clips_of_one_video_are_left_alone_unless_asked_for():
    clips = [clip("a", video(1), 0.0, of="v"), clip("b", video(1), 1.0, of="v")]
    assert find_duplicates(clips, DuplicatesConfig())["b"].of is None
    found = find_duplicates(clips, DuplicatesConfig(within_video=True))
    assert found["b"].of == "a" and found["b"].similarity == 1.0


def test_spans_of_one_file_are_clips_of_one_video():
    first = Candidate("a", "first minute", (0.0, "a"), video(1), uri="/videos/street.mp4")
    for uri, of in (("/videos/street.mp4", None), ("/videos/copy.mp4", "a"), (None, "a")):
        second = Candidate("b", "second minute", (1.0, "b"), video(1), uri=uri)
        assert find_duplicates([first, second], DuplicatesConfig())["b"].of == of


def test_embeddings_find_what_the_hash_does_not():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3, 64)).astype(np.float32)
    vectors[1] = vectors[0] + 0.1 * vectors[1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clips = [clip(f"{k}", video(k), float(k), embedding=vectors[k]) for k in range(3)]
    found = find_duplicates(clips, DuplicatesConfig())
    assert [found[f"{k}"].of for k in range(3)] == [None, "0", None]
    assert np.isclose(found["1"].similarity, vectors[0] @ vectors[1], atol=1e-6)


def test_a_title_that_very_many_clips_share_links_none_of_them():
    title = video(0)[:6]
    clips = [clip(f"{k:04d}", np.concatenate([title, video(k + 1)]), float(k)) for k in range(450)]
    assert all(one.of is None for one in find_duplicates(clips, DuplicatesConfig()).values())


def test_nothing_to_compare_is_no_duplicate():
    assert find_duplicates([], DuplicatesConfig()) == {}
    found = find_duplicates([clip("a", np.empty(0, np.uint64)), clip("b", np.zeros(4, np.uint64), 1.0)],
                            DuplicatesConfig())
    assert [one.of for one in found.values()] == [None, None]
