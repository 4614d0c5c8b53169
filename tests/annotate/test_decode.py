import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from annotate.decode import UnreadableVideo, VideoReader, bgr, probe, read_frames


def times_of(path):
    with VideoReader(path) as reader:
        return [frame.time_s for frame in reader], reader


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "sound", "damaged", "code", "size"),
    [
        ("nasa_13013.mp4", 390, 0, None, (270, 480)),
        ("h265_video.mp4", 10, 0, None, (128, 128)),
        ("mp4_as_txt.txt", 10, 0, None, (128, 128)),
        ("h264_10bits.mp4", 30, 0, None, (200, 200)),
        ("odd_resolution.mp4", 60, 0, None, (241, 427)),
        ("single_frame.mp4", 1, 0, None, (360, 640)),
        ("vfr_dropped.mp4", 89, 0, None, (360, 640)),
        ("rotate_90.mov", 3, 0, None, (568, 320)),
        ("rotate_180.mov", 3, 0, None, (320, 568)),
        ("rotate_270.mov", 3, 0, None, (568, 320)),
        ("corrupted.mp4", 28, 22, "damaged", (720, 1280)),
        ("truncated_60.mp4", 132, 1, "truncated", (540, 960)),
        ("truncated_half.mp4", 104, 3, "truncated", (360, 640)),
    ],
)
def test_difficult_files_give_their_sound_frames_and_say_what_is_wrong(
    shared_data, name, sound, damaged, code, size,
):
    times, reader = times_of(shared_data / "hard" / name)
    report = reader.report
    assert (report.frames, report.damaged, report.code) == (sound, damaged, code)
    assert len(times) == sound and all(a < b for a, b in pairwise(times))
    assert reader.info.size == size
    assert (report.reason is None) == (code is None)
    if code == "truncated":
        assert "221 frames" in report.reason and f"{sound} sound frames" in report.reason


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("zero_length.mp4", "empty"), ("text_as_mp4.mp4", "unreadable"),
        ("truncated_no_index.mp4", "unreadable"),
        ("jpeg_as_mp4.mp4", "unreadable"), ("audio_only.mp3", "no_video"), ("audio_only.mp4", "no_video"),
        ("no_such_file.mp4", "missing"),
    ],
)
def test_files_without_video_are_refused_with_a_reason(shared_data, name, code):
    with pytest.raises(UnreadableVideo) as caught:
        probe(shared_data / "hard" / name)
    assert caught.value.code == code and name in caught.value.reason


@pytest.mark.shared
def test_of_several_streams_the_largest_is_read_with_its_exact_times(shared_data):
    hard = shared_data / "hard"
    expected = json.loads((hard / "nasa_13013.stream3.frames.json").read_text())
    times, reader = times_of(hard / "nasa_13013.mp4")
    assert times == [Fraction(k * 1001, 30000) for k in range(390)]
    assert [f"{float(t):.6f}" for t in times] == [frame["pts_time"] for frame in expected]
    assert reader.info.codec == "h264" and reader.info.header_frames == 390
    assert reader.info.fps == pytest.approx(30000 / 1001) and reader.info.duration_s == pytest.approx(13.013)


@pytest.mark.shared
def test_a_variable_rate_keeps_its_exact_times(shared_data):
    hard = shared_data / "hard"
    expected = json.loads((hard / "expected.json").read_text())["vfr_dropped.mp4"]["pts_90k"]
    times, reader = times_of(hard / "vfr_dropped.mp4")
    assert times == [Fraction(ticks, 90000) for ticks in expected]
    assert reader.info.variable_rate
    assert not probe(hard / "nasa_13013.mp4").variable_rate


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_metadata_turns_the_picture_clockwise(numbered_video, turns):
    upright = next(read_frames(numbered_video(2, (80, 120), name="upright.mp4")))[1]
    path = numbered_video(2, (80, 120), name="turned.mp4", rotation=90 * turns)
    info = probe(path)
    assert info.quarter_turns == turns and info.stored_size == (80, 120)
    assert info.size == ((120, 80) if turns % 2 else (80, 120))
    assert np.array_equal(next(read_frames(path))[1], np.rot90(upright, -turns))


