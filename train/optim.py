"""The optimiser of one network: AdamW on trained parameters, warm-up, clipping, and a mean of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from train.config import OptimConfig


class Optimiser:
    """AdamW whose state exists from the start, so that checkpoints always have the same entries."""

    def __init__(self, module: nn.Module, config: OptimConfig, lr: float | None = None) -> None:
        self.config, self.lr = config, config.lr if lr is None else lr
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        matrices = [p for p in self.parameters.values() if p.ndim > 1]
        vectors = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay},
                  {"params": vectors, "weight_decay": 0.0}]
        first, second = config.betas
        self._adam = torch.optim.AdamW([group for group in groups if group["params"]], lr=self.lr,
                                       betas=(first, second), eps=config.eps, fused=True)
        for p in self.parameters.values():
            self._adam.state[p] = {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def rate(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0."""
        return self.lr * min(1.0, (step + 1) / (self.config.warmup + 1))

    def norm(self) -> Tensor:
        """Norm of the whole gradient, of all processes' parts."""
        return whole(nn.utils.get_total_norm(self._gradients()))

    def update(self, norm: Tensor, step: int) -> None:
        """Scale the gradient of that norm down to `clip` and take one step."""
        nn.utils.clip_grads_with_norm_(self.parameters.values(), self.config.clip, norm)
        for group in self._adam.param_groups:
            group["lr"] = self.rate(step)
        self._adam.step()

    def clear(self) -> None:
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """The tensors themselves, by name of the parameter: a checkpoint is loaded into them."""
        return {name: self._adam.state[p] for name, p in self.parameters.items()}

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters.values() if p.grad is not None]


class Ema:
    """Running mean of the trained parameters: m <- decay m + (1 - decay) p after each update."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float, start: int) -> None:
        self.decay, self.start = decay, start
        self._parameters = parameters
        self.mean = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after update `step`; before `start` the mean is the parameters."""
        for name, p in self._parameters.items():
            if step < self.start:
                self.mean[name].copy_(p)
            else:
                self.mean[name].lerp_(p, 1 - self.decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """The network's parameters become the mean and the other way round; called in pairs."""
        for name, p in self._parameters.items():
            kept = p.detach().clone()
            p.copy_(self.mean[name])
            self.mean[name].copy_(kept)


def whole(x: Tensor) -> Tensor:
    """A tensor that may lie in parts with several processes."""
    return x.full_tensor() if isinstance(x, DTensor) else x
