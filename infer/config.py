"""Settings of `python -m infer`."""

from __future__ import annotations

from dataclasses import dataclass, field

from infer.camera import CameraConfig
from infer.noise import check_seed
from infer.offload import Offload
from infer.precision import PrecisionConfig
from infer.refine import RefineConfig
from infer.sampler import SamplerConfig

DTYPES = ("auto", "bfloat16", "float32")


@dataclass
class InferConfig:
    """An image, a prompt and a camera path to a video that follows it."""

    image: str | None = None  # the picture the video begins with
    prompt: str = ""  # what is to be seen
    negative: str = ""  # what guidance leads away from
    action: str | None = None  # keys held and for how many frames, such as w-80,d-40,w-120
    camera: str | None = None  # instead of action: a trajectory (.npy, .npz, .json, TUM .txt, a folder of
    # COLMAP's, <data set>#<clip>) or a named path, such as orbit:radius=2,degrees=90
    frames: int | None = None  # video frames, brought to 8k + 1 (24k + 1 for streams); null: all of the path
    size: list[int] = field(default_factory=lambda: [704, 1280])  # height and width of the video
    intrinsics: list[float] | None = None  # fx,fy,cx,cy in pixels of the image; null: fov, or the
    # trajectory's, or what the camera noted in the image, or what its lines say, or 60 degrees
    fov: float | None = None  # instead: degrees across the image's longer side
    seed: int = 0  # of all noise
    out: str = "out/video"  # folder of video.mp4, overlay.mp4, camera.npz, config.yaml, environment.json
    overwrite: bool = False  # replace a video that is there
    overlay: bool = True  # write overlay.mp4 too: the video with the keys held and the path drawn on it
    manifest: str | None = None  # many videos: a .csv, .jsonl or .parquet with columns such as name, image,
    # prompt, action; each row's video goes to a folder of its own below out
    repeat: str | None = None  # make the video in this folder again, byte for byte, in out
    model: str | None = None  # the network: a folder of python -m train, a folder, a file, or a repository of
    # the hub; null: the sampler's
    codec: str | None = None  # dct32, dct16, dct8, or an LTX-2 autoencoder; null: the run's, or
    # the sampler's
    text: str | None = None  # the text encoder: hash, or a Gemma-2; null: the run's, or the released
    refiner: str = "none"  # second stage: none, ltx2, or a folder of its weights
    device: str | None = None  # null: a GPU if there is one
    dtype: str = "auto"  # of weights, bfloat16 or float32; auto: bfloat16 on a GPU, float32 on a CPU
    offload: Offload = Offload.none  # text: text encoders are on the GPU only while they read; model: every
    # part only while it works, one after the other; sequential: the same, block by block
    overlap: bool = True  # stage 1, refiner and decoder work side by side; the video is the same
    compile: bool = False  # torch.compile the blocks: minutes at first, faster after
    crf: int = 18  # of the MP4: lower is better and larger
    preview: bool = False  # draw the path into preview.png and stop
    plan: bool = False  # print the memory expected and stop
    path: CameraConfig = field(default_factory=CameraConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.action is not None and self.camera is not None:
            raise ValueError("action and camera are both given; one path leads the video")
        if self.manifest is not None and (self.preview or self.plan):
            raise ValueError("manifest: preview and plan are of one video; give its action or camera")
        many = self.plan or self.manifest is not None
        if self.action is None and self.camera is None and not many:
            raise ValueError("missing: action=<keys>-<frames>,... such as action=w-80,d-40, or camera=<file "
                             "or named path>")
        if self.image is None and not (self.preview or many):
            raise ValueError("missing: image=<picture the video begins with>")
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size={self.size}, allowed [height,width]")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames={self.frames}, allowed 1 or more")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype}, allowed {', '.join(DTYPES)}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf}, allowed 0 to 51")
        check_seed(self.seed)
        self.path.check()
        self.sampler.check()
        self.refine.check()
