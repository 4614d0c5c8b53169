"""Settings of `python -m pipelines.latents`."""

from __future__ import annotations

from dataclasses import dataclass, field

from annotate.config import RayConfig

CODECS_WITHOUT_WEIGHTS = ("dct32", "dct16", "dct8")
TEXT_WITHOUT_WEIGHTS = "hash"
DTYPES = ("float32", "bfloat16")


@dataclass
class LatentWriteConfig:
    """How the latent set is written."""

    shard_mb: int = 500  # size of a shard in megabytes (10^6 bytes)
    remake_broken: bool = False  # encode the clips of missing or truncated latent shards again

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.shard_mb < 1:
            raise ValueError(f"write.shard_mb={self.shard_mb}, allowed 1 or more")


@dataclass
class LatentRunConfig:
    """How a run divides its machine and what it does when a worker dies."""

    workers: int | None = None  # processes that encode clips; null: as many as the GPUs hold, else one a CPU
    gpus: float | None = None  # GPUs of each worker, a fraction shares one; null: 1 where there are GPUs and
    # codec or text encoder have weights, else 0
    attempts: int = 3  # a clip that killed its worker so often in one run is recorded as poison

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("workers", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"run.{name}={value}, allowed 1 or more")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"run.gpus={self.gpus:g}, allowed 0 or more")


@dataclass
class LatentsConfig:
    """A data set's clips and captions, encoded, in a latent set beside its shards."""

    data: str = "???"  # folder or URL of the data set
    codec: str = "dct32"  # dct32, dct16 or dct8 (no weights), else a folder or hub id of an LTX-2 VAE
    text: str = "hash"  # hash (no weights), else a folder or hub id of Gemma-2-2b-it
    where: str = "verdict = 'kept'"  # which clips, as SQL over the index
    size: list[int] | None = None  # [height,width] of the video that is encoded; null: the clips' own size,
    # cut to a multiple of the codec's stride
    name: str | None = None  # of the latent set, a folder in latents/; null: from codec and size
    work: str | None = None  # folder or URL for unfinished work; null: _work inside the latent set
    dtype: str | None = None  # of the networks' weights, float32 or bfloat16; null: bfloat16 on a GPU
    text_tokens: int = 300  # of text=hash: states of a caption; a language model has its own number
    text_channels: int = 2304  # of text=hash: numbers in a state
    chi_prompt: str | None = None  # config.yaml with the instruction before every caption, or a folder or hub
    # id with it, for a language model; null: the released one, as diffusers holds it
    retry_failed: bool = False  # encode the clips again that failed before
    write: LatentWriteConfig = field(default_factory=LatentWriteConfig)
    run: LatentRunConfig = field(default_factory=LatentRunConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def check(self) -> None:
        """Raises ValueError, naming the key, for values that make no sense."""
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size={self.size}, expected [height,width]")
        if self.name is not None and (not self.name or "/" in self.name or self.name.startswith(".")):
            raise ValueError(f"name={self.name!r}, expected the name of a folder in {self.data}/latents")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype}, allowed {' or '.join(DTYPES)}")
        for name in ("text_tokens", "text_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, allowed 1 or more")
        if self.where.split()[:1] in ([], ["select"], ["with"], ["from"]):
            raise ValueError(f"where={self.where!r}, expected a condition such as \"verdict = 'kept' and "
                             "flow_dis > 5\"")
        self.write.check()
        self.run.check()
