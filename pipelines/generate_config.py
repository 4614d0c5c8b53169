"""Settings of `python -m pipelines.generate`."""

from __future__ import annotations

from dataclasses import dataclass, field

from annotate.config import RayConfig
from infer.config import InferConfig


@dataclass
class GenerateConfig(InferConfig):
    """Those of `python -m infer`, and the machines."""

    workers: int | None = None  # processes that each hold the weights; null: one for each GPU, else one
    gpus: float | None = None  # of one worker; null: 1 where there are GPUs, else 0
    attempts: int = 2  # deaths of its worker after which a row counts as failed
    ray: RayConfig = field(default_factory=RayConfig)

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.manifest is None:
            raise ValueError("missing: manifest=<.csv, .jsonl or .parquet of videos to make>")
        if self.repeat is not None:
            raise ValueError("repeat: only python -m infer makes a video again")
        for name in ("workers", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}, allowed 1 or more")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus={self.gpus}, allowed 0 or more")
        super().check()