@pytest.mark.shared
def test_phone_videos_are_shown_upright_whatever_their_rotation(shared_data):
    import cv2

    hard = shared_data / "hard"
    keyboard = next(read_frames(hard / "rotate_0.mov"))[1]
    key = keyboard[60:115, 365:410]  # the key "K", which another take, filmed on its side, shows too
    for name in ("rotate_90.mov", "rotate_270.mov"):
        assert probe(hard / name).size == (568, 320)
    turned = next(read_frames(hard / "rotate_90.mov"))[1]
    scores = []
    for turns in range(4):
        view = np.ascontiguousarray(np.rot90(turned, turns))
        found = [cv2.matchTemplate(view, cv2.resize(key, None, fx=s, fy=s), cv2.TM_CCOEFF_NORMED).max()
                 for s in (0.85, 0.95, 1.05, 1.15)]
        scores.append(max(found))
    assert int(np.argmax(scores)) == 0


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_every_pixel_format_gives_the_same_picture(numbered_video, number_of, pixel_format):
    path = numbered_video(5, (90, 160), pixel_format=pixel_format)
    assert probe(path).pixel_format == pixel_format
    frames = list(read_frames(path))
    assert [number_of(image) for _, image in frames] == list(range(5))
    reference = list(read_frames(numbered_video(5, (90, 160), name="plain.mp4")))
    assert np.median(np.abs(frames[2][1].astype(int) - reference[2][1])) <= 3


def test_pictures_shrink_to_a_width_and_are_never_enlarged(numbered_video):
    path = numbered_video(1, (90, 160))
    info = probe(path)
    with VideoReader(path) as reader:
        picture = next(iter(reader)).picture
        assert bgr(picture, info, 64).shape == (36, 64, 3)
        assert bgr(picture, info, 1000).shape == (90, 160, 3)
    turned = numbered_video(1, (90, 160), name="turned.mp4", rotation=90)
    assert next(read_frames(turned, 45))[1].shape == (80, 45, 3)


def test_oblong_pixels_are_displayed_square(tmp_path, video_writer):
    import av

    path = tmp_path / "anamorphic.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 9)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 72, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    info = probe(path)
    assert info.stored_size == (64, 72) and info.size == (64, 128)
    assert next(read_frames(path))[1].shape == (64, 128, 3)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "avi", "ts", "mov"])
def test_containers_of_all_kinds_start_at_zero_and_keep_their_rhythm(numbered_video, number_of, suffix):
    how = {"codec": "libvpx-vp9"} if suffix == "webm" else {}
    path = numbered_video(12, (96, 160), name=f"video.{suffix}", fps=25, **how)
    times, reader = times_of(path)
    assert times == pytest.approx([k / 25 for k in range(12)], abs=0.0011)  # WebM counts milliseconds
    assert [number_of(image) for _, image in read_frames(path)] == list(range(12))
    assert reader.report.code is None


def test_sound_beside_the_video_changes_nothing(numbered_video):
    silent, _ = times_of(numbered_video(6, name="silent.mp4"))
    with_sound, _ = times_of(numbered_video(6, name="sound.mp4", audio=True))
    assert silent == with_sound


def test_a_truncated_file_with_sound_is_found_out_by_the_length_of_its_video(numbered_video):
    path = numbered_video(120, (90, 160), name="whole.mkv", fps=25, audio=True)
    times, reader = times_of(path)
    assert len(times) == 120 and reader.report.code is None
    assert reader.info.header_frames is None and reader.info.duration_s == pytest.approx(4.8, abs=0.05)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    times, reader = times_of(path)
    assert 10 < len(times) < 90
    assert reader.report.code == "truncated" and "its header states 4.8 s" in reader.report.reason


def test_a_flipped_byte_costs_frames_but_not_the_video(numbered_video, number_of):
    path = numbered_video(90, (180, 320), options={"g": "30", "crf": "18", "bf": "0"})
    data = bytearray(path.read_bytes())
    middle = data.find(b"mdat") + 4 + (len(data) - data.find(b"mdat")) // 2
    data[middle:middle + 60] = bytes(60)
    broken = path.with_name("broken.mp4")
    broken.write_bytes(data)
    with VideoReader(broken) as reader:
        numbers = [number_of(bgr(frame.picture, reader.info)) for frame in reader]
    report = reader.report
    assert report.code == "damaged" and 0 < report.damaged < 60
    assert report.frames + report.damaged == 90
    assert numbers[-1] == 89, "reading goes on at the next key frame"
    assert numbers == sorted(numbers) and report.frames == len(numbers)
    assert all(numbers.index(n) >= at for at in report.lost_at for n in numbers if n > at + 60)


def test_a_list_of_other_files_is_not_opened(tmp_path, numbered_video):
    secret = numbered_video(3)
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{secret.name}'\n")
    with pytest.raises(UnreadableVideo, match="not a video file"):
        probe(playlist)
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableVideo, match="not a video file"):
        probe(playlist)


def test_an_error_survives_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(UnreadableVideo("empty", "x.mp4: the file is empty")))
    assert (error.code, error.reason) == ("empty", "x.mp4: the file is empty")
