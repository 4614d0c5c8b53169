"""The perceptual hash on copies of real and made video, and on video that is no copy."""

import io

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.decode import read_frames
from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.hashing import from_text, hash_frames, similarity, to_text

LEAST = DuplicatesConfig().similarity
words = st.lists(st.integers(0, 2**64 - 1), max_size=12).map(lambda values: np.array(values, np.uint64))


def encoded(frames: list[np.ndarray], crf: int) -> list[np.ndarray]:
    """Grey frames (h, w) of BGR frames that went through H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": str(crf), "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "bgr24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def resized(frames, width, height):
    return [cv2.resize(frame, (width, height)) for frame in frames]


def cropped(frames):
    height, width = frames[0].shape[:2]
    return [frame[height // 50:-(height // 50), width // 50:-(width // 50)] for frame in frames]


def stamped(frames):
    mark = np.zeros_like(frames[0])
    cv2.putText(mark, "WATERMARK", (frames[0].shape[1] * 5 // 8, frames[0].shape[0] * 7 // 8),
                cv2.FONT_HERSHEY_SIMPLEX, frames[0].shape[0] / 500, (255, 255, 255), 1, cv2.LINE_AA)
    return [np.maximum(frame, mark) for frame in frames]


COPIES = {
    "compressed": lambda frames: encoded(frames, 38),
    "small": lambda frames: encoded(resized(frames, 160, 90), 28),
    "another aspect": lambda frames: encoded(resized(frames, 320, 240), 23),
    "brighter": lambda frames: encoded([cv2.convertScaleAbs(f, alpha=0.8, beta=30) for f in frames], 23),
    "cropped": lambda frames: encoded(resized(cropped(frames), 320, 180), 23),
    "stamped": lambda frames: encoded(stamped(frames), 23),
    "later by a frame": lambda frames: encoded(frames[1:], 23),
    "later by a second": lambda frames: encoded(frames[17:], 23),
}


@pytest.fixture(scope="module")
def videos(shared_data):
    """Frames (180, 320, 3) BGR at 15 or so a second of real videos."""
    found = {}
    for name, step in (("highway_drive", 2), ("dog_handheld", 2), ("bedroom_children", 2)):
        frames = [image for _, image in read_frames(shared_data / f"videos/{name}.mp4", 320)]
        found[name] = resized(frames[::step][:81], 320, 180)
    return found


def grey(frames):
    return [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]


@pytest.mark.shared
def test_every_copy_is_near_and_no_other_video_is(videos):
    originals = {name: hash_frames(grey(frames)[::2]) for name, frames in videos.items()}
    for name, frames in videos.items():
        for how, copy in COPIES.items():
            made = hash_frames(copy(frames)[::2])
            assert similarity(originals[name], made) >= LEAST, (name, how)
            for other in originals.keys() - {name}:
                assert similarity(originals[other], made) < LEAST - 0.1, (name, how, other)
        assert similarity(originals[name], hash_frames([f[:, ::-1] for f in grey(frames)[::2]])) < 0.7


def test_a_hash_depends_on_the_picture_not_on_its_brightness_or_contrast():
    picture = cv2.resize(np.random.default_rng(0).integers(60, 180, (6, 9), dtype=np.uint8), (320, 180),
                         interpolation=cv2.INTER_CUBIC)
    one = hash_frames([picture])
    assert similarity(one, hash_frames([picture // 2 + 50])) >= 0.95
    assert similarity(one, hash_frames([255 - picture])) < 0.1
    assert hash_frames([np.full((180, 320), 17, np.uint8)]).tolist() == [0]


@given(words, words)
def test_similarity_is_symmetric_and_bounded(one, other):
    value = similarity(one, other)
    assert value == similarity(other, one) and 0 <= value <= 1
    assert np.array_equal(from_text(to_text(one)), one)
    if len(one) and (one != 0).all():
        assert similarity(one, one) == 1.0


def test_frames_that_show_nothing_say_nothing():
    dark = np.zeros(9, np.uint64)
    assert similarity(dark, dark) == 0.0
    rng = np.random.default_rng(1)
    one, other = (rng.integers(1, 2**63, 10, dtype=np.uint64) for _ in range(2))
    assert similarity(np.concatenate([dark, one]), np.concatenate([dark, other])) < 0.7
