"""Settings of `python -m pipelines.annotate`: the stages' own, and how a run uses machine and storage."""

from __future__ import annotations

from dataclasses import dataclass, field

from annotate.caption.config import CaptionConfig
from annotate.cut.cutter import CutConfig
from annotate.depth.config import DepthConfig
from annotate.duplicates.config import DuplicatesConfig
from annotate.filters import Thresholds
from annotate.learned import LearnedConfig
from annotate.overlay.stage import OverlayConfig
from annotate.pose.stage import PoseStageConfig
from annotate.quality.stage import QualityConfig
from annotate.scale.stage import ScaleConfig
from annotate.scores.config import ScoresConfig
from annotate.source.item import SourceConfig
from annotate.vlm.config import VlmConfig
from annotate.vlm.entities import EntitiesConfig


@dataclass
class WriteConfig:
    """How the data set is written."""

    shard_mb: int = 500  # size of a shard in megabytes (10^6 bytes)
    rejected: bool = True  # also store the files of rejected clips (in shards of their own), so that
    # a change of thresholds never has to make a clip again
    remake_broken: bool = False  # make the clips of missing or truncated shards again
    report: bool = True  # write report.html after a run that changed something

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.shard_mb < 1:
            raise ValueError(f"write.shard_mb={self.shard_mb}, allowed 1 or more")


@dataclass
class RunConfig:
    """How a run divides its machine and what it does when a worker dies."""

    workers: int | None = None  # processes that annotate clips; null: one for each CPU
    cutters: int | None = None  # processes that cut videos; null: one for every two CPUs, at least two
    staged_clips: int | None = None  # clips cut and not yet annotated before cutting pauses (bounds disk);
    # null: three for each worker
    attempts: int = 3  # a video or clip that killed its worker so often in one run is recorded as poison
    again: list[str] = field(default_factory=list)  # reasons, such as unreachable or poison: what failed
    # for one of them in a former run is tried again

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("workers", "cutters", "staged_clips", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"run.{name}={value}, allowed 1 or more")


@dataclass
class RayConfig:
    """Where the work is done."""

    address: str | None = None  # null: this machine; "auto" or host:port: a running Ray cluster
    num_cpus: int | None = None  # CPUs to use on this machine; null: all
    num_gpus: int | None = None  # GPUs to use on this machine; null: all
    dashboard: bool = False  # start Ray's dashboard on this machine
    verbose: bool = False  # show Ray's own logs and progress bars


@dataclass
class AnnotateConfig:
    """Video in, a data set of clips with cameras, depth and scores out."""

    src: str = "???"  # a video, folder, glob, URL (s3://, gs://, https://, hf://), manifest (.csv, .jsonl,
    # .parquet with a column uri), scene of splats (.ply), or "synthetic"
    out: str = "???"  # folder or URL of the data set; a second run continues it
    work: str | None = None  # folder or URL for unfinished work; null: _work inside out
    source: SourceConfig = field(default_factory=SourceConfig)
    cut: CutConfig = field(default_factory=CutConfig)
    pose: PoseStageConfig = field(default_factory=PoseStageConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    vlm: VlmConfig = field(default_factory=VlmConfig)
    entities: EntitiesConfig = field(default_factory=EntitiesConfig)
    caption: CaptionConfig = field(default_factory=CaptionConfig)
    thresholds: Thresholds = field(default_factory=Thresholds)
    write: WriteConfig = field(default_factory=WriteConfig)
    run: RunConfig = field(default_factory=RunConfig)
    ray: RayConfig = field(default_factory=RayConfig)
