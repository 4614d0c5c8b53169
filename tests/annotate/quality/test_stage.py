"""Pixel scores: FFmpeg's own filter, known shifts, known colours, and the whole stage on a written clip."""

import fractions
import io
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from annotate.clip_video import ClipVideo
from annotate.quality.stage import FLOW_SIZE, DisFlow, QualityConfig, QualityStage, VmafMotion, pixel_scores
from annotate.stage import Clip
from dataset.clip import ClipRecord, Kind


def ffmpeg_motion(frames: list[np.ndarray]) -> list[float]:
    """Scores of FFmpeg's vmafmotion filter for luma frames; it prints two decimals."""
    height, width = frames[0].shape
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="gray", time_base=fractions.Fraction(1, 16))
    motion, sink = graph.add("vmafmotion"), graph.add("buffersink")
    source.link_to(motion)
    motion.link_to(sink)
    graph.configure()
    scores = []
    for index, luma in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(luma, format="gray")
        frame.pts, frame.time_base = index, fractions.Fraction(1, 16)
        source.push(frame)
        scores.append(float(sink.pull().metadata["lavfi.vmafmotion.score"]))
    return scores


def textured(rng: np.random.Generator, height: int, width: int, sigma: float = 3) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigma)
    return np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)


def check_motion(frames: list[np.ndarray]) -> None:
    motion = VmafMotion()
    ours, theirs = [motion.push(frame) for frame in frames], ffmpeg_motion(frames)
    assert ours == pytest.approx(theirs, abs=0.005 + 1e-3)
    # rounding to two decimals leaves 0.01 / sqrt(12 n) on the mean
    assert motion.score() == pytest.approx(np.mean(theirs), abs=1e-3)
    assert motion.score() == pytest.approx(np.mean(ours))


@pytest.mark.parametrize("size", [(37, 53), (90, 160), (64, 18)])
def test_vmaf_motion_equals_ffmpegs_filter_on_noise_and_texture(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, size, np.uint8) for _ in range(40)]
    frames += [np.roll(textured(rng, *size), k % 5, axis=1) for k in range(40)]
    check_motion(frames)


@pytest.mark.shared
def test_vmaf_motion_equals_ffmpegs_filter_on_real_video(shared_data: Path) -> None:
    video = ClipVideo((shared_data / "videos" / "bedroom_children.mp4").read_bytes())
    check_motion([luma.copy() for (luma, _, _), _ in zip(video.iter_yuv(), range(50))])


@pytest.mark.parametrize("shift", [(0, 3), (0, 12), (7, 0), (5, -9)])
def test_flow_finds_a_known_translation(shift: tuple[int, int]) -> None:
    dy, dx = shift
    height, width = FLOW_SIZE
    scene = textured(np.random.default_rng(1), height + 40, width + 40)
    before = scene[20:20 + height, 20:20 + width]
    after = scene[20 + dy:20 + dy + height, 20 + dx:20 + dx + width]
    assert DisFlow().magnitude(before.copy(), after.copy()) == pytest.approx(np.hypot(dy, dx), rel=0.05)


def planes(bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """BT.709 limited-range planes of one even-sized picture, by FFmpeg's own converter."""
    frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(
        format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    height, width = bgr.shape[:2]
    stacked = frame.to_ndarray()
    quarter = height * width // 4
    chroma = stacked[height:].reshape(-1)
    return (stacked[:height], chroma[:quarter].reshape(height // 2, width // 2),
            chroma[quarter:].reshape(height // 2, width // 2))


@pytest.mark.parametrize("bgr", [(20, 40, 200), (200, 120, 60), (90, 90, 90), (10, 250, 250)])
def test_saturation_and_exposure_of_a_flat_colour_are_exact_to_a_level(bgr: tuple[int, int, int]) -> None:
    picture = np.full((48, 64, 3), bgr, np.uint8)
    scores = pixel_scores([planes(picture)] * 9, 16.0, QualityConfig())
    expected = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)[0, 0, 1]
    luma = 0.0722 * bgr[0] + 0.7152 * bgr[1] + 0.2126 * bgr[2]
    one_chroma_level = 255 * 2.2 / max(bgr)
    assert scores["saturation"] == pytest.approx(expected, abs=one_chroma_level)
    assert scores["exposure"] == pytest.approx(luma, abs=1)
    assert scores["vmaf_motion"] == 0
    assert scores["sharpness"] == 0


@pytest.mark.shared
def test_saturation_of_real_video_is_opencvs_mean_over_every_pixel(shared_data: Path) -> None:
    video = ClipVideo((shared_data / "videos" / "bedroom_children.mp4").read_bytes())
    scores = pixel_scores(video.iter_yuv(), float(video.fps), QualityConfig(sample_s=1.0))
    direct = [cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[..., 1].mean()
              for index, rgb in enumerate(video.iter_rgb()) if index % 30 == 0]
    assert scores["saturation"] == pytest.approx(np.mean(direct), rel=0.03)


def test_dark_and_bright_shares_count_pixels() -> None:
    picture = np.full((64, 64, 3), 128, np.uint8)
    picture[:16] = 5
    picture[48:] = 250
    picture[56:] = 128
    scores = pixel_scores([planes(picture)] * 2, 16.0, QualityConfig())
    assert scores["dark_share"] == pytest.approx(0.25)
    assert scores["bright_share"] == pytest.approx(0.125)


def test_a_sharp_picture_is_sharper_than_its_blur() -> None:
    scene = textured(np.random.default_rng(2), 120, 160, sigma=1.5)
    blurred = cv2.GaussianBlur(scene, (0, 0), 3)
    sharp, soft = (pixel_scores([planes(cv2.merge([s] * 3))] * 2, 16.0, QualityConfig())["sharpness"]
                   for s in (scene, blurred))
    assert sharp is not None and soft is not None and sharp > 5 * soft


def test_too_few_frames_give_no_answer_instead_of_zero() -> None:
    scores = pixel_scores([planes(np.full((48, 64, 3), 99, np.uint8))], 16.0, QualityConfig())
    assert scores["vmaf_motion"] is None
    assert scores["flow_dis"] is None
    assert pixel_scores([], 16.0, QualityConfig()) == {}


def written(pictures: list[np.ndarray]) -> bytes:
    """An MP4 at 16 fps, near lossless."""
    buffer = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "6", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))
        container.mux(stream.encode())
    return buffer.getvalue()


def panning(count: int, step: int) -> Iterator[np.ndarray]:
    """A pan of `step` pixels a frame over a textured wall, 288x160, half of FLOW_SIZE."""
    rng = np.random.default_rng(3)
    scene = cv2.merge([textured(rng, 160, 288 + count * step, sigma=4) for _ in range(3)])
    for k in range(count):
        yield scene[:, k * step:k * step + 288]


def test_the_stage_scores_a_clip_that_holds_a_cut() -> None:
    pan = list(panning(25, 1))
    other = [255 - p[::-1] // 2 for p in panning(24, 1)]
    record = ClipRecord("clip", "video", Kind.CLIP)
    clips = []
    for pictures in (pan, pan + other):
        mp4 = written(pictures)
        clips.append(Clip(record, {"mp4": mp4}, ClipVideo(mp4)))
    whole, cut = (QualityStage().process(clip).fields for clip in clips)
    assert whole["cuts"] == 0
    assert cut["cuts"] == 1
    assert whole["flow_dis"] == pytest.approx(8 * 2, rel=0.1)  # 8 frames of 1 px, enlarged twice
    assert QualityStage().process(clips[0]).fields == whole
