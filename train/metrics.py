"""How a run is going: losses by noise level, throughput, memory, time left; to the console, metrics.jsonl,
TensorBoard and Weights & Biases.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from train.config import LogConfig
from train.folder import METRICS, RunFolder


class SigmaTable:
    """Mean loss in equal bins of the noise level, since it was last read."""

    def __init__(self, bins: int) -> None:
        self.bins = bins
        self.sums = torch.zeros(2, bins, dtype=torch.float64)  # of errors, and their number

    def add(self, sigma: Tensor, error: Tensor) -> None:
        """sigma, error: (n,)."""
        place = (sigma.double() * self.bins).long().clamp(0, self.bins - 1).cpu()
        self.sums[0].index_add_(0, place, error.double().cpu())
        self.sums[1].index_add_(0, place, torch.ones_like(place, dtype=torch.float64))

    def read(self, sums: Tensor) -> list[float | None]:
        """Means of `sums`, those of all processes added up; None where a bin is empty. Starts anew."""
        self.sums = torch.zeros_like(self.sums)
        return [float(error / number) if number else None for error, number in sums.T]


@dataclass
class Window:
    """What happened since the last line."""

    began: float = field(default_factory=time.perf_counter)
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of what the steps logged
    counts: dict[str, int] = field(default_factory=dict)  # of steps that logged it
    clips: int = 0
    tokens: int = 0
    flops: float = 0.0
    data_s: float = 0.0

    def add(self, values: dict[str, float]) -> None:
        """What a step logged. Not every step trains every network."""
        self.steps += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def rates(self, ranks: int, peak: float | None) -> dict[str, float]:
        """Per second of all processes, the share of the peak and the share of time that data took."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        rates = {"clips_per_s": self.clips / seconds, "tokens_per_s": self.tokens / seconds,
                 "data_share": self.data_s / seconds, "seconds_per_step": seconds / max(self.steps, 1)}
        if peak and self.flops:  # the work of stages with several networks is not reckoned
            rates["mfu"] = self.flops / seconds / (peak * ranks)
        return rates


class Log:
    """Where the first process writes; the others have none."""

    def __init__(
        self, folder: RunFolder, config: LogConfig, name: str, settings: dict[str, Any], step: int,
    ) -> None:
        """step: the last one that counts of an earlier part of the run."""
        self.folder = folder
        self._board = self._wandb = None
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter
            self._board = SummaryWriter(folder.path / "tensorboard", purge_step=step + 1)
        if config.wandb:
            try:
                import wandb
            except ImportError as error:
                raise ValueError("log.wandb is set and wandb is not installed; pip install wandb") from error
            self._wandb = wandb.init(project=config.wandb, name=name, dir=folder.path, config=settings,
                                     resume="allow", id=folder.path.name)

    def step(self, values: dict[str, Any]) -> None:
        """A line of metrics.jsonl: every step has one."""
        self.folder.append(METRICS, values)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """To TensorBoard and Weights & Biases."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: of its GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def format_line(step: int, steps: int, values: dict[str, float]) -> str:
    """The console's line of a step."""
    parts = [f"step {step:,}/{steps:,}"]
    for prefix in ("", *sorted(name.removesuffix("loss") for name in values if name.endswith("/loss"))):
        if f"{prefix}loss" in values:
            loss, norm, rate = (values[f"{prefix}{name}"] for name in ("loss", "grad_norm", "lr"))
            network = prefix.replace("/", " ")
            parts += [f"{network}loss {loss:.4f}", f"grad {norm:.2f}", f"lr {rate:.1e}"]
    parts += [f"{values['clips_per_s']:.3g} clips/s", f"{format_count(values['tokens_per_s'])} tokens/s"]
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.0%}".replace("%", " %"))
    parts += [f"data {values['data_share']:.0%}".replace("%", " %"), f"{values['memory_gb']:.3g} GB"]
    if values["skipped"]:
        parts.append(f"skipped {int(values['skipped'])}")
    parts.append(f"left {format_time((steps - step) * values['seconds_per_step'])}")
    return "  ".join(parts)


def format_count(number: float) -> str:
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def format_time(seconds: float) -> str:
    """The two largest units."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
