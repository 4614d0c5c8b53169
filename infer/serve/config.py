"""Settings of `python -m infer.serve`."""

from __future__ import annotations

from dataclasses import dataclass, field

from infer.live import check_settings
from infer.offload import Offload
from infer.precision import PrecisionConfig
from infer.refine import RefineConfig, RefineMode
from infer.sampler import SamplerConfig
from infer.serve.place import check_place

DTYPES = ("auto", "bfloat16", "float32")


@dataclass
class LimitConfig:
    """What visitors may ask for."""

    drives: int = 2  # that run at once and share the model, chunk by chunk in turn; each holds a cache
    waiting: int = 8  # visitors that may wait for a place; more are refused
    each: int | None = None  # drives that one address may have, running or waiting; null: any number
    longest_s: float = 300.0  # seconds of video after which a drive ends
    idle_s: float = 60.0  # seconds without a key or a word after which a drive ends
    keep_s: float = 900.0  # seconds for which the video of a drive that is over can be downloaded
    connect_s: float = 15.0  # seconds in which a visitor who asked for a drive must come for it
    ahead_s: float = 1.5  # a chunk is made once no more seconds of video wait to be shown; more is smoother,
    # and keys act later
    image_mb: float = 12.0  # size of an uploaded picture
    image_megapixels: float = 40.0  # and its pixels
    prompt_characters: int = 2000  # of a prompt
    action_characters: int = 2000  # of a typed action string

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("drives", "prompt_characters", "action_characters"):
            if getattr(self, name) < 1:
                raise ValueError(f"limit.{name}={getattr(self, name)}, allowed 1 or more")
        if self.waiting < 0:
            raise ValueError(f"limit.waiting={self.waiting}, allowed 0 or more")
        if self.each is not None and self.each < 1:
            raise ValueError(f"limit.each={self.each}, allowed 1 or more, or null")
        for name in ("longest_s", "idle_s", "keep_s", "connect_s", "ahead_s", "image_mb", "image_megapixels"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"limit.{name}={getattr(self, name):g}, allowed more than 0")


@dataclass
class ServeConfig:
    """A page on which visitors drive through a world that is made while they look."""

    host: str = "127.0.0.1"  # address to listen on; others than this machine's own need the token
    port: int = 8000  # 0: any that is free
    token: str | None = None  # who knows it may come in; null: drawn at the start where host needs one
    size: list[int] = field(default_factory=lambda: [704, 1280])  # height and width of the video
    model: str | None = None  # the network: a folder of python -m train, a folder, a file, or a repository of
    # the hub; null: the sampler's
    codec: str | None = None  # dct32, dct16, dct8, or a causal LTX-2 autoencoder; null: the run's, or the
    # sampler's
    text: str | None = None  # the text encoder: hash, or a Gemma-2; null: the run's, or the released
    refiner: str = "none"  # second stage: none, ltx2, or a folder of its weights
    device: str | None = None  # null: a GPU if there is one
    dtype: str = "auto"  # of weights, bfloat16 or float32; auto: bfloat16 on a GPU, float32 on a CPU
    offload: Offload = Offload.none  # text: text encoders are on the GPU only while they read
    compile: bool = False  # torch.compile the blocks: minutes at first, faster after
    warm: bool = True  # make some chunks before visitors are let in, so that theirs wait for no preparation
    quality: int = 85  # of the JPEG frames that are shown, 1 to 100
    crf: int = 18  # of the MP4 that is downloaded: lower is better and larger
    limit: LimitConfig = field(default_factory=LimitConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        check_place(self.port, self.token)
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size={self.size}, allowed [height,width]")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype}, allowed {', '.join(DTYPES)}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}, allowed 1 to 100")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf}, allowed 0 to 51")
        self.limit.check()
        self.sampler.check()
        self.refine.check()
        mode = RefineMode.blocks if self.refiner == "none" else self.refine.mode
        check_settings(self.sampler, self.offload, mode)
