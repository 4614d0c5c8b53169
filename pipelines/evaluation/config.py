"""Settings of `python -m pipelines.evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field

from annotate.config import RayConfig
from infer.offload import Offload
from infer.precision import PrecisionConfig
from pipelines.evaluation.path import PathConfig
from pipelines.evaluation.recovery import RecoveryConfig
from pipelines.evaluation.revisit import RevisitConfig
from pipelines.evaluation.scorer import QualityConfig
from pipelines.evaluation.templates import TEMPLATES, Split

RELEASED = "released"
DTYPES = ("auto", "bfloat16", "float32")


@dataclass
class NetworksConfig:
    """How the networks make videos; what differs between the samplers is as they were released."""

    codec: str | None = None  # dct32, dct16, dct8, or an LTX-2 autoencoder; null: that of the training run,
    # or the released one
    text: str | None = None  # the text encoder: hash, or a Gemma-2; null: as for the codec
    refiner: str = "none"  # second stage: none, ltx2, or a folder of its weights
    steps: int = 60  # of bidirectional and chunk_causal
    guidance: float = 5.0  # of bidirectional and chunk_causal; 1: off
    negative: str = ""  # what guidance leads away from
    seed: int = 0  # of all noise; the same in every video
    device: str | None = None  # null: a GPU if there is one
    dtype: str = "auto"  # of weights, bfloat16 or float32; auto: bfloat16 on a GPU, float32 on a CPU
    offload: Offload = Offload.none  # none; text: text encoders are on the GPU only while they read; model:
    # every part only while it works; sequential: the same, block by block
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    crf: int = 18  # of the MP4s: lower is better and larger

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.steps < 1 or self.guidance < 0 or not 0 <= self.crf <= 51:
            raise ValueError(f"networks.steps={self.steps} networks.guidance={self.guidance} "
                             f"networks.crf={self.crf}, allowed 1 or more, 0 or more, 0 to 51")
        if self.dtype not in DTYPES:
            raise ValueError(f"networks.dtype={self.dtype}, allowed {', '.join(DTYPES)}")


@dataclass
class EvaluateRunConfig:
    """How a run goes about its work."""

    workers: int | None = None  # processes that make or measure videos; null: one for each CPU, for networks
    # on GPUs one for each GPU
    attempts: int = 2  # a video that killed its worker so often in one run is recorded as failed
    retry_failed: bool = False  # measure again what failed in a former run

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("workers", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"run.{name}={value}, allowed 1 or more")


@dataclass
class EvaluateConfig:
    """Generators in, their errors along known camera paths out."""

    scenes: str = "???"  # a folder of images with prompts, a copy of the published benchmark, or synthetic
    out: str = "???"  # folder of videos, metrics and report; a second run continues it
    bidirectional: str | None = None  # a network for this sampler: a run of the trainer, a file, a repository
    # of the hub, or released
    chunk_causal: str | None = None  # the same for this one
    distilled: str | None = None  # and for this one
    videos: str | None = None  # other generators by their folders of mp4s: name=folder or
    # name=folder/{case}.mp4, separated by commas; {case}, {scene} and {path} stand for the names in cases/
    truth: bool = False  # with rendered scenes: their true videos, as the best that can be reached
    wrong: bool = False  # with rendered scenes: true videos of another path, as a control
    prepare: bool = False  # write cases/ and the picture of all paths, for other generators to run, and stop
    rooms: int = 4  # scenes=synthetic: how many
    splits: list[str] = field(default_factory=lambda: [str(split) for split in Split])  # simple, hard
    templates: list[str] | None = None  # trajectories by name; null: all of the splits
    every: bool = False  # every trajectory in every scene; false: one of each split, in turn
    limit: int | None = None  # scenes at most; null: all
    size: list[int] = field(default_factory=lambda: [704, 1280])  # height and width of the videos
    fov: float | None = None  # degrees across the longer side of images that do not say; null: as their lines
    # say, or 60
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    path: PathConfig = field(default_factory=PathConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    revisit: RevisitConfig = field(default_factory=RevisitConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    run: EvaluateRunConfig = field(default_factory=EvaluateRunConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if "://" in self.out:
            raise ValueError(f"out={self.out}: must be a folder, on a cluster one that all machines share")
        self.out = self.out.rstrip("/") or "/"
        for name, known in (("splits", [str(split) for split in Split]), ("templates", list(TEMPLATES))):
            for value in getattr(self, name) or []:
                if value not in known:
                    raise ValueError(f"{name}: no {value!r}; allowed {', '.join(known)}")
        if not self.splits or self.templates == []:
            raise ValueError("splits and templates: name at least one")
        if len(self.size) != 2 or min(self.size) < 2 or any(side % 2 for side in self.size):
            raise ValueError(f"size={self.size}, allowed [height,width], both even")
        for name in ("rooms", "limit"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, allowed 1 or more")
        if not self.prepare and not any([self.bidirectional, self.chunk_causal, self.distilled, self.videos,
                                         self.truth, self.wrong]):
            raise ValueError("nothing to evaluate: give bidirectional=, chunk_causal=, distilled= or "
                             "videos=, or truth=true with rendered scenes; or prepare=true")
        for part in (self.networks, self.path, self.recovery, self.revisit, self.quality, self.run):
            part.check()
