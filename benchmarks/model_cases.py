"""The contenders of the model benchmark: our network and diffusers', same weights, same inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from model.config import DiTConfig
from model.dit import SanaWM


def random_network(config: DiTConfig) -> SanaWM:
    """Nothing silent, the same in every run."""
    generator, network = torch.Generator().manual_seed(0), SanaWM(config)
    for name, tensor in network.state_dict().items():
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
        tensor.normal_(1.0 if "norm" in name else 0.0, spread, generator=generator)
    return network


def random_inputs(config: DiTConfig, grid: tuple[int, int, int]) -> list[Tensor]:
    """Arguments of `SanaWM.forward` for one clip. The camera turns on the spot: a camera that moves has its
    keys clamped by diffusers, which the released network does not do."""
    generator = torch.Generator().manual_seed(1)
    frames, height, width = grid
    turn = 0.02 * torch.arange(frames)
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, 0, 0] = c2w[:, 2, 2] = turn.cos()
    c2w[:, 0, 2], c2w[:, 2, 0] = turn.sin(), -turn.sin()
    intrinsics = torch.tensor([width, width, width / 2, height / 2], dtype=torch.float32).expand(frames, 4)
    return [torch.randn(1, config.latent_channels, *grid, generator=generator),
            torch.full((1, frames), 500.0),
            torch.randn(1, config.caption_length, config.caption_channels, generator=generator),
            torch.ones(1, config.caption_length), torch.cat([c2w.flatten(1), intrinsics], 1)[None],
            torch.randn(1, config.plucker_channels, *grid, generator=generator)]


def their_arguments(inputs: list[Tensor]) -> tuple[list[Tensor], dict[str, Any]]:
    """The same for diffusers' model."""
    latents, timesteps, caption, caption_mask, conditions, plucker = inputs
    return ([latents, timesteps[:, None], caption[:, None], caption_mask],
            {"camera_conditions": conditions, "chunk_plucker": plucker, "return_dict": False})


def calls_of(
    contenders: tuple[nn.Module, nn.Module], inputs: list[Tensor], layer: bool,
) -> list[Callable[[], Tensor]]:
    """Ours and theirs; with `layer` only the attention of the first block, on what reaches it."""
    arguments: list[tuple[list[Tensor], dict[str, Any]]] = [(inputs, {}), their_arguments(inputs)]
    if layer:
        arguments = [_reaching(network.blocks[0].attn, network, *given)  # type: ignore[union-attr, index]
                     for network, given in zip(contenders, arguments, strict=True)]
    modules = [network.blocks[0].attn if layer else network for network in contenders]  # type: ignore[union-attr, index]

    def call(module: nn.Module, positional: list[Any], named: dict[str, Any]) -> Tensor:
        out = module(*positional, **named)
        out = out[0] if isinstance(out, tuple) else out
        return out.flatten(1, -2) if layer else out

    return [lambda m=m, a=a: call(m, *a) for m, a in zip(modules, arguments, strict=True)]  # type: ignore[misc]


@torch.no_grad()
def _reaching(
    module: nn.Module, network: nn.Module, positional: list[Tensor], named: dict[str, Any],
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments that `module` gets when the network runs; the first, its features, asks for a gradient."""
    caught: list[tuple[list[Any], dict[str, Any]]] = []
    handle = module.register_forward_pre_hook(lambda _, args, kwargs: caught.append(([*args], kwargs)),
                                              with_kwargs=True)
    network(*positional, **named)
    handle.remove()
    caught[0][0][0] = caught[0][0][0].detach().clone().requires_grad_()
    return caught[0]


def with_backward(call: Callable[[], Tensor], network: nn.Module) -> Callable[[], None]:
    def run() -> None:
        for parameter in network.parameters():
            parameter.grad = None
        call().square().mean().backward()
    return run
