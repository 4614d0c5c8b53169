"""Settings of `python -m train`. Those of the paper's stages are in conf/stage/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dataset.loader.config import DataConfig
from train.objectives import FlowConfig
from train.ode import OdeConfig
from train.refiner import RefinerTrainConfig
from train.self_forcing import SelfForcingConfig


@dataclass
class StageConfig:
    """What a stage starts from and what it teaches; set by stage=<name>."""

    name: str = "gdn"  # of the stage
    after: list[str] = field(default_factory=list)  # stages whose networks it continues
    needs_start: bool = True  # the stage has no meaning without an earlier network
    objective: str = "flow"  # flow | ode | self_forcing | refiner
    softmax: str = "keep"  # blocks with softmax attention: keep those of the network it starts from | none |
    # fourth: every fourth
    anew: list[str] = field(default_factory=list)  # patterns of tensors that start anew although the earlier
    # network has them


@dataclass
class ModelConfig:
    """Sizes of a network that starts from nothing; a checkpoint brings its own."""

    preset: str = "2b6"  # 2b6 (as released) | small (8 M parameters) | tiny (for tests)
    depth: int | None = None  # blocks; null: of the preset
    width: int | None = None  # channels of a token; null: of the preset
    heads: int | None = None  # null: of the preset
    latent_channels: int | None = None  # null: those of the latents in data
    caption_channels: int | None = None  # null: those of the captions in data
    key_scale: str | None = None  # factor of the scan's keys: dim_spatial (released) | dim | none; null: keep

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_choice("model.preset", self.preset, ("2b6", "small", "tiny"))
        _check_choice("model.key_scale", self.key_scale, (None, "dim_spatial", "dim", "none"))


@dataclass
class LoraConfig:
    """Train small matrices beside the projections of attention and keep the rest as it is; fits small cards.

    The export holds the sum of both. Each resumption reads start= again.
    """

    rank: int = 0  # 0: train everything; 16 to 128 are usual


@dataclass
class OptimConfig:
    """AdamW, fused, on float32 masters."""

    lr: float = 5.0e-5  # learning rate after warm-up; constant
    warmup: int = 0  # steps over which the learning rate rises from 0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])  # of the running means
    eps: float = 1.0e-10  # added to the denominator; gradients of a large network are small
    weight_decay: float = 0.0  # of matrices and kernels; vectors never decay
    clip: float = 0.5  # largest norm of the gradient; larger ones are scaled down to it

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_least("optim", self, lr=0, warmup=0, eps=0, weight_decay=0)
        if self.clip <= 0:
            raise ValueError(f"optim.clip={self.clip}, allowed more than 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas={self.betas}, allowed two numbers from 0 to below 1")


@dataclass
class EmaConfig:
    """Running mean of the weights; when on, it is what is validated and exported first."""

    decay: float = 0.0  # share kept at each step; 0 switches it off, as the paper does
    start: int = 0  # step of the first mean


@dataclass
class ParallelConfig:
    """How processes share the work. Their number is the launcher's."""

    context: int = 1  # processes that share one clip along time
    shard: bool = True  # keep a part of each parameter in each process (FSDP2); with one process there is
    # nothing to share
    compute: str = "auto"  # type of activations: bfloat16 | float32; auto: bfloat16 on a GPU
    recompute: int = 1  # keep only the input of every so many-th block and compute it again for the
    # gradient; 0: keep all
    compile: bool = False  # compile the blocks
    device: str = "auto"  # cpu | cuda; auto: cuda where there is one

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_least("parallel", self, context=1, recompute=0)
        _check_choice("parallel.compute", self.compute, ("auto", "bfloat16", "float32"))
        _check_choice("parallel.device", self.device, ("auto", "cpu", "cuda"))


@dataclass
class CheckpointConfig:
    """Checkpoints hold everything a run needs to go on as if it had never stopped."""

    every: int = 500  # steps between checkpoints
    keep: int = 3  # newest ones kept
    keep_every: int = 0  # also keep those at multiples of so many steps; 0: none

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_least("checkpoint", self, every=1, keep=1, keep_every=0)


@dataclass
class LogConfig:
    """What is written while a run trains; metrics.jsonl always is."""

    every: int = 10  # steps between lines
    tensorboard: bool = True  # also write event files to tensorboard/ in the run folder
    wandb: str | None = None  # project of Weights & Biases to log to; null: none
    bins: int = 10  # of noise levels in the table of losses


