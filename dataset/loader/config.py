"""Settings of the loader, and what a network expects of the latents it is fed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dataset.rays import STRIDE

OnError = StrEnum("OnError", ["raise", "skip"])
"""What a clip that cannot be read does: end the run, or leave its place in the batch empty."""


class Scale(StrEnum):
    """Whose translations are let in."""

    metric = "metric"  # metres
    any = "any"  # also path lengths and cameras without any translation


class Lengths(StrEnum):
    """How clips meet the lengths in `frames`."""

    crop = "crop"  # the longest length the clip fills, cut to it; shorter clips are left out
    pad = "pad"  # the shortest length that holds the clip, padded to it; longer clips are cut


class Start(StrEnum):
    """Where a clip is cut that is longer than its length."""

    first = "first"  # from its first frame
    random = "random"  # anywhere, drawn anew each time


@dataclass
class SourceConfig:
    """One data set, and which of its clips."""

    path: str = "???"  # folder or URL of the data set
    latents: str | None = None  # name of a latent set below its latents/; null: decode the video
    where: str = ""  # condition on the columns of the index, in SQL: "dover >= 0.4 and scale_cov <= 2"
    weight: float | None = None  # share of the samples relative to the other sources' weights; null: in
    # proportion to clips times repeats, so that an epoch is every clip so often
    repeats: int = 1  # times an epoch passes over these clips


@dataclass
class DataConfig:
    """What is trained on, in which order and sizes, and how it is read."""

    path: str = ""  # folder or URL of the data set, where there is only one
    latents: str | None = None  # name of its latent set; null: decode the video
    where: str = ""  # condition on the columns of its index, in SQL
    sources: list[SourceConfig] = field(default_factory=list)  # several data sets, each with path, latents,
    # where, weight and repeats; instead of path, latents and where
    frames: list[int] = field(default_factory=lambda: [81, 161, 961])  # lengths in video frames, 8k+1
    # (these are 5, 10 and 60 s); a batch holds one length and one size
    lengths: Lengths = Lengths.crop  # how clips meet these lengths
    start: Start = Start.first  # where longer clips are cut; latents only from their first frame
    size: list[int] | None = None  # height, width of video samples; null: the clip's own, cut to whole cells
    cell: int = 32  # pixels of the video per latent cell; of video samples only, latents know it
    scale: Scale = Scale.metric  # clips whose translations are let in
    batch_size: int = 1  # clips a process gets at a time (a context-parallel group gets them together)
    shuffle: bool = True  # another order each epoch; false: the order of the index
    seed: int = 0  # of the order and of random starts
    window: int = 8  # shards whose clips are mixed with each other; fewer reads more in sequence
    workers: int = 2  # processes that read; 0: read in the training process
    fork: bool = True  # start them by fork; false: by spawn, slower, for libraries that do not survive a fork
    prefetch: int = 2  # batches each worker holds ready
    verify: bool = True  # compare what is read with its checksums
    on_error: OnError = OnError["raise"]  # what a clip that cannot be read does: end the run, or leave its
    # place empty, named and counted
    skip_limit: int = 100  # with on_error=skip: more of them than this end the run after all

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if bool(self.path) == bool(self.sources):
            raise ValueError("data.path or data.sources: name one data set by path, or several by sources, "
                             f"not {'both' if self.path else 'neither'}")
        if self.sources and (self.latents or self.where):
            raise ValueError("data.latents and data.where belong to data.path; "
                             "give each of data.sources its own")
        wrong = [frames for frames in self.frames if frames < 1 or frames % STRIDE != 1]
        if wrong or not self.frames or len(set(self.frames)) < len(self.frames):
            raise ValueError(f"data.frames={self.frames}, allowed different {STRIDE}k + 1, such as 81")
        if self.cell < 1:
            raise ValueError(f"data.cell={self.cell}, allowed 1 or more")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1
                                      or any(side % self.cell for side in self.size)):
            raise ValueError(f"data.size={self.size}, allowed [height,width], both multiples of "
                             f"data.cell={self.cell}")
        for name, low in (
            ("batch_size", 1), ("window", 1), ("workers", 0), ("prefetch", 1), ("skip_limit", 0), ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"data.{name}={getattr(self, name)}, allowed {low} or more")
        self._check_mixture()

    def _check_mixture(self) -> None:
        sources = self.all_sources()
        weighted = [source.weight is not None for source in sources]
        if any(weighted) and not all(weighted):
            raise ValueError("data.sources: give every source a weight, or none")
        for number, source in enumerate(sources):
            if source.weight is not None and not 0 < source.weight < float("inf"):
                raise ValueError(f"data.sources[{number}].weight={source.weight}, must be positive")
            if source.repeats < 1:
                raise ValueError(f"data.sources[{number}].repeats={source.repeats}, allowed 1 or more; "
                                 "leave a source out by removing it")

    def all_sources(self) -> list[SourceConfig]:
        """The sources, however they were given."""
        return self.sources or [SourceConfig(self.path, self.latents, self.where)]


@dataclass(frozen=True)
class LatentSpace:
    """What a network takes: latents of a codec and video size, captions of a text encoder. None: any."""

    codec_fingerprint: str | None = None
    size: tuple[int, int] | None = None  # (height, width) of the video that was encoded
    text_fingerprint: str | None = None
