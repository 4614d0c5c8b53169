"""The loop of every stage: read, learn, log, validate, save."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from dataset.batch import Batch
from dataset.loader.config import LatentSpace
from dataset.loader.loader import Loader
from model.dit import SanaWM
from train.checkpoint import Checkpoints, Saved, load
from train.config import TrainConfig
from train.data import resolve, split
from train.flops import forward_flops, peak_flops, training_flops
from train.folder import NONFINITE, RunFolder
from train.guard import Diverged, Guard, agree, gather
from train.launch import Ranks
from train.metrics import Log, SigmaTable, Window, format_line, memory_bytes
from train.objectives import Draws, FlowMatching, Losses, Member
from train.optim import Ema, Optimiser, whole
from train.place import place
from train.stages import build_stage
from train.stop import StopSignal
from train.validate import Validation


class Trainer:
    """One process of a run."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.folder = RunFolder(config.out)
        self._control = dist.new_group(backend="gloo")
        data, self.space = resolve(config.data)
        training, held_out = split(data, config.validate.where)
        expect = LatentSpace(self.space.codec_fingerprint, None, self.space.text_fingerprint)
        self.loader = Loader(training, rank=ranks.rank, world=ranks.world,
                             context_parallel=config.parallel.context, expect=expect)
        self.checkpoints = Checkpoints(self.folder.checkpoints, config.checkpoint)
        saved = self.checkpoints.latest()
        _check_same_run(saved, config)
        self.stage = build_stage(config, self.space, saved.state["about"] if saved else None)
        self.networks = {name: place(member, ranks, config.parallel)
                         for name, member in self.stage.networks.items()}
        self.optimisers = {name: Optimiser(member.module, config.optim, member.lr)
                           for name, member in self.networks.items() if member.trained}
        self.ema = None
        if config.ema.decay:
            self.ema = Ema(self.optimisers["network"].parameters, config.ema.decay, config.ema.start)
        self.guard = Guard(config.nonfinite)
        self.step = 0
        if saved is not None:
            self._resume(saved)
        self.validation = None
        if config.validate.every:
            self.validation = Validation(config, held_out, expect, self.space, ranks, self._control)
        self._table, self._window = SigmaTable(config.log.bins), Window()
        self._peak = peak_flops(torch.cuda.get_device_name()) if ranks.device.type == "cuda" else None
        self._asked = StopSignal()

    def run(self) -> bool:
        """Train to the end, or until a signal asks to stop; whether the end was reached.

        Raises LockHeld where another run writes the same folder.
        """
        with self.folder.hold() if self.ranks.first else contextlib.nullcontext():
            return self._run()

    def _run(self) -> bool:
        log = self._begin()
        with StopSignal() as self._asked:
            batches = iter(self.loader)
            self._window = Window()
            while self.step < self.config.steps:
                values = self._train(batches)
                stop = self._log(log, values)
                self.checkpoints.poll()
                if self._due(self.config.validate.every) and self.validation is not None:
                    self._validate(log)
                # While updates are skipped, no checkpoint pushes out those from before.
                due = self._due(self.config.checkpoint.every) and not self.guard.in_a_row
                if due or stop or self.step == self.config.steps:
                    self._save()
                if stop:
                    break
        self.checkpoints.finish()
        done = self.step == self.config.steps
        if done:
            self._export()
        if log is not None:
            log.close()
            where = self.folder.export if done else self.folder.checkpoints
            print(f"{'done' if done else 'stopped'} after step {self.step:,}: {where}", flush=True)
        return done

    # one step

    def _train(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One update of each network whose turn it is; what is logged of it."""
        config, began = self.config, time.perf_counter()
        read = [next(batches) for _ in range(config.accumulate)]
        waited = time.perf_counter() - began
        moved = [batch.to(self.ranks.device) for batch in read]
        values: dict[str, float] = {}
        good = True
        for turn in self.stage.objective.turns(self.step):
            loss, parts = self._gradients(turn, moved)
            optimiser = self.optimisers[turn]
            norm = optimiser.norm()
            bad = float(not bool(loss.isfinite() & norm.isfinite()))
            sums = agree([float(loss), bad, *map(float, parts.values())], self._control)
            prefix = "" if turn == "network" or len(self.optimisers) == 1 else f"{turn}/"
            means = [value / self.ranks.world for value in sums]
            values[f"{prefix}loss"], values[f"{prefix}grad_norm"] = means[0], float(norm)
            values |= {f"{prefix}{name}": value for name, value in zip(parts, means[2:])}
            values[f"{prefix}lr"] = optimiser.rate(self.step)
            if sums[1]:
                good = False
                optimiser.clear()
                break
            optimiser.update(norm, self.step)
            optimiser.clear()
            if self.ema is not None and turn == "network":
                self.ema.update(self.step)
        self.step += 1
        self._judge(good, read, values)
        self._count(moved, values, waited)
        return values

    def _gradients(self, turn: str, batches: list[Batch]) -> tuple[Tensor, dict[str, Tensor]]:
        """Leave the mean gradient of the batches in the network; their mean loss and its parts."""
        member, count = self.networks[turn], len(batches)
        total = torch.zeros((), device=self.ranks.device)
        parts: dict[str, Tensor] = {}
        for i, batch in enumerate(batches):
            if isinstance(member.module, FSDPModule):
                member.module.set_requires_gradient_sync(i == count - 1)
            draws = self._draws(turn, i)
            losses: Losses = self.stage.objective.loss(self.networks, batch, draws, self.step, turn)
            (losses.total / count).backward()
            total = total + losses.total.detach() / count
            for name, part in losses.parts.items():
                parts[name] = parts.get(name, torch.zeros_like(part)) + part.detach() / count
            if losses.by_sigma is not None and self.ranks.leads:
                self._table.add(*losses.by_sigma)
        return total, parts

    def _draws(self, turn: str, batch: int) -> Draws:
        about = (self.config.seed, self.step, turn, batch)
        return Draws(_generator("own", *about, self.ranks.group), _generator("shared", *about))

    def _judge(self, good: bool, read: list[Batch], values: dict[str, float]) -> None:
        """Raises Diverged after too many steps that had to be skipped."""
        if good:
            self.guard.passed()
            return
        clips = gather([clip for batch in read for clip in batch.clip_ids], self._control)
        over = self.guard.skip()
        if self.ranks.first:
            every = sorted({clip for ids in clips for clip in ids})  # type: ignore[attr-defined]
            self.folder.append(NONFINITE, {"step": self.step, "clips": every, **_writable(values)})
        if over:
            self.checkpoints.finish()
            last = self.checkpoints.latest()
            kept = f"the last good checkpoint is {last.path}" if last else "no checkpoint was made before"
            raise Diverged(
                f"step {self.step}: {self.guard.limit} updates in a row were skipped because the loss or its "
                f"gradient was not finite; {kept}, and the clips are listed in "
                f"{self.folder.path / NONFINITE}.\n  Look at those clips, lower optim.lr, or lengthen "
                "optim.warmup, and run the same command again")

    # what is written

    def _begin(self) -> Log | None:
        if not self.ranks.first:
            return None
        self.checkpoints.sweep()
        self.folder.begin(self.config, self.stage.about, self.step)
        for line in self.stage.notes:
            print(line, flush=True)
        if self.step:
            print(f"continues after step {self.step:,}", flush=True)
        return Log(self.folder, self.config.log, self.config.stage.name, self.stage.about, self.step)

    def _count(self, batches: list[Batch], values: dict[str, float], waited: float) -> None:
        """Add the step to the window of the console's line."""
        window, network = self._window, self.networks["network"].module
        window.add(values)
        window.data_s += waited
        for batch in batches:
            if batch.latents is None or batch.caption_states is None:
                continue
            count, _, *grid = batch.latents.shape
            window.clips += count * self.ranks.groups
            window.tokens += count * self.ranks.groups * grid[0] * grid[1] * grid[2]
            objective = self.stage.objective
            if isinstance(objective, FlowMatching) and isinstance(network, SanaWM):
                forward = forward_flops(
                    network.config, (grid[0], grid[1], grid[2]), batch.caption_states.shape[1],
                    objective.mask(grid[0]), self.config.flow.camera)
                window.flops += training_flops(forward) * count * self.ranks.groups

    def _log(self, log: Log | None, values: dict[str, float]) -> bool:
        """Write the step down; whether a signal has asked any process to stop."""
        stop = bool(agree([float(self._asked.came)], self._control)[0])
        line: dict[str, Any] = {"step": self.step, **_writable(values), "skipped": self.guard.skipped}
        if self._due(self.config.log.every) or self.step == self.config.steps:
            sums = self._table.sums
            dist.all_reduce(sums, group=self._control)
            table = self._table.read(sums)
            rates = self._window.rates(self.ranks.world, self._peak)
            memory = memory_bytes(self.ranks.device) / 1e9
            shown = {**self._window.means(), **rates, "skipped": self.guard.skipped, "memory_gb": memory}
            line |= {**rates, "memory_gb": memory, "loss_by_sigma": table}
            self._window = Window()
            if log is not None:
                print(format_line(self.step, self.config.steps, shown), flush=True)
                log.scalars(self.step, shown | {
                    f"loss_by_sigma/{(i + 0.5) / len(table):.2f}": loss
                    for i, loss in enumerate(table) if loss is not None})
        if log is not None:
            log.step(line)
        return stop

    def _validate(self, log: Log | None) -> None:
        assert self.validation is not None
        if self.ema is not None:
            self.ema.exchange()
        found = self.validation.run(self.networks["network"], self.stage.objective, self.step,
                                    self.folder.samples)
        if self.ema is not None:
            self.ema.exchange()
        if log is not None:
            log.step({"step": self.step, **found})
            log.scalars(self.step, found)
            print(f"step {self.step:,}  " + "  ".join(f"{k} {v:.4f}" for k, v in found.items()), flush=True)
        self._window = Window()

    # checkpoints

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name; the tensors themselves."""
        tensors: dict[str, Tensor] = {}
        for name, member in self.networks.items():
            if member.trained:
                tensors |= {f"{name}/weights/{key}": x for key, x in kept_tensors(member).items()}
        for name, optimiser in self.optimisers.items():
            for key, parts in optimiser.state().items():
                tensors |= {f"{name}/{part}/{key}": x for part, x in parts.items()}
        if self.ema is not None:
            tensors |= {f"network/ema/{key}": x for key, x in self.ema.mean.items()}
        return tensors

    def _save(self) -> None:
        self.checkpoints.save(self.step, self._tensors(), {
            "about": self.stage.about, "loader": self.loader.state_dict(),
            "guard": {"skipped": self.guard.skipped, "in_a_row": self.guard.in_a_row},
            "ranks": self.ranks.world})

    def _resume(self, saved: Saved) -> None:
        load(saved, self._tensors())
        self.step = saved.step
        self.loader.load_state_dict(saved.state["loader"])
        self.guard.skipped = saved.state["guard"]["skipped"]
        self.guard.in_a_row = saved.state["guard"]["in_a_row"]

    def _export(self) -> None:
        """The trained network as `from_pretrained` reads it, and the mean of its weights."""
        member = self.networks["network"]
        means = {} if self.ema is None else self.ema.mean
        for name, replaced in (("network", {}), ("ema", means)):
            if name == "ema" and not means:
                continue
            tensors = {}
            for key, tensor in kept_tensors(member).items():
                gathered = whole(replaced.get(key, tensor))
                if self.ranks.first:
                    tensors[key] = gathered.detach().cpu()
            if self.ranks.first:
                self.folder.export.mkdir(parents=True, exist_ok=True)
                self.stage.save(tensors, self.folder.export / name)
        dist.barrier(self._control)


def kept_tensors(member: Member) -> dict[str, Tensor]:
    """What a checkpoint holds of a trained network."""
    if member.keeps_frozen:
        return member.module.state_dict()
    return {name: p.detach() for name, p in member.module.named_parameters() if p.requires_grad}


def _generator(*about: object) -> torch.Generator:
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)


def _writable(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinities."""
    return {name: value if abs(value) < float("inf") else None for name, value in values.items()}


def _check_same_run(saved: Saved | None, config: TrainConfig) -> None:
    """Raises ValueError where the run folder holds a run that cannot be continued with these settings."""
    if saved is None:
        return
    about = saved.state["about"]
    for key, was, now in (("stage", about["stage"], config.stage.name), ("seed", about["seed"], config.seed)):
        if was != now:
            raise ValueError(f"out={config.out}: holds a run with {key}={was}, asked for {key}={now}; "
                             "continue it with what it was begun with, or choose another out=")
