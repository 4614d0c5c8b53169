"""Synthetic videos and their ground truth, exact at any time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path as FilePath

import cv2
import numpy as np

from annotate.synthetic.paths import Path, make_path
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import build_scene
from annotate.synthetic.spec import Motion, Place, SyntheticSpec, Transition
from dataset import clip
from dataset.camera import resize_intrinsics

FOCAL_OF_WIDTH = 0.72
"""Focal length at the start of a shot as a share of the image width: a field of view of 69.6 degrees."""

TRANSITION_S = 0.8
"""Length of a dissolve or of a fade through black."""

_BT709, _LIMITED_RANGE = 1, 1

_CLASSES = {Motion.static: clip.Motion.STATIC, Motion.rotation_only: clip.Motion.ROTATION_ONLY}


@dataclass(frozen=True)
class Shot:
    """Frames [first, last) of the video that show this scene alone, and where its own time starts."""

    place: Place
    motion: Motion
    first: int
    last: int
    start_s: float  # presentation time at which the camera starts on its path
    path: Path

    @property
    def motion_class(self) -> clip.Motion:
        """What an engine should find."""
        return _CLASSES.get(self.motion, clip.Motion.PARALLAX)


class SyntheticTruth:
    """Cameras and depth of a synthetic video at any source time, in metres; intrinsics of its frame size.

    `shots` lists the shots; `cuts` the first frames of shots that follow a hard cut; `transitions` the
    frame ranges [first, last) of dissolves and fades.
    """

    def __init__(self, spec: SyntheticSpec) -> None:
        self.spec = spec
        self.fps = Fraction(spec.fps).limit_denominator(1001)
        self.size = (spec.height, spec.width)
        self.shots = list(_plan_shots(spec, self.fps))
        self.frames = self.shots[-1].last
        pairs = list(zip(self.shots, self.shots[1:]))
        self.cuts = [b.first for a, b in pairs if a.last == b.first]
        self.transitions = [(a.last, b.first) for a, b in pairs if a.last < b.first]
        self._renderers: dict[int, Renderer] = {}

    def at(self, times: np.ndarray) -> clip.CameraTrack:
        """The cameras at source times (n,) seconds, all within one shot.

        Raises ValueError when the times span two shots, or lie outside the video.
        """
        times = np.asarray(times, np.float64)
        shot = self.shot_at(times)
        local = times - shot.start_s
        count = len(times)
        return clip.CameraTrack(
            c2w=shot.path.c2w(local), intrinsics=self._intrinsics(shot, local), size=self.size,
            timestamps=times - times[0], sigma_position=np.zeros(count),
            sigma_rotation_deg=np.zeros(count),
            frame_verdict=np.full(count, clip.FrameVerdict.GIVEN, np.uint8),
            motion=shot.motion_class, engine="synthetic", unit="m",
        )

    def shot_at(self, times: np.ndarray) -> Shot:
        """The shot that holds all `times`. Raises ValueError when there is none."""
        half = 0.5 / float(self.fps)
        for shot in self.shots:
            first, last = (float((n - Fraction(1, 2)) / self.fps) for n in (shot.first, shot.last))
            if first - half <= times.min() and times.max() < last + half * 1e-6:
                return shot
        spans = [f"{float(s.first / self.fps):.3f}-{float(s.last / self.fps):.3f}" for s in self.shots]
        raise ValueError(f"{self.spec.uri}: no shot holds {times.min():.3f} to {times.max():.3f} s; "
                         f"shots: {', '.join(spans)}")

    def depth_at(self, time: float, size: tuple[int, int] | None = None) -> np.ndarray:
        """Depth (H, W) float32 in metres at a source time, infinite in the sky; of the video's size unless
        `size` is given."""
        shot = self.shot_at(np.array([time]))
        local = np.array([time - shot.start_s])
        size = size or self.size
        intrinsics = resize_intrinsics(self._intrinsics(shot, local), self.size, size)
        renderer = self._renderer(shot)
        if size != self.size:
            renderer = Renderer(renderer.scene, size)
        return renderer.depth(shot.path.c2w(local)[0], intrinsics[0], float(local[0]))

    def frame_at(self, shot: Shot, time: float) -> np.ndarray:
        """The noise-free image (H, W, 3) of `shot` at a source time, which transitions may put outside it."""
        local = np.array([time - shot.start_s])
        return self._renderer(shot).frame(shot.path.c2w(local)[0], self._intrinsics(shot, local)[0],
                                          float(local[0]))

    def release(self, shot: Shot) -> None:
        """Forget the textures of a shot; they are painted again when asked for."""
        self._renderers.pop(self.shots.index(shot), None)

    def _renderer(self, shot: Shot) -> Renderer:
        index = self.shots.index(shot)
        if index not in self._renderers:
            rng = np.random.default_rng([self.spec.seed, index, 1])
            spec = self.spec
            scene = build_scene(shot.place, shot.path, rng, spec.texture, spec.width, spec.moving)
            self._renderers[index] = Renderer(scene, self.size)
        return self._renderers[index]

    def _intrinsics(self, shot: Shot, local: np.ndarray) -> np.ndarray:
        """(n, 4): the focal length moves geometrically from its start to `zoom` times that."""
        height, width = self.size
        u = np.clip(local / shot.path.duration, 0.0, 1.0)
        focal = FOCAL_OF_WIDTH * width * self.spec.zoom ** (0.5 - 0.5 * np.cos(np.pi * u))
        return np.stack([focal, focal, np.full_like(focal, width / 2), np.full_like(focal, height / 2)], -1)


def _plan_shots(spec: SyntheticSpec, fps: Fraction) -> Iterator[Shot]:
    """Shots one after another; scenes and motions of later shots follow from the seed."""
    rng = np.random.default_rng([spec.seed, 0])
    frames = max(1, round(spec.seconds * fps))
    overlap = 0 if spec.transition is Transition.cut else max(2, round(TRANSITION_S * fps))
    moving = [m for m in Motion if m not in _CLASSES]
    place, motion, at = spec.place, spec.motion, 0
    for index in range(spec.shots):
        path_rng = np.random.default_rng([spec.seed, index, 0])
        before = overlap if index else 0
        after = overlap if index + 1 < spec.shots else 0
        duration = float((before + frames + after) / fps)
        path = make_path(place, motion, duration, path_rng)
        yield Shot(place, motion, at + before, at + before + frames, float(at / fps), path)
        at += before + frames
        place = Place.street if place is Place.room else Place.room
        motion = moving[rng.integers(len(moving))]


def render_frames(truth: SyntheticTruth) -> Iterator[np.ndarray]:
    """Every frame (H, W, 3) uint8 of the video in order, with transitions and sensor noise."""
    noise = _Noise(truth.spec, truth.size)
    period = 1 / truth.fps
    for index, shot in enumerate(truth.shots):
        for number in range(shot.first, shot.last):
            yield noise.add(truth.frame_at(shot, float(number * period)))
        if index + 1 < len(truth.shots):
            following = truth.shots[index + 1]
            count = following.first - shot.last
            for i in range(count):
                time = float((shot.last + i) * period)
                share = (i + 1) / (count + 1)
                yield noise.add(_mix(truth, shot, following, time, share))
        truth.release(shot)


def _mix(truth: SyntheticTruth, shot: Shot, following: Shot, time: float, share: float) -> np.ndarray:
    """A frame of a dissolve, or of a fade to black and back."""
    if truth.spec.transition is Transition.dissolve:
        old, new = truth.frame_at(shot, time), truth.frame_at(following, time)
        return cv2.addWeighted(old, 1 - share, new, share, 0)
    image = truth.frame_at(shot if share < 0.5 else following, time)
    return cv2.convertScaleAbs(image, alpha=abs(1 - 2 * share))


class _Noise:
    """Sensor noise: windows of one large drawing, so that a frame's noise costs an addition."""

    def __init__(self, spec: SyntheticSpec, size: tuple[int, int]) -> None:
        self._rng = np.random.default_rng([spec.seed, 2])
        self._size = size
        self._field: np.ndarray | None = None
        if spec.noise > 0:
            shape = (size[0] + 128, size[1] + 128, 3)
            drawn = self._rng.standard_normal(shape, dtype=np.float32)
            self._field = np.round(spec.noise * drawn).astype(np.int16)

    def add(self, image: np.ndarray) -> np.ndarray:
        if self._field is None:
            return image
        y, x = self._rng.integers(0, 128, 2)
        window = self._field[y : y + self._size[0], x : x + self._size[1]]
        return cv2.add(image, window, dtype=cv2.CV_8U)