@dataclass
class ValidateConfig:
    """Losses on held-out clips, at the same noise each time, and sampled videos beside the true ones."""

    every: int = 0  # steps between validations; 0: none
    where: str = ""  # which clips are held out: a condition on the index as in data.where; the clips that
    # fulfil it are never trained on
    clips: int = 8  # of the held-out ones that are measured
    bins: int = 5  # noise levels each clip is measured at
    videos: int = 1  # clips that are also sampled; 0: none
    sampler: str = "auto"  # clip | chunks (without a cache) | stream (four steps, with a cache); auto: what
    # the stage trains
    steps: int = 20  # of the sampler
    guidance: float = 1.0  # of the caption against the null caption; 1: none
    codec: str | None = None  # to see videos: dct8, dct16, dct32, or a folder or hub id of the LTX-2 VAE;
    # null: the one the latents were made with
    follow: str | None = "pipelines.follow"  # module that finds the camera of sampled videos, run as
    # `python -m MODULE video=... camera=...` (seconds a video); null: how well they follow is not measured

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_least("validate", self, every=0, clips=1, bins=1, videos=0, steps=1)
        _check_choice("validate.sampler", self.sampler, ("auto", "clip", "chunks", "stream"))
        if self.every and not self.where:
            raise ValueError("validate.where='' with validate.every set, expected which clips are held out, "
                             "such as validate.where=\"clip_id < '1'\"")


@dataclass
class RayConfig:
    """Used by launcher=ray."""

    address: str | None = None  # null: this machine; "auto" or host:port: a running Ray cluster
    workers: int = 1  # processes, each with one GPU where parallel.device is not cpu
    cpus: int = 1  # for each process

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_least("ray", self, workers=1, cpus=1)


@dataclass
class PlanConfig:
    """What dry_run=true reckons with."""

    gpus: int = 64  # processes
    gpu: str = "H100"  # A100 | H100 | H200 | L40S | B200 | GB300 | RTX4090 | RTX5090
    mfu: float = 0.3  # share of the GPU's peak that is reached
    frames: int | None = None  # of video in a clip; null: the most of data.frames
    size: list[int] = field(default_factory=lambda: [704, 1280])  # (height, width) of the video

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        _check_least("plan", self, gpus=1)
        if self.frames is not None:
            _check_least("plan", self, frames=1)
        if not 0 < self.mfu <= 1:
            raise ValueError(f"plan.mfu={self.mfu}, allowed above 0 to 1")


@dataclass
class TrainConfig:
    """A data set of latents in, a network out."""

    out: str = "???"  # run folder; one that exists is continued
    start: str | None = None  # network to start from: a run folder, an exported folder, a file of weights or
    # a hub repository; "scratch": nothing; null: an error where the stage needs one
    steps: int = 30000  # updates in all
    accumulate: int = 1  # batches of each update
    seed: int = 0  # of weights that start anew, noise, dropout
    launcher: str = "plain"  # plain (also under torchrun) | ray
    dry_run: bool = False  # print sizes, memory, work and days, and train nothing
    nonfinite: int = 10  # updates in a row that may be skipped because a loss or gradient is not finite
    stage: StageConfig = field(default_factory=StageConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    ode: OdeConfig = field(default_factory=OdeConfig)
    self_forcing: SelfForcingConfig = field(default_factory=SelfForcingConfig)
    refiner: RefinerTrainConfig = field(default_factory=RefinerTrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    validate: ValidateConfig = field(default_factory=ValidateConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)

    def check(self) -> None:
        """Raises ValueError that names the first setting which makes no sense."""
        for part in (self.model, self.flow, self.optim, self.parallel, self.checkpoint, self.validate,
                     self.ray, self.plan):
            part.check()
        parts: dict[str, Any] = {"ode": self.ode, "self_forcing": self.self_forcing, "refiner": self.refiner}
        if self.stage.objective in parts:
            parts[self.stage.objective].check()
        _check_least("lora", self.lora, rank=0)
        _check_choice("launcher", self.launcher, ("plain", "ray"))
        for name in ("steps", "accumulate", "nonfinite"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, allowed 1 or more")
        if self.log.every < 1 or self.log.bins < 1:
            raise ValueError(f"log.every={self.log.every}, log.bins={self.log.bins}, allowed 1 or more")
        if not 0 <= self.ema.decay < 1 or self.ema.start < 0:
            raise ValueError(f"ema.decay={self.ema.decay}, ema.start={self.ema.start}, allowed 0 to below 1, "
                             "and 0 or more")


def _check_least(part: str, config: object, **least: float) -> None:
    for name, lowest in least.items():
        if getattr(config, name) < lowest:
            raise ValueError(f"{part}.{name}={getattr(config, name)}, allowed {lowest} or more")


def _check_choice(key: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        names = " | ".join("null" if name is None else name for name in allowed)
        raise ValueError(f"{key}={value}, allowed {names}")