def render_video(path: str | FilePath, spec: SyntheticSpec, crf: int = 14) -> SyntheticTruth:
    """Writes the video of `spec` as H.264 in MP4 and returns its truth.

    Frame i is presented at i / fps, the time at which its camera stands in the truth.
    """
    import av
    from av.video.frame import PictureType

    truth = SyntheticTruth(spec)
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=truth.fps)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        # More threads, the look-ahead of slower presets, or a picture type left over from the conversion
        # make the bytes differ from run to run.
        stream.options = {"crf": str(crf), "preset": "superfast", "threads": "1"}
        context = stream.codec_context
        context.time_base = 1 / truth.fps
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        for number, image in enumerate(render_frames(truth)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1)
            frame.pts, frame.time_base, frame.pict_type = number, 1 / truth.fps, PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return truth


def render_sequence(
    spec: SyntheticSpec, frames: int = 161, width: int | None = None, height: int | None = None,
    fps: float = 16.0,
) -> tuple[np.ndarray, clip.CameraTrack, Callable[[int], np.ndarray]]:
    """One shot, drawn at `fps` without a video between: for tests and benchmarks.

    Returns images (F, H, W, 3) uint8, the true track in metres, and depth(i) -> (H, W) float32 metres,
    infinite in the sky. `width` and `height` replace those of `spec`; its `fps`, `seconds`, `shots` and
    `transition` are not used.
    """
    spec = dataclasses.replace(
        spec, width=width or spec.width, height=height or spec.height, fps=fps, shots=1,
        seconds=max(frames / fps, 0.1), transition=Transition.cut,
    )
    truth = SyntheticTruth(spec)
    times = np.arange(frames) / float(truth.fps)
    noise = _Noise(spec, truth.size)
    images = np.empty((frames, *truth.size, 3), np.uint8)
    for i, time in enumerate(times):
        images[i] = noise.add(truth.frame_at(truth.shots[0], float(time)))
    return images, truth.at(times), lambda i: truth.depth_at(float(times[i]))
